import { type Cidr, contains, type Ip, ipAt, overlaps, size } from "../lib/ip.ts";
import type { Block } from "./block.ts";
import type { Pool } from "./pools/pool.ts";
import type { View } from "./view.ts";

/** How many addresses of a network are what. An address in use that is reserved later counts as both. */
export interface Usage {
  cidr: Cidr;
  total: bigint;
  inUse: bigint;
  reserved: bigint;
  free: bigint;
}

/** A pool and its blocks; `pool` undefined stands for blocks that lie in no pool. */
export interface PoolUsage {
  pool?: Usage;
  blocks: Usage[];
}

/** Use of all pools by name, then of blocks outside pools. @param reserved the networks of all reservations. */
export function usageOf(view: View, reserved: readonly Cidr[]): PoolUsage[] {
  const blocks = [...view.blocks(4), ...view.blocks(6)].map((stored) => stored.value);
  const left = new Set(blocks);
  const pools = view.pools().map((pool): PoolUsage => {
    const own = blocks.filter((block) => left.has(block) && overlaps(block.cidr, pool.cidr));
    for (const block of own) left.delete(block);
    return poolUsage(pool, own, view, reservedIn(reserved, pool.cidr));
  });
  const strays = [...left].map((block) => blockUsage(block, view));
  return strays.length > 0 ? [...pools, { blocks: strays }] : pools;
}

function poolUsage({ cidr }: Pool, blocks: Block[], view: View, allReserved: bigint): PoolUsage {
  const usages = blocks.map((block) => blockUsage(block, view));
  const sum = (pick: (u: Usage) => bigint) => usages.reduce((total, u) => total + pick(u), 0n);
  const total = size(cidr);
  const outside = total - sum((u) => u.total) - (allReserved - sum((u) => u.reserved));
  return {
    pool: { cidr, total, inUse: sum((u) => u.inUse), reserved: allReserved, free: sum((u) => u.free) + outside },
    blocks: usages,
  };
}

function blockUsage(block: Block, view: View): Usage {
  const total = size(block.cidr);
  let inUse = 0n, reserved = 0n, free = 0n;
  for (const [ordinal, attribute] of block.allocations.entries()) {
    const isReserved = view.reservations().has(ipAt(block.cidr, ordinal));
    if (attribute !== null) inUse++;
    if (isReserved) reserved++;
    if (attribute === null && !isReserved) free++;
  }
  return { cidr: block.cidr, total, inUse, reserved, free };
}

/** Counts the reserved addresses of a network, given the reservations as they are stored. */
export function reservedIn(reserved: readonly Cidr[], cidr: Cidr): bigint {
  const runs = reserved.filter((c) => overlaps(c, cidr)).map((c) => (contains(c, cidr) ? cidr : c))
    .map((c) => ({ first: c.n, end: c.n + size(c) })).sort((a, b) => (a.first < b.first ? -1 : 1));
  let count = 0n, done = cidr.n;
  for (const { first, end } of runs) {
    if (end <= done) continue;
    count += end - (first > done ? first : done);
    done = end;
  }
  return count;
}

/** The block that holds an address. */
export const blockOf = (view: View, ip: Ip): Block | undefined =>
  view.blocks(ip.v).map((stored) => stored.value).find((block) => contains(block.cidr, ip));
