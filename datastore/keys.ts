import { type Cidr, formatCidr, tryParseCidr } from "../lib/ip.ts";
import { kindByName, kindByPlural } from "./kinds/index.ts";
import { escapePart, unescapePart } from "./names.ts";

/** Below it lie all resources: `<plural>/<name>` or `<plural>/<namespace>/<name>`. */
export const resourcePrefix = "/calico/resources/v3/projectcalico.org/";
/** Below it lie IPAM's blocks, affinities, handles and settings. */
export const ipamPrefix = "/calico/ipam/v2/";
/** Below it lie the blocks of both families. */
export const blockPrefix = `${ipamPrefix}assignment/`;
/** Below it lie the affinities of nodes, and their host records. */
export const hostPrefix = `${ipamPrefix}host/`;
/** Below it lie the affinities of virtual owners (Service load balancers). */
export const virtualPrefix = `${ipamPrefix}virtual/`;
/** Below it lie the handles. */
export const handlePrefix = `${ipamPrefix}handle/`;
/** IPAM's settings, as `ipam configure` writes them. */
export const ipamConfigKey = `${ipamPrefix}config`;
/** Below it lie the status reports of agents. */
export const statusPrefix = "/calico/felix/v2/";

/**
 * The key of a resource. The name is taken as it is: names cannot hold a slash.
 * @param kind "IPPool". @param namespace for namespaced kinds only; ignored for the others, as Calico does.
 */
export function resourceKey(kind: string, name: string, namespace?: string): string {
  const { plural, namespaced } = kindByName(kind);
  return `${resourcePrefix}${plural}/${namespaced ? `${namespace ?? ""}/` : ""}${name}`;
}

/** The prefix of all objects of a kind, or of those in one namespace; ends with a slash. */
export function kindPrefix(kind: string, namespace?: string): string {
  const { plural, namespaced } = kindByName(kind);
  return `${resourcePrefix}${plural}/${namespaced && namespace ? `${namespace}/` : ""}`;
}

/** The key of a block. */
export const blockKey = (cidr: Cidr): string => `${blockPrefix}ipv${cidr.v}/block/${cidrPart(cidr)}`;

/** The key of a node's claim on a block. */
export const affinityKey = (node: string, cidr: Cidr): string =>
  `${hostPrefix}${node}/ipv${cidr.v}/block/${cidrPart(cidr)}`;

/** The prefix of a node's claims, of one family or of both. */
export const affinityPrefix = (node: string, family?: 4 | 6): string =>
  family ? `${hostPrefix}${node}/ipv${family}/block/` : `${hostPrefix}${node}/`;

/** The key of a virtual owner's claim on a block. */
export const virtualAffinityKey = (owner: string, cidr: Cidr): string =>
  `${virtualPrefix}${owner}/ipv${cidr.v}/block/${cidrPart(cidr)}`;

/** The key of a handle. Calico does not escape the id, so one with a slash cannot be listed again. */
export const handleKey = (id: string): string => `${handlePrefix}${id}`;

/** The key of a node's IPAM record; deleted with the node. */
export const ipamHostKey = (node: string): string => `${hostPrefix}${node}`;

/** The keys of a node's status reports: `status` ends with its lease, `lastReported` stays. */
export function statusKeys(node: string, region?: string): { status: string; lastReported: string } {
  const base = `${statusPrefix}${region ? `region-${region}` : "no-region"}/host/${node}`;
  return { status: `${base}/status`, lastReported: `${base}/last_reported_status` };
}

/** The key of a workload endpoint's state, as its node reports it. */
export function workloadStatusKey(
  id: { node: string; orchestrator: string; workload: string; endpoint: string; region?: string },
): string {
  const region = id.region ? `region-${id.region}` : "no-region";
  return `${statusPrefix}${region}/host/${id.node}/workload/${escapePart(id.orchestrator)}/${
    escapePart(id.workload)
  }/endpoint/${escapePart(id.endpoint)}`;
}

/** What a key stands for. */
export type ParsedKey =
  | { is: "resource"; kind: string; name: string; namespace?: string }
  | { is: "block"; cidr: Cidr }
  | { is: "affinity"; owner: "host" | "virtual"; node: string; cidr: Cidr }
  | { is: "handle"; id: string }
  | { is: "ipam-config" }
  | { is: "ipam-host"; node: string };

/** What a key stands for; undefined when it is none of ours (an unknown plural, too few parts, another prefix). */
export function parseKey(key: string): ParsedKey | undefined {
  if (key.startsWith(resourcePrefix)) return parseResourceKey(key.slice(resourcePrefix.length));
  if (!key.startsWith(ipamPrefix)) return undefined;
  if (key === ipamConfigKey) return { is: "ipam-config" };
  if (key.startsWith(handlePrefix)) return { is: "handle", id: key.slice(handlePrefix.length) };
  if (key.startsWith(blockPrefix)) {
    const cidr = cidrAt(key.slice(blockPrefix.length));
    return cidr && { is: "block", cidr };
  }
  return parseAffinityKey(key);
}

function parseResourceKey(rest: string): ParsedKey | undefined {
  const parts = rest.split("/").map(unescapePart);
  const kind = kindByPlural(parts[0]!);
  if (!kind || parts.length !== (kind.namespaced ? 3 : 2) || parts.includes("")) return undefined;
  return kind.namespaced
    ? { is: "resource", kind: kind.kind, namespace: parts[1]!, name: parts[2]! }
    : { is: "resource", kind: kind.kind, name: parts[1]! };
}

function parseAffinityKey(key: string): ParsedKey | undefined {
  const owner = key.startsWith(hostPrefix) ? "host" : key.startsWith(virtualPrefix) ? "virtual" : undefined;
  if (!owner) return undefined;
  const rest = key.slice(owner === "host" ? hostPrefix.length : virtualPrefix.length);
  const slash = rest.indexOf("/");
  if (slash < 0) return owner === "host" ? { is: "ipam-host", node: rest } : undefined;
  const cidr = cidrAt(rest.slice(slash + 1));
  return cidr && { is: "affinity", owner, node: rest.slice(0, slash), cidr };
}

/** `10.65.0.0-26`: the form of a CIDR in a key. */
const cidrPart = (cidr: Cidr): string => formatCidr(cidr).replace("/", "-");

/** The CIDR of `ipv4/block/10.65.0.0-26`. */
function cidrAt(rest: string): Cidr | undefined {
  const match = /^ipv([46])\/block\/([^/]+)-(\d+)$/.exec(rest);
  const cidr = match ? tryParseCidr(`${match[2]}/${match[3]}`) : undefined;
  return cidr && cidr.v === Number(match![1]) ? cidr : undefined;
}
