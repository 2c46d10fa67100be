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

/** The key of a node's claim on a block. */
export const affinityKey = (node: string, cidr: Cidr): string =>
  `${hostPrefix}${node}/${familyPart(cidr.v)}${cidrPart(cidr)}`;

/** The prefix of a node's claims, of one family or of both. */
export const affinityPrefix = (node: string, family?: Family): string =>
  `${hostPrefix}${node}/${family ? familyPart(family) : ""}`;

/** The key of a virtual owner's claim on a block. */
export const virtualAffinityKey = (owner: string, cidr: Cidr): string =>
  `${virtualPrefix}${owner}/${familyPart(cidr.v)}${cidrPart(cidr)}`;

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
