import { rfc3339, systemClock } from "../lib/clock.ts";
import { writeJson } from "../lib/json64.ts";
import { nodeName } from "../lib/node_name.ts";
import { isProblem } from "../lib/problem.ts";
import { resourceKey } from "../datastore/keys.ts";
import { isOwnNetns } from "../kernel/netns.ts";
import { journalDir, writeEntry } from "../agent/endpoints/journal.ts";
import { Wiring } from "../agent/endpoints/wiring.ts";
import { type Call, isOurIpam } from "./call.ts";
import type { PluginAnswer, PluginRequest } from "./wire.ts";
import { readConfig, versionIn } from "./config.ts";
import { anyPodCidrs, delegate, withPodCidrs } from "./delegate.ts";
import { identifiersOf, readArgs, readEnvironment } from "./environment.ts";
import { cniError, codes, Refusal } from "./refusal.ts";
import { endpointIdentity } from "./request.ts";
import { rowFor } from "./versions.ts";

/**
 * A call when no agent answers. DEL removes the link itself and leaves the rest to the journal, so that a node whose agent
 * is down can be drained; everything else is to be tried again.
 */
export async function withoutAgent(request: PluginRequest): Promise<PluginAnswer> {
  const stderr: string[] = [];
  try {
    const call = readCall(request, stderr);
    if (call.environment.command !== "DEL") throw noAgent(call.environment.command);
    await removeAlone(call);
    return { exit: 0, stdout: "", stderr: stderr.join("\n") };
  } catch (error) {
    const failure = cniError(error, versionIn(request.stdin));
    return { exit: 1, stdout: writeJson(failure, 4), stderr: stderr.join("\n") };
  }
}

function readCall({ plugin, env, netns, stdin }: PluginRequest, stderr: string[]): Call {
  const environment = readEnvironment(env);
  const { config } = readConfig(stdin);
  const form = rowFor(config.cniVersion, environment.command);
  if (plugin === "ipam") config.ipam.type = "calico-ipam";
  const args = readArgs(environment.args, true);
  const { containerId, interfaceName } = environment;
  return {
    ...{ plugin, environment, env, netns, config, form, args, stderr },
    ids: identifiersOf(args, environment, config.nodename || nodeName()),
    attachment: { network: config.name, containerId, interfaceName },
  };
}

async function removeAlone(call: Call): Promise<void> {
  const { attachment, netns, plugin, config, env } = call;
  const dir = env.TORTIE_STATE_DIR ? `${env.TORTIE_STATE_DIR}/pending-del` : journalDir;
  const entry = { attachment, because: "delete" as const, time: rfc3339(systemClock.now()) };
  if (plugin === "ipam") return await writeEntry(dir, entry);
  if (exists(netns)) {
    await using wiring = new Wiring();
    await wiring.disconnect({ netns, interfaceName: attachment.interfaceName });
  }
  const { name, namespace } = endpointIdentity(call);
  await writeEntry(dir, { ...entry, endpointKey: resourceKey("WorkloadEndpoint", name, namespace) });
  if (!isOurIpam(config.ipam.type)) await delegate(call, "DEL", withPodCidrs(config.raw, anyPodCidrs));
}

/** @throws Refusal 8 for the host's own namespace. */
function exists(netns: string): boolean {
  try {
    if (netns === "") return false;
    if (!isOwnNetns(netns)) return true;
  } catch (error) {
    if (isProblem(error, "not-found")) return false;
    throw error;
  }
  const what = "plugin's netns and netns from CNI_NETNS should not be the same";
  throw new Refusal(codes.invalidNetns, { code: "bad-input", what, where: `CNI_NETNS ${netns}` });
}

function noAgent(command: string): Refusal {
  const code = command === "STATUS" ? codes.notAvailable : codes.tryAgainLater;
  return new Refusal(code, {
    code: "not-ready",
    what: "no tortie agent answers on this node",
    where: "/run/tortie/agent.sock",
    todo: "See `systemctl status tortie`",
  });
}
