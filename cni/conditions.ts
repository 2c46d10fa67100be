import type { Clock } from "../lib/clock.ts";
import { withDeadline } from "../lib/clock.ts";
import { nodeNameFile } from "../lib/node_name.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import type { Call, CniDeps } from "./call.ts";
import { invalidConfig } from "./config.ts";
import { codes, Refusal } from "./refusal.ts";

/** Where calico/node, and our agent, write the MTU of pods. */
const defaultMtuFile = "/var/lib/calico/mtu";

/**
 * Refuses a configuration that speaks of another node, datastore or device than this agent serves.
 * @throws Refusal 7; 11 while the file with the node's name is not there yet.
 */
export function checkNode(call: Call, deps: CniDeps): void {
  const { config } = call;
  if (config.datastore_type !== "" && config.datastore_type !== "etcdv3") {
    throw invalidConfig(`datastore_type "${config.datastore_type}" is not served: only etcdv3 is`, "datastore_type");
  }
  if (!["", "veth", "netkit"].includes(config.device_type)) {
    const known = `(supported: "veth", "netkit")`;
    throw invalidConfig(
      `unknown device_type ${JSON.stringify(config.device_type)} in CNI config ${known}`,
      "device_type",
    );
  }
  if (config.policy_setup_timeout_seconds < 0) {
    const what = `invalid pod startup delay of ${config.policy_setup_timeout_seconds}`;
    throw invalidConfig(what, "policy_setup_timeout_seconds");
  }
  checkNodeName(call, deps, config.nodename_file_optional);
}

/**
 * Refuses a call for another node. The configuration's own node name counts before the file's, the file's before the
 * deprecated `hostname`. @param fileOptional as in the configuration; the IPAM plugin never insists on the file.
 * @throws Refusal 7, 11.
 */
export function checkNodeName(call: Call, deps: CniDeps, fileOptional: boolean): void {
  const { config } = call;
  const file = config.nodename_file || deps.nodeNameFile || nodeNameFile;
  const written = readIfThere(file);
  if (written === undefined && !fileOptional) {
    throw new Refusal(codes.tryAgainLater, {
      code: "not-ready",
      what: `${file} does not exist: the node's agent has not started yet`,
      where: "nodename_file",
      todo: "Start `tortie node`, or set nodename_file_optional",
    });
  }
  const [name, from] = config.nodename !== ""
    ? [config.nodename, "nodename"]
    : written?.trim()
    ? [written.trim(), file]
    : [config.hostname, "hostname"];
  if (name === "" || name === deps.node) return;
  throw invalidConfig(`this node is ${deps.node}, not ${name}: its name was changed`, from);
}

/**
 * MTU of the pod's interface: the configuration's, else the file's, else 0 (the kernel's).
 * @throws Refusal 7, 11.
 */
export function mtuOf(call: Call, deps: CniDeps): number {
  const { config } = call;
  const file = deps.mtuFile ?? defaultMtuFile;
  const text = readIfThere(file)?.trim();
  if (text === undefined && config.require_mtu_file) {
    throw new Refusal(codes.tryAgainLater, {
      code: "not-ready",
      what: `failed to read MTU file: ${file} does not exist`,
      where: "require_mtu_file",
      todo: "Start `tortie node`, which writes it",
    });
  }
  if (config.mtu !== 0) return config.mtu;
  if (text === undefined || text === "") return 0;
  if (!/^\d{1,6}$/.test(text)) {
    throw new Problem({ code: "bad-input", what: `"${text}" is not an MTU`, where: file, todo: "Remove the file" });
  }
  return Number(text);
}

const gateWaitMs = 30_000, gateEveryMs = 1_000, gateAnswerMs = 5_000;

/**
 * Waits until every URL answers with 2xx or 3xx, all at once.
 * DIFFERS: Calico looks first after 5 s, one after another; we look at once.
 * @param signal ends the wait early and quietly: nobody wants the ADD any more, which its next step tells.
 * @throws Refusal 7 for what is no URL; Problem "not-ready" after 30 s, naming the gate.
 */
export async function waitForGates(urls: string[], clock: Clock, signal?: AbortSignal): Promise<void> {
  for (const url of urls) {
    if (!URL.canParse(url) || !/^https?:/.test(url)) throw invalidConfig(`"${url}" is not a URL`, "readiness_gates");
  }
  await Promise.all(urls.map((url) => waitForGate(url, clock, signal)));
}

async function waitForGate(url: string, clock: Clock, signal: AbortSignal | undefined): Promise<void> {
  const end = clock.monotonicMs() + gateWaitMs;
  for (;;) {
    const why = await lookAtGate(url, clock);
    if (why === undefined || signal?.aborted) return;
    if (clock.monotonicMs() >= end) {
      throw new Problem({ code: "not-ready", what: `readiness gate is not open: ${why}`, where: url });
    }
    await clock.sleep(gateEveryMs, signal).catch(() => {}); // aborted: the loop's return ends it
  }
}

/** Why a gate is closed; undefined = it is open. */
async function lookAtGate(url: string, clock: Clock): Promise<string | undefined> {
  const late = () => new Error(`no answer within ${gateAnswerMs} ms`);
  try {
    const look = async (signal: AbortSignal) => {
      const answer = await fetch(url, { signal, redirect: "manual" });
      await answer.body?.cancel();
      return answer.status;
    };
    const status = await withDeadline(gateAnswerMs, look, late, clock);
    return status >= 200 && status < 400 ? undefined : `HTTP ${status}`;
  } catch (error) {
    return messageOf(error);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
