import { writeJson } from "../lib/json64.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import type { Call, CniDeps } from "./call.ts";
import type { PluginAnswer, PluginRequest } from "./wire.ts";
import { type NetworkConfig, readConfig, versionIn } from "./config.ts";
import { type Command, identifiersOf, readArgs, readEnvironment } from "./environment.ts";
import { ipamVerbs } from "./ipam_verbs.ts";
import { cniError } from "./refusal.ts";
import { add, check, del, gc, status, type Verb } from "./verbs.ts";
import { rowFor } from "./versions.ts";

type ServedCommand = Exclude<Command, "VERSION">;

const verbs: Record<PluginRequest["plugin"], Record<ServedCommand, Verb>> = {
  cni: { ADD: add, DEL: del, CHECK: check, STATUS: status, GC: gc },
  ipam: ipamVerbs,
};

/**
 * Serves one call of the plugin. Everything that goes wrong becomes the specification's error object on stdout.
 * @param told configurations' remarks that the log has had; one agent says each once.
 * @param gone aborted when the plugin went away: killed by its runtime, which thinks that the call failed.
 */
export async function answer(
  request: PluginRequest,
  deps: CniDeps,
  told: Set<string>,
  gone?: AbortSignal,
): Promise<PluginAnswer> {
  const began = deps.clock.monotonicMs();
  const command = request.env.CNI_COMMAND ?? "";
  const stderr: string[] = [];
  const fields = () => ({
    command,
    plugin: request.plugin,
    container: request.env.CNI_CONTAINERID ?? "",
    pod: podOf(request.env.CNI_ARGS ?? ""),
    ms: Math.round(deps.clock.monotonicMs() - began),
  });
  try {
    const call = readCall(request, deps, stderr);
    remark(call.config, call.remarks, deps, told);
    const verb = call.environment.command as ServedCommand;
    using asked = verb === "ADD" ? deps.lifecycle.expect(call.attachment, gone) : undefined;
    const stdout = await verbs[request.plugin][verb]({ ...call, ...(asked && { asked }) }, deps);
    deps.log.debug("CNI call served", fields());
    return { exit: 0, stdout, stderr: stderr.join("\n") };
  } catch (error) {
    const failure = cniError(error, versionIn(request.stdin));
    if (isProblem(error)) deps.log.warn("CNI call failed", { ...fields(), code: failure.code, why: messageOf(error) });
    else deps.log.error("CNI call failed by a bug", { ...fields(), why: messageOf(error), stack: stackOf(error) });
    return { exit: 1, stdout: writeJson(failure, 4), stderr: stderr.join("\n") };
  }
}

/** Reads and checks in skel's order: variables, configuration, their values, version. */
function readCall(
  { plugin, env, netns, stdin }: PluginRequest,
  deps: CniDeps,
  stderr: string[],
): Call & { remarks: Remarks } {
  const environment = readEnvironment(env);
  const { config, unknown, idle } = readConfig(stdin);
  const form = rowFor(config.cniVersion, environment.command);
  if (plugin === "ipam") config.ipam.type = "calico-ipam";
  const args = readArgs(environment.args, true);
  const { containerId, interfaceName } = environment;
  return {
    ...{ plugin, environment, env, netns, config, form, args, stderr },
    ids: identifiersOf(args, environment, deps.node),
    attachment: { network: config.name, containerId, interfaceName },
    remarks: { unknown, idle },
  };
}

interface Remarks {
  unknown: string[];
  idle: [path: string, why: string][];
}

/** A setting that is not understood is told, once per network. */
function remark(config: NetworkConfig, { unknown, idle }: Remarks, { log }: CniDeps, told: Set<string>): void {
  const once = (id: string, say: () => void) => {
    if (told.has(`${config.name} ${id}`) || told.size > 1000) return;
    told.add(`${config.name} ${id}`);
    say();
  };
  const network = config.name;
  for (const member of unknown) {
    once(member, () => log.warn("unknown member of the network configuration", { network, member }));
  }
  for (const [member, why] of idle) {
    once(member, () => log.info("member of the network configuration has no effect", { network, member, why }));
  }
}

/** `namespace/name` out of CNI_ARGS, for the log. */
function podOf(args: string): string {
  const of = (key: string) => new RegExp(`(?:^|;)${key}=([^;]*)`).exec(args)?.[1];
  const name = of("K8S_POD_NAME");
  return name ? `${of("K8S_POD_NAMESPACE") ?? ""}/${name}` : "";
}

const stackOf = (error: unknown): string => (error instanceof Error ? error.stack ?? "" : "");
