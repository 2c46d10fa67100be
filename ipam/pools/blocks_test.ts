import { deepEqual, equal, throws } from "node:assert/strict";
import fc from "fast-check";
import { contains, formatCidr, parseCidr } from "../../lib/ip.ts";
import { blockAt, blockCount, blocksInOrder, fnv1, inOrder, startOf } from "./blocks.ts";

Deno.test("blocksInOrder() gives each block of a pool once, from any start, and inOrder() sorts alike", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 6 }), fc.bigInt({ min: 0n, max: 1n << 70n }), (more, start) => {
    const pool = parseCidr("10.9.0.0/20");
    const all = [...blocksInOrder(pool, 20 + more, start)].map(formatCidr);
    equal(all.length, 2 ** more);
    equal(new Set(all).size, all.length);
    equal(all[0], formatCidr(blockAt(pool, 20 + more, start % blockCount(pool, 20 + more))));
    const sorted = inOrder(pool, 20 + more, start, all.toSorted().map((t) => ({ cidr: parseCidr(t) })));
    deepEqual(sorted.map((b) => formatCidr(b.cidr)), all);
  }));
});

Deno.test("skipping runs of blocks leaves exactly the others, in order", () => {
  const pool = parseCidr("10.9.0.0/24");
  fc.assert(fc.property(fc.nat(15), fc.nat(15), fc.nat(15), (start, from, length) => {
    const isSkipped = (n: number) => n >= from && n <= from + length;
    const skipTo = (b: { n: bigint }) =>
      isSkipped(Number((b.n - pool.n) / 16n)) ? pool.n + BigInt((from + length + 1) * 16 - 1) : undefined;
    const got = [...blocksInOrder(pool, 28, BigInt(start), skipTo)].map(formatCidr);
    const wanted = [...blocksInOrder(pool, 28, BigInt(start))].filter((b) => !isSkipped(Number((b.n - pool.n) / 16n)));
    deepEqual(got, wanted.map(formatCidr));
  }));
});

Deno.test("a reserved run of 2^60 blocks is stepped over at once", () => {
  const pool = parseCidr("fd00::/60");
  const half = parseCidr("fd00::/61");
  const skipTo = (b: { v: 4 | 6; n: bigint }) => (contains(half, b) ? half.n + (1n << 67n) - 1n : undefined);
  equal(formatCidr(blocksInOrder(pool, 122, 5n, skipTo).next().value!), "fd00:0:0:8::/122");
});

Deno.test("a node's start is FNV-1 of its name", () => {
  equal(fnv1(""), 0x811c9dc5);
  equal(fnv1("a"), 0x050c5d7e);
  equal(fnv1("foobar"), 0x31f0b262);
  equal(startOf("foobar", 1000n), BigInt(0x31f0b262 % 1000));
});

Deno.test("a block longer than the pool is refused", () => {
  throws(() => blockCount(parseCidr("10.0.0.0/27"), 26), /no blocks/);
});
