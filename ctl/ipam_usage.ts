import { type Cidr, contains, formatCidr, type Ip, ipAt, overlaps, size } from "../lib/ip.ts";
import type { Block } from "../ipam/block.ts";
import type { Pool } from "../ipam/pools/pool.ts";
import type { View } from "../ipam/view.ts";

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
function reservedIn(reserved: readonly Cidr[], cidr: Cidr): bigint {
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

/** A row of the table: what it is, its network, and the counts with their share. */
export function usageRow(kind: string, { cidr, total, inUse, reserved, free }: Usage): string[] {
  // Calico counts in 63 bits.
  const capped = total > maxCount ? maxCount : total;
  const cap = (n: bigint) => (n > maxCount ? maxCount : n);
  const share = (n: bigint) => `${general(Number(cap(n)))} (${halfToEven(100 * Number(cap(n)) / Number(capped))}%)`;
  return [kind, formatCidr(cidr), general(Number(capped)), share(inUse), share(reserved), share(free)];
}

const maxCount = (1n << 63n) - 1n;

/** A number with five digits, as C's %.5g. */
function general(value: number): string {
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(4).split("e") as [string, string];
  const power = Number(exponent);
  if (power >= -4 && power < 5) return String(Number(value.toPrecision(5)));
  return `${Number(mantissa)}e${power < 0 ? "-" : "+"}${String(Math.abs(power)).padStart(2, "0")}`;
}

function halfToEven(value: number): number {
  const down = Math.floor(value);
  const rest = value - down;
  if (rest !== 0.5) return Math.round(value);
  return down % 2 === 0 ? down : down + 1;
}
