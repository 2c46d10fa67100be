import { type Ip, tryParseIp } from "../lib/ip.ts";
import { codes, Refusal } from "./refusal.ts";

/** Verbs of the CNI specification 1.1.0. */
export type Command = "ADD" | "DEL" | "CHECK" | "STATUS" | "GC" | "VERSION";

/** CNI's variables, checked. What a verb does not need is "". */
export interface CniEnvironment {
  command: Command;
  containerId: string;
  /** CNI_NETNS as it was given. */
  netns: string;
  interfaceName: string;
  /** Folders of CNI_PATH. */
  path: string[];
  args: string;
}

const needed: Record<string, Command[]> = {
  CNI_COMMAND: ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"],
  CNI_CONTAINERID: ["ADD", "DEL", "CHECK"],
  CNI_NETNS: ["ADD", "CHECK"],
  CNI_IFNAME: ["ADD", "DEL", "CHECK"],
  CNI_PATH: ["ADD", "DEL", "CHECK", "STATUS", "GC"],
};

/**
 * Reads and checks CNI's variables as containernetworking/cni `pkg/skel` does, with its messages.
 * @throws Refusal 4 naming the variables.
 */
export function readEnvironment(env: Record<string, string>): CniEnvironment {
  const command = env.CNI_COMMAND ?? "";
  if (!needed.CNI_COMMAND!.includes(command as Command)) {
    throw bad(`unknown CNI_COMMAND: ${command}`, "CNI_COMMAND");
  }
  const missing = Object.keys(needed).filter((name) => needed[name]!.includes(command as Command) && !env[name]);
  if (missing.length > 0) throw bad(`required env variables [${missing.join(",")}] missing`, missing.join(","));
  const uses = (name: string) => needed[name]!.includes(command as Command);
  const found: CniEnvironment = {
    command: command as Command,
    containerId: uses("CNI_CONTAINERID") ? env.CNI_CONTAINERID! : "",
    netns: env.CNI_NETNS ?? "",
    interfaceName: uses("CNI_IFNAME") ? env.CNI_IFNAME! : "",
    path: (env.CNI_PATH ?? "").split(":").filter((folder) => folder !== ""),
    args: env.CNI_ARGS ?? "",
  };
  if (uses("CNI_CONTAINERID")) checkContainerId(found.containerId);
  if (uses("CNI_IFNAME")) checkInterfaceName(found.interfaceName);
  return found;
}

function checkContainerId(id: string): void {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(id)) throw bad("invalid characters in containerID", "CNI_CONTAINERID", id);
}

/** The kernel's own rules for names of interfaces (dev_valid_name()). */
function checkInterfaceName(name: string): void {
  const variable = "CNI_IFNAME";
  if (new TextEncoder().encode(name).length > 15) {
    throw bad("interface name is too long", variable, "interface name should be less than 16 characters");
  }
  if (name === "." || name === "..") throw bad("interface name is . or ..", variable);
  if (/[/:\s]/.test(name)) throw bad("interface name contains / or : or whitespace characters", variable);
}

const bad = (what: string, where: string, details?: string) =>
  new Refusal(codes.invalidEnvironment, { code: "bad-input", what, where }, details ?? where);

/** What CNI_ARGS says. */
export interface CniArgs {
  podName: string;
  podNamespace: string;
  /** "" when the runtime does not tell it. For a static pod it is the hash of its file, not the UID of the API's pod. */
  podUid: string;
  /** A specific address that the caller wants. */
  ip: Ip | undefined;
  testNamespace: string;
}

/**
 * Reads CNI_ARGS, `K=V;K2=V2`.
 * @param ignoreUnknown unknown keys are fine, as when IgnoreUnknown=1 stands in front (which Calico's plugin does).
 * @throws Refusal 4. Messages as containernetworking/cni `types.LoadArgs`.
 */
export function readArgs(text: string, ignoreUnknown: boolean): CniArgs {
  const known: Record<string, string> = { K8S_POD_NAME: "", K8S_POD_NAMESPACE: "", K8S_POD_INFRA_CONTAINER_ID: "" };
  const unknown: string[] = [];
  let ip: Ip | undefined, ignore = ignoreUnknown, testNamespace = "", podUid = "";
  for (const pair of text === "" ? [] : text.split(";")) {
    const [key, value, more] = pair.split("=");
    if (value === undefined || more !== undefined) throw badArgs(`ARGS: invalid pair ${JSON.stringify(pair)}`);
    if (key === "IgnoreUnknown") ignore = readBoolean(pair, value);
    else if (key === "IP") ip = readAddress(pair, value);
    else if (key! in known) known[key!] = value;
    else {
      if (key === "CNI_TEST_NAMESPACE") testNamespace = value;
      if (key === "K8S_POD_UID") podUid = value;
      unknown.push(JSON.stringify(pair));
    }
  }
  if (unknown.length > 0 && !ignore) throw badArgs(`ARGS: unknown args [${unknown.join(" ")}]`);
  return { podName: known.K8S_POD_NAME!, podNamespace: known.K8S_POD_NAMESPACE!, podUid, ip, testNamespace };
}

function readBoolean(pair: string, value: string): boolean {
  const low = value.toLowerCase();
  if (!["0", "1", "true", "false"].includes(low)) {
    throw badArgs(
      `ARGS: error parsing value of pair ${JSON.stringify(pair)}: boolean unmarshal error: invalid input ${value}`,
    );
  }
  return low === "1" || low === "true";
}

function readAddress(pair: string, value: string): Ip | undefined {
  const ip = tryParseIp(value);
  if (value !== "" && !ip) {
    throw badArgs(`ARGS: error parsing value of pair ${JSON.stringify(pair)}: invalid IP address: ${value}`);
  }
  return ip;
}

const badArgs = (what: string) => bad(what, "CNI_ARGS");

/** Who a container is to the orchestrator. */
export interface Identifiers {
  namespace: string;
  node: string;
  orchestrator: "k8s" | "cni";
  /** Interface in the container. */
  endpoint: string;
  /** "" with orchestrator cni. */
  pod: string;
  containerId: string;
}

/**
 * A pod's name and namespace, both given, make it Kubernetes; everything else is the plain orchestrator `cni` in namespace
 * `default`. Source: Calico cni-plugin/internal/pkg/utils GetIdentifiers.
 */
export function identifiersOf(
  args: CniArgs,
  call: { containerId: string; interfaceName: string },
  node: string,
): Identifiers {
  const kubernetes = args.podName !== "" && args.podNamespace !== "";
  return {
    namespace: kubernetes ? args.podNamespace : args.testNamespace || "default",
    node,
    orchestrator: kubernetes ? "k8s" : "cni",
    endpoint: call.interfaceName,
    pod: kubernetes ? args.podName : "",
    containerId: call.containerId,
  };
}
