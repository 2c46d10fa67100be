import { type Cidr, tryParseCidr } from "../lib/ip.ts";
import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { Problem } from "../lib/problem.ts";
import { run } from "../lib/process.ts";
import type { ClusterObject } from "../datastore/kubernetes/client.ts";
import type { Call } from "./call.ts";
import type { Command } from "./environment.ts";
import { codes, Refusal } from "./refusal.ts";
import { readResult, type Result } from "./versions.ts";

/** How long a delegated plugin may take. */
const timeoutMs = 60_000;

/**
 * Runs the IPAM plugin that the configuration names, with the call's own environment. What it writes to stderr goes to ours.
 * @param stdin the configuration, perhaps changed.
 * @returns its answer; undefined when it printed nothing (DEL, CHECK).
 * @throws Refusal 7 when it is not in CNI_PATH; its own error object's code and text when it fails.
 */
export async function delegate(
  call: Call,
  command: Command,
  stdin: Record<string, Json>,
): Promise<Result | undefined> {
  const { type } = call.config.ipam;
  const program = findPlugin(type, call.environment.path);
  const env = { ...call.env, CNI_COMMAND: command };
  const { code, stdout, stderr } = await run(program, [], { stdin: writeJson(stdin), env, clearEnv: true, timeoutMs });
  if (stderr !== "") call.stderr.push(stderr.trimEnd());
  const text = stdout.trim();
  if (code !== 0) throw passedOn(text, type, code);
  return text === "" ? undefined : readResult(jsonOf(text, type), `plugin ${type}`);
}

function findPlugin(type: string, path: string[]): string {
  const bad = (what: string) =>
    new Refusal(codes.invalidConfig, {
      code: "bad-input",
      what,
      where: "network configuration, ipam.type",
      todo: "Install the plugin, or name calico-ipam",
    });
  if (type === "" || type.includes("/")) throw bad(`"${type}" is not the name of an IPAM plugin`);
  for (const folder of path) {
    try {
      if (Deno.statSync(`${folder}/${type}`).isFile) return `${folder}/${type}`;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw bad(`failed to find plugin "${type}" in path [${path.join(" ")}]`);
}

/** A plugin's own error object, as it is. */
function passedOn(text: string, type: string, exit: number): Refusal {
  const where = `plugin ${type}`;
  let value: Json = null;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  if (isObject(value) && typeof value.code === "number" && typeof value.msg === "string") {
    const details = typeof value.details === "string" ? value.details : "";
    return new Refusal(value.code, { code: "unavailable", what: value.msg, where }, details);
  }
  return new Refusal(
    codes.ioFailure,
    { code: "unavailable", what: `${where} failed with exit code ${exit}`, where },
    text,
  );
}

function jsonOf(text: string, type: string): Json {
  try {
    return parseJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const what = "the IPAM plugin's answer is not JSON";
    throw new Refusal(codes.decodingFailure, { code: "bad-input", what, where: `plugin ${type}` }, text);
  }
}

/** CIDRs that stand for `usePodCidr` and `usePodCidrIPv6` in host-local's configuration. */
export interface PodCidrs {
  v4: string;
  v6: string;
}

/** At DEL host-local does not look at its subnets, so no API is asked for them. */
export const anyPodCidrs: PodCidrs = { v4: "0.0.0.0/0", v6: "::/0" };

/** True when host-local's configuration names the node's pod CIDRs. */
export function needsPodCidrs(config: Record<string, Json>): boolean {
  let found = false;
  replacePodCidrs(config, () => {
    found = true;
    return "";
  });
  return found;
}

/** The configuration with the node's pod CIDRs in it. Source: Calico utils.ReplaceHostLocalIPAMPodCIDRs. */
export const withPodCidrs = (config: Record<string, Json>, cidrs: PodCidrs): Record<string, Json> =>
  replacePodCidrs(config, (v6) => (v6 ? cidrs.v6 : cidrs.v4));

/** Pod CIDRs of a Kubernetes node. @throws Problem "not-found" when it has none. */
export function podCidrsOf(node: ClusterObject): PodCidrs {
  const all = node.spec?.podCIDRs?.length ? node.spec.podCIDRs : [node.spec?.podCIDR ?? ""];
  const of = (v: number) => all.find((text) => tryParseCidr(text)?.v === v) ?? "";
  if (of(4) !== "" || of(6) !== "") return { v4: of(4), v6: of(6) };
  throw new Problem({
    code: "not-found",
    what: `no podCidr for node ${node.metadata.name}`,
    where: "network configuration, ipam",
    todo: "Give the node a podCIDR (kube-controller-manager --allocate-node-cidrs), or write the subnet itself",
  });
}

/** Replaces `ipam.subnet` and `ipam.ranges[][].subnet`; the words count in any case of letters. */
function replacePodCidrs(config: Record<string, Json>, cidr: (v6: boolean) => string): Record<string, Json> {
  const { ipam } = config;
  if (!isObject(ipam)) return config;
  const replaced = (entry: Json): Json => {
    const word = isObject(entry) && typeof entry.subnet === "string" ? entry.subnet.toLowerCase() : "";
    if (word !== "usepodcidr" && word !== "usepodcidripv6") return entry;
    return { ...(entry as Record<string, Json>), subnet: cidr(word === "usepodcidripv6") };
  };
  const ranges: Record<string, Json> = Array.isArray(ipam.ranges)
    ? { ranges: ipam.ranges.map((set) => (Array.isArray(set) ? set.map(replaced) : set)) }
    : {};
  return { ...config, ipam: { ...(replaced(ipam) as Record<string, Json>), ...ranges } };
}

/**
 * Routes of the pod that host-local's `ipam.routes` asks for; their gateways do not matter. Undefined = the default ones.
 * @throws Refusal 7.
 */
export function hostLocalRoutes(call: Call): { dst: Cidr }[] | undefined {
  const { config } = call;
  const ipam = config.raw.ipam;
  const list = config.ipam.type === "host-local" && isObject(ipam) ? ipam.routes ?? [] : [];
  const bad = (what: string) =>
    new Refusal(codes.invalidConfig, { code: "bad-input", what, where: "network configuration, ipam.routes" });
  if (!Array.isArray(list)) throw bad("failed to parse host-local IPAM routes section; expecting list");
  const given = list.flatMap((entry) => (isObject(entry) && entry.dst !== undefined ? [entry.dst] : [])).map((text) => {
    const dst = typeof text === "string" ? tryParseCidr(text) : undefined;
    if (!dst) throw bad(`invalid IPAM routes section: ${JSON.stringify(text)} is not a CIDR`);
    return { dst };
  });
  if (given.length === 0) return undefined;
  return config.include_default_routes ? [...defaultRoutes(), ...given] : given;
}

const defaultRoutes = () => ["0.0.0.0/0", "::/0"].map((text) => ({ dst: tryParseCidr(text)! }));
