import { type Family, ipAt } from "../../lib/ip.ts";
import { isObject } from "../../lib/json64.ts";
import { attributeOf, type Block, handleOf, isCooling, isHostReserved } from "../../ipam/block.ts";
import type { Leak } from "../../ipam/collect.ts";
import type { View } from "../../ipam/view.ts";

/** An address that is given to somebody. */
export interface Allocation extends Omit<Leak, "reason"> {
  /** What was noted beside it. */
  owner: Readonly<Record<string, string>>;
  /** Owner of the block, `host:alder`; null = nobody. */
  affinity: string | null;
}

/** All blocks, IPv4's first. */
export const blocksOf = (view: View): Block[] =>
  ([4, 6] as Family[]).flatMap((v) => view.blocks(v)).map((stored) => stored.value);

/**
 * All addresses of a block that are given under a handle; without one they cannot be released, and those that cool down
 * or that a Windows host keeps are released by others.
 */
export function allocationsIn(block: Block): Allocation[] {
  return block.allocations.flatMap((index, ordinal): Allocation[] => {
    if (index === null) return [];
    const attribute = attributeOf(block, ordinal), handle = handleOf(attribute);
    if (handle === undefined || isCooling(attribute) || isHostReserved(attribute)) return [];
    const owner = isObject(attribute!.secondary) ? attribute!.secondary as Record<string, string> : {};
    const sequenceNumber = block.sequenceOf.get(ordinal) ?? 0n;
    return [{
      ip: ipAt(block.cidr, ordinal),
      block: block.cidr,
      handle,
      sequenceNumber,
      owner,
      affinity: block.affinity,
    }];
  });
}

/** The node that owns a block; undefined for nobody and for virtual owners. */
export const nodeOf = (affinity: string | null): string | undefined =>
  affinity?.startsWith("host:") ? affinity.slice("host:".length) : undefined;
