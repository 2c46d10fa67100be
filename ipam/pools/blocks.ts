import { bits, type Cidr, cidrOf, type Ip, ipAt } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";

/** How many blocks of prefix length `size` a pool has: 2^(size - pool length). @throws Problem when size is shorter. */
export function blockCount(pool: Cidr, size: number): bigint {
  if (size < pool.len || size > bits(pool.v)) {
    throw new Problem({ code: "bad-input", what: `a pool of /${pool.len} has no blocks of /${size}` });
  }
  return 1n << BigInt(size - pool.len);
}

/** The block of prefix length `size` that holds an address. */
export const blockHolding = (ip: Ip, size: number): Cidr => cidrOf(ip, size);

/** Block number `index` of a pool, counted from 0. */
export function blockAt(pool: Cidr, size: number, index: bigint): Cidr {
  return { ...ipAt(pool, index << BigInt(bits(pool.v) - size)), len: size };
}

/** The number of a block in its pool. */
export const blockIndex = (pool: Cidr, block: Cidr): bigint => (block.n - pool.n) >> BigInt(bits(pool.v) - block.len);

/**
 * The blocks of a pool in the order in which a node tries them: from block `start` upwards, around the end, each once.
 * All processes of a node start at the same block, so that they meet there instead of claiming a block each.
 * @param size prefix length of a block: 20-32 (v4), 116-128 (v6).
 * @param skipTo given a block, the last address of a run of blocks that need no look (reserved); undefined = none.
 * @returns lazily: an IPv6 pool may have more than 2^64 blocks.
 * @throws Problem when `size` is shorter than the pool's prefix.
 */
export function* blocksInOrder(
  pool: Cidr,
  size: number,
  start: bigint,
  skipTo: (block: Cidr) => bigint | undefined = () => undefined,
): Generator<Cidr> {
  const count = blockCount(pool, size);
  const shift = BigInt(bits(pool.v) - size);
  for (let step = 0n; step < count; step++) {
    const index = (start + step) % count;
    const block = blockAt(pool, size, index);
    const last = skipTo(block);
    if (last === undefined) {
      yield block;
      continue;
    }
    const lastIndex = ((last + 1n - pool.n) >> shift) - 1n;
    const end = lastIndex < count - 1n ? lastIndex : count - 1n;
    if (end > index) step += end - index;
  }
}

/** Sorts existing blocks of a pool into the order of blocksInOrder(), without walking those that do not exist. */
export function inOrder<B extends { cidr: Cidr }>(pool: Cidr, size: number, start: bigint, blocks: B[]): B[] {
  const count = blockCount(pool, size);
  const rank = (b: B) => (blockIndex(pool, b.cidr) - start % count + count) % count;
  return blocks.map((b) => ({ b, r: rank(b) })).sort((x, y) => (x.r < y.r ? -1 : x.r > y.r ? 1 : 0)).map(({ b }) => b);
}

/**
 * The block number at which a node begins: 32-bit FNV-1 of its name, modulo the number of blocks.
 * DIFFERS: Calico feeds the same hash to Go's random generator; another start is harmless, only a node's processes must agree.
 */
export const startOf = (node: string, count: bigint): bigint => BigInt(fnv1(node)) % count;

/** 32-bit FNV-1 of a text's UTF-8 bytes. */
export function fnv1(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = (Math.imul(hash, 0x01000193) ^ byte) >>> 0;
  return hash;
}
