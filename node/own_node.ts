import { readIfThere } from "../lib/durable_file.ts";
import type { Ip } from "../lib/ip.ts";
import type { Logger } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import type { Resource } from "../datastore/kind.ts";
import type { Node } from "../datastore/kinds/node.ts";
import {
  type AddressChoice,
  chooseAddress,
  type Conflict,
  conflicts,
  listedFamilies,
  nodeInterfaces,
  parseAsNumber,
} from "./addresses.ts";
import { type HostView, type Method, parseMethod } from "./autodetect.ts";
import type { StartUpResources, Writer } from "./ensure.ts";
import type { LocalInterface } from "./interfaces.ts";
import { changesAddress, nodeChange, type NodeFacts } from "./node_resource.ts";
import type { Settings } from "./settings.ts";

/** What start-up asks the Kubernetes API, when there is one. */
export interface KubernetesFacts {
  /** InternalIP addresses of a node. @throws Problem when it cannot be read. */
  internalIps(node: string): Promise<Ip[]>;
  /** Values of a ConfigMap of namespace kube-system; undefined when it does not exist or may not be read. */
  configMap(name: string): Promise<string[] | undefined>;
}

/** What the decision about this node's own resource works with. */
export interface OwnNodeParts {
  /** This node's name (lib/node_name.ts). */
  node: string;
  resources: StartUpResources;
  settings: Settings;
  interfaces: LocalInterface[];
  /** The address the kernel would send from to a host name or address; for can-reach. */
  sourceAddress?(destination: string, family: 4 | 6): Promise<Ip | undefined>;
  log: Logger;
  kubernetes?: KubernetesFacts;
  /** Where the node's name is kept. */
  nodenameFile?: string;
}

/** What the settings say of the Node, checked before anything is written. */
export interface NodeWishes {
  asNumber: number | undefined;
  methods: Record<4 | 6, Method>;
}

/** @throws Problem "bad-input" naming the setting. */
export function nodeWishes(settings: Pick<Settings, "get">): NodeWishes {
  const method = (name: string) => parseMethod(settings.get(name) ?? "", name);
  const asNumber = settings.get("AS");
  return {
    asNumber: asNumber === undefined ? undefined : parseAsNumber(asNumber),
    methods: { 4: method("IP_AUTODETECTION_METHOD"), 6: method("IP6_AUTODETECTION_METHOD") },
  };
}

/**
 * Writes this Node when something of it really changed. A new address is looked for in all other Nodes first.
 * DIFFERS: nothing is written when another node has the address. Calico then clears the address that this node had, and
 * so ends its sessions and tunnels.
 * @throws Problem "conflict" when another node has the address, "bad-input" when there is none.
 */
export async function ensureOwnNode(
  parts: OwnNodeParts,
  writer: Writer,
  wishes: NodeWishes,
): Promise<Node | undefined> {
  const host = await hostFacts(parts, wishes.methods);
  let told = false;
  let addressChanged = false;
  const node = await writer.ensure({
    kind: "Node",
    name: parts.node,
    async wanted(existing) {
      const facts = nodeFacts(parts, existing as Node | undefined, host, wishes);
      if (!told) tellAddresses(parts.log, facts);
      told = true;
      const change = nodeChange(existing as Node | undefined, facts);
      if (!change) return undefined;
      addressChanged = changesAddress(change);
      const rival = addressChanged ? await rivalOf(parts, change.node) : undefined;
      if (rival) throw await conflictProblem(parts, rival);
      return change.node as Resource;
    },
  });
  if (addressChanged && node) await tellLateRival(parts, node as Node);
  return node as Node | undefined;
}

/** Two nodes that start at the same moment both find the address free; each then sees the other. */
async function tellLateRival(parts: OwnNodeParts, node: Node): Promise<void> {
  const rival = await rivalOf(parts, node);
  if (rival) parts.log.error("another node took the same address at the same time", { ...rival });
}

/** What does not depend on the stored Node. */
interface HostFacts {
  interfaces: LocalInterface[];
  reached: Partial<Record<4 | 6, Ip>>;
  internalIps?: Ip[];
}

