import { type Cidr, type Family, formatCidr, tryParseCidr } from "../lib/ip.ts";

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

/** The key of a block. */
export const blockKey = (cidr: Cidr): string => `${blockPrefix}${familyPart(cidr.v)}${cidrPart(cidr)}`;

/** The prefix of the blocks of one family. */
export const blockFamilyPrefix = (family: Family): string => `${blockPrefix}${familyPart(family)}`;

/** Whose a block is, as its `affinity` says it. */
export type BlockOwner = `host:${string}` | `virtual:${string}`;

/** The owner of a node's blocks; those for Service load balancers belong to a virtual one. */
export const ownerOf = (node: string, use: string = "Workload"): BlockOwner =>
  `${use === "LoadBalancer" ? "virtual" : "host"}:${node}`;

/** An owner from a block's `affinity`; undefined for a text that names none. */
export const blockOwnerOf = (affinity: string | null): BlockOwner | undefined =>
  affinity?.startsWith("host:") || affinity?.startsWith("virtual:") ? (affinity as BlockOwner) : undefined;

/** The key of an owner's claim on a block. */
export const affinityKey = (owner: BlockOwner, cidr: Cidr): string =>
  `${affinityPrefix(owner, cidr.v)}${cidrPart(cidr)}`;

/** The prefix of an owner's claims, of one family or of both. */
export function affinityPrefix(owner: BlockOwner, family?: Family): string {
  const colon = owner.indexOf(":");
  const prefix = owner.slice(0, colon) === "virtual" ? virtualPrefix : hostPrefix;
  return `${prefix}${owner.slice(colon + 1)}/${family ? familyPart(family) : ""}`;
}

/** The key of a handle. Calico does not escape the id, so one with a slash cannot be listed again. */
export const handleKey = (id: string): string => `${handlePrefix}${id}`;

/** The key of a node's IPAM record; deleted with the node. */
export const ipamHostKey = (node: string): string => `${hostPrefix}${node}`;

/** What one of IPAM's keys stands for. */
export type IpamKey =
  | { is: "block"; cidr: Cidr }
  | { is: "affinity"; owner: "host" | "virtual"; node: string; cidr: Cidr }
  | { is: "handle"; id: string }
  | { is: "ipam-config" }
  | { is: "ipam-host"; node: string };

/** What one of IPAM's keys stands for; undefined when it is none. */
export function parseIpamKey(key: string): IpamKey | undefined {
  if (!key.startsWith(ipamPrefix)) return undefined;
  if (key === ipamConfigKey) return { is: "ipam-config" };
  if (key.startsWith(handlePrefix)) return { is: "handle", id: key.slice(handlePrefix.length) };
  if (key.startsWith(blockPrefix)) {
    const cidr = cidrAt(key.slice(blockPrefix.length));
    return cidr && { is: "block", cidr };
  }
  return parseAffinityKey(key);
}

/** The CIDR at the end of a block's or affinity's key; undefined when there is none. */
export function cidrOfKey(key: string): Cidr | undefined {
  const parsed = parseIpamKey(key);
  return parsed?.is === "block" || parsed?.is === "affinity" ? parsed.cidr : undefined;
}

function parseAffinityKey(key: string): IpamKey | undefined {
  const owner = key.startsWith(hostPrefix) ? "host" : key.startsWith(virtualPrefix) ? "virtual" : undefined;
  if (!owner) return undefined;
  const rest = key.slice(owner === "host" ? hostPrefix.length : virtualPrefix.length);
  const slash = rest.indexOf("/");
  if (slash < 0) return owner === "host" ? { is: "ipam-host", node: rest } : undefined;
  const cidr = cidrAt(rest.slice(slash + 1));
  return cidr && { is: "affinity", owner, node: rest.slice(0, slash), cidr };
}

const familyPart = (family: Family): string => `ipv${family}/block/`;

/** `10.65.0.0-26`: the form of a CIDR in a key. */
const cidrPart = (cidr: Cidr): string => formatCidr(cidr).replace("/", "-");

/** The CIDR of `ipv4/block/10.65.0.0-26`. */
function cidrAt(rest: string): Cidr | undefined {
  const match = /^ipv([46])\/block\/([^/]+)-(\d+)$/.exec(rest);
  const cidr = match ? tryParseCidr(`${match[2]}/${match[3]}`) : undefined;
  return cidr && cidr.v === Number(match![1]) ? cidr : undefined;
}
