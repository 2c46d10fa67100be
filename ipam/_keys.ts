import type { Cidr, Family } from "../lib/ip.ts";
import {
  affinityKey as nodeAffinityKey,
  affinityPrefix,
  kindPrefix,
  parseIpamKey,
  resourceKey,
  virtualAffinityKey,
  virtualPrefix,
} from "../datastore/keys.ts";

/** Below it lie all pools. */
export const poolPrefix = kindPrefix("IPPool");
/** Below it lie all reservations. */
export const reservationPrefix = kindPrefix("IPReservation");
/** Below it lie all nodes. */
export const nodePrefix = kindPrefix("Node");
/** The ClusterInformation, which says whether anybody may work. */
export const readyKey = resourceKey("ClusterInformation", "default");
/** The Node resource of a node. */
export const nodeKey = (node: string): string => resourceKey("Node", node);

/** The owner of a block as its `affinity` says it: `host:<node>`; for load balancers `virtual:<name>`. */
export const ownerOf = (node: string, use: string): string => `${use === "LoadBalancer" ? "virtual" : "host"}:${node}`;

/** Below it lie an owner's affinities of an IP version. */
export function affinitiesPrefix(owner: string, v: Family): string {
  const { isVirtual, name } = parts(owner);
  return isVirtual ? `${virtualPrefix}${name}/ipv${v}/block/` : affinityPrefix(name, v);
}

/** The key of an owner's affinity to a block. */
export function affinityKey(owner: string, cidr: Cidr): string {
  const { isVirtual, name } = parts(owner);
  return isVirtual ? virtualAffinityKey(name, cidr) : nodeAffinityKey(name, cidr);
}

/** The CIDR at the end of a block's or affinity's key; undefined when there is none. */
export function cidrOfKey(key: string): Cidr | undefined {
  const parsed = parseIpamKey(key);
  return parsed?.is === "block" || parsed?.is === "affinity" ? parsed.cidr : undefined;
}

function parts(owner: string): { isVirtual: boolean; name: string } {
  const colon = owner.indexOf(":");
  return { isVirtual: owner.slice(0, colon) === "virtual", name: owner.slice(colon + 1) };
}