async function hostFacts(parts: OwnNodeParts, methods: NodeWishes["methods"]): Promise<HostFacts> {
  const facts: HostFacts = { interfaces: parts.interfaces, reached: {} };
  for (const family of [4, 6] as const) {
    const method = methods[family];
    if (method.by === "can-reach") facts.reached[family] = await parts.sourceAddress?.(method.destination, family);
    if (method.by === "kubernetes-internal-ip" && parts.kubernetes) {
      facts.internalIps ??= await parts.kubernetes.internalIps(kubernetesName(parts));
    }
  }
  return facts;
}

/** What Kubernetes calls this node. */
export const kubernetesName = (parts: Pick<OwnNodeParts, "settings" | "node">): string =>
  parts.settings.get("CALICO_K8S_NODE_REF") ?? parts.node;

/** CALICO_NETWORKING=false is the old way to say backend none. */
export const networkingBackend = (settings: Pick<Settings, "get">): string =>
  settings.get("CALICO_NETWORKING") === "false" ? "none" : settings.get("CALICO_NETWORKING_BACKEND") ?? "bird";

function nodeFacts(
  parts: OwnNodeParts,
  current: Node | undefined,
  host: HostFacts,
  wishes: NodeWishes,
): NodeFacts {
  const { settings } = parts;
  const facts: NodeFacts = { name: parts.node, kubernetesNode: settings.get("CALICO_K8S_NODE_REF") };
  if (networkingBackend(settings) === "none") return facts;
  const setting = { 4: settings.get("IP") ?? "", 6: settings.get("IP6") ?? "" };
  const choose = (family: 4 | 6, stored: string | undefined): AddressChoice => {
    const view: HostView = {
      interfaces: host.interfaces,
      reached: host.reached[family],
      internalIps: host.internalIps,
    };
    return chooseAddress(
      { family, setting: setting[family], method: wishes.methods[family], current: stored ?? "" },
      view,
    );
  };
  const addresses = { 4: choose(4, current?.spec.bgp?.ipv4Address), 6: choose(6, current?.spec.bgp?.ipv6Address) };
  if (addresses[4].address === "" && addresses[6].address === "") {
    throw new Problem({
      code: "bad-input",
      what: "no IPv4 or IPv6 addresses configured or detected, required for Calico networking",
      where: "IP, IP6",
      todo: "Set IP or IP6 to an address or to autodetect, or CALICO_NETWORKING_BACKEND to none",
    });
  }
  const interfaces = nodeInterfaces(host.interfaces, listedFamilies(setting));
  return { ...facts, addresses, interfaces, asNumber: wishes.asNumber };
}

function tellAddresses(log: Logger, facts: NodeFacts): void {
  for (const family of [4, 6] as const) {
    const choice = facts.addresses?.[family];
    if (!choice) continue;
    for (const why of choice.warnings) log.warn("address of this node is doubtful", { family, why });
    if (!choice.detection) continue;
    const { found, reason, considered } = choice.detection;
    const on = choice.detection.found ? choice.detection.on : undefined;
    log.info(found ? "address detected" : "no address detected", {
      family,
      address: choice.address,
      on,
      reason,
      considered,
    });
  }
}

const addressesOf = (node: Node): string[] =>
  [node.spec.bgp?.ipv4Address, node.spec.bgp?.ipv6Address].filter((a) => a !== undefined && a !== "") as string[];

async function rivalOf(parts: OwnNodeParts, wanted: Node): Promise<Conflict | undefined> {
  if (parts.settings.get("DISABLE_NODE_IP_CHECK") === "true") return undefined;
  const others = new Map<string, string[]>();
  for (const node of (await parts.resources.list<Node>("Node")).items) {
    if (node.metadata.name !== parts.node) others.set(node.metadata.name, addressesOf(node));
  }
  return conflicts(addressesOf(wanted), others)[0];
}

async function conflictProblem(parts: OwnNodeParts, { node, family, address }: Conflict): Promise<Problem> {
  const before = parts.nodenameFile === undefined ? undefined : (await readIfThere(parts.nodenameFile))?.trim();
  return new Problem({
    code: "conflict",
    what: `Calico node '${node}' is already using the IPv${family} address ${address}`,
    where: `Node/${parts.node}`,
    todo: before === node
      ? `This host was called '${node}' before: set NODENAME=${node}, or delete that node`
      : `Delete node '${node}' if it is gone, or choose another address with ${family === 4 ? "IP" : "IP6"}`,
  });
}
