import { type Cidr, type Family, formatIp, tryParseCidr } from "../lib/ip.ts";
import { blockPrefix, handlePrefix, hostPrefix, resourcePrefix, virtualPrefix } from "../datastore/keys.ts";

const kindPrefix = (plural: string) => `${resourcePrefix}${plural}/`;

/** Below it lie all pools. */
export const poolPrefix = kindPrefix("ippools");
/** Below it lie all reservations. */
export const reservationPrefix = kindPrefix("ipreservations");
/** The ClusterInformation, which says whether anybody may work. */
export const readyKey = `${kindPrefix("clusterinformations")}default`;
/** The Node resource of a node. */
export const nodeKey = (node: string): string => `${kindPrefix("nodes")}${node}`;

/** Below it lie the blocks of an IP version. */
export const blocksPrefix = (v: Family): string => `${blockPrefix}ipv${v}/block/`;
/** The key of a block: its CIDR with one `-` for the slash. */
export const blockKey = (cidr: Cidr): string => `${blocksPrefix(cidr.v)}${cidrPart(cidr)}`;
/** The key of a handle; the id goes in as it is. */
export const handleKey = (id: string): string => `${handlePrefix}${id}`;

/** The owner of a block as its `affinity` says it: `host:<node>`; for load balancers `virtual:<name>`. */
export const ownerOf = (node: string, use: string): string => `${use === "LoadBalancer" ? "virtual" : "host"}:${node}`;

/** Below it lie an owner's affinities of an IP version. */
export function affinitiesPrefix(owner: string, v: Family): string {
  const colon = owner.indexOf(":");
  const prefix = owner.slice(0, colon) === "virtual" ? virtualPrefix : hostPrefix;
  return `${prefix}${owner.slice(colon + 1)}/ipv${v}/block/`;
}

/** The key of an owner's affinity to a block. */
export const affinityKey = (owner: string, cidr: Cidr): string => `${affinitiesPrefix(owner, cidr.v)}${cidrPart(cidr)}`;

/** The CIDR at the end of a block's or affinity's key; undefined when there is none. */
export function cidrOfKey(key: string): Cidr | undefined {
  const part = key.slice(key.lastIndexOf("/") + 1);
  const dash = part.lastIndexOf("-");
  return dash < 0 ? undefined : tryParseCidr(`${part.slice(0, dash)}/${part.slice(dash + 1)}`);
}

const cidrPart = (cidr: Cidr) => `${formatIp(cidr)}-${cidr.len}`;
