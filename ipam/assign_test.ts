import { deepEqual, equal, ok } from "node:assert/strict";
import { formatCidr, formatIp, parseCidr, parseIp } from "../lib/ip.ts";
import { parseJson } from "../lib/json64.ts";
import { blockKey } from "../datastore/keys.ts";
import { judge } from "../tests/ipam_judge.ts";
import type { AssignOutcome } from "./request.ts";
import { TestCluster, type TestPool, workload } from "./_test_cluster.ts";

const pool = { name: "p", cidr: "10.9.0.0/28", blockSize: 30 };
const ips = (o: AssignOutcome | undefined) => o!.addresses.map((a) => formatIp(a.ip));
const stored = (cluster: TestCluster, cidr: string) =>
  parseJson(cluster.store.contents().get(blockKey(parseCidr(cidr)))!) as Record<string, unknown>;
const config = (more: object) => ({ auto_allocate_blocks: true, ...more });

async function started(pools: TestPool[], nodes: string[], settings?: object) {
  const cluster = await TestCluster.with(pools, nodes);
  if (settings) await cluster.put("/calico/ipam/v2/config", settings);
  const mirror = await cluster.mirror();
  return { cluster, mirror, allocator: cluster.allocator(() => mirror, { startBlock: () => 0n }) };
}

Deno.test("assign() borrows from another node's block only when own blocks are full and none is free", async () => {
  const { allocator } = await started([{ ...pool, cidr: "10.9.0.0/29" }], ["n1", "n2", "n3"]);
  await allocator.assign([workload("n1", "a"), workload("n2", "b")]);
  const [third] = await allocator.assign([workload("n3", "c")]);
  deepEqual(ips(third), ["10.9.0.1"]);
  const [own] = await allocator.assign([workload("n2", "d", { families: { 4: 3 } })]);
  deepEqual(ips(own), ["10.9.0.5", "10.9.0.6", "10.9.0.7"]);
});

Deno.test("with strict affinity nothing is borrowed, and the refusal says why", async () => {
  const { allocator } = await started(
    [{ ...pool, cidr: "10.9.0.0/30" }],
    ["n1", "n2"],
    config({ strict_affinity: true }),
  );
  await allocator.assign([workload("n1", "a")]);
  const [refused, given] = await allocator.assign([
    workload("n2", "b"),
    workload("n2", "c", { families: undefined, address: [parseIp("10.9.0.2")] }),
  ]);
  ok(refused!.problem!.what.endsWith("No more free affine blocks and strict affinity enabled"));
  equal(given!.problem!.code, "conflict");
});

Deno.test("a reclaimed block goes on with its sequence numbers, even when our clock is behind", async () => {
  const { cluster, allocator, mirror } = await started([{ ...pool, cidr: "10.9.0.0/30" }], ["n1", "n2"]);
  await allocator.assign([workload("n1", "a")]);
  await allocator.release([{ handle: "a" }]);
  const before = stored(cluster, "10.9.0.0/30");
  const far = 2_000_000_000_000_000_000n;
  await cluster.put(blockKey(parseCidr("10.9.0.0/30")), {
    ...before,
    sequenceNumber: far,
    affinity_claim_time: "2020-01-01T00:00:00Z",
  });
  await mirror.sync();
  const [got] = await allocator.assign([workload("n2", "b")]);
  deepEqual(ips(got), ["10.9.0.0"]);
  const after = stored(cluster, "10.9.0.0/30");
  equal(after.sequenceNumber, far + 1n);
  deepEqual(after.sequenceNumberForAllocation, { 0: far });
  deepEqual(judge(cluster.store.contents(), { held: new Map([["10.9.0.0", "b"]]) }), []);
});

Deno.test("of several empty blocks of others the one claimed longest ago is taken", async () => {
  const { cluster, allocator, mirror } = await started([{ ...pool, cidr: "10.9.0.0/29" }], ["n1", "n2", "n3"]);
  await allocator.assign([workload("n1", "a"), workload("n2", "b")]);
  await allocator.release([{ handle: "a" }, { handle: "b" }]);
  for (const [cidr, year] of [["10.9.0.0/30", 2025], ["10.9.0.4/30", 2024]] as const) {
    const key = blockKey(parseCidr(cidr));
    await cluster.put(key, { ...stored(cluster, cidr), affinity_claim_time: `${year}-01-01T00:00:00Z` });
  }
  await mirror.sync();
  const [got] = await allocator.assign([workload("n3", "c")]);
  deepEqual(ips(got), ["10.9.0.4"]);
});

Deno.test("the limit of blocks counts what another process of the node claimed a moment ago", async () => {
  const { cluster, allocator } = await started([pool], ["n1"], config({ maxBlocksPerHost: 1 }));
  const old = await cluster.mirror();
  const other = cluster.allocator(() => old, { startBlock: () => 2n });
  await allocator.assign([workload("n1", "a", { families: { 4: 4 } })]);
  const [refused] = await other.assign([workload("n1", "b")]);
  ok(refused!.problem!.what.includes("limit of 1 blocks reached"), refused!.problem!.what);
});

Deno.test("handles count what a block holds, also when a request spills into a second block", async () => {
  const { cluster, allocator } = await started([pool], ["n1"]);
  await allocator.assign([workload("n1", "spill", { families: { 4: 6 } })]);
  const handle = () => parseJson(cluster.store.contents().get("/calico/ipam/v2/handle/spill") ?? "null");
  deepEqual(handle(), { block: { "10.9.0.0/30": 4, "10.9.0.4/30": 2 }, deleted: false });
  await allocator.release([{ handle: "spill" }]);
  equal(handle(), null);
});

Deno.test("two processes that use one handle at once both count", async () => {
  const { cluster, allocator } = await started([pool], ["n1"]);
  const old = await cluster.mirror();
  const other = cluster.allocator(() => old, { startBlock: () => 2n });
  await allocator.assign([workload("n1", "same")]);
  await other.assign([workload("n1", "same")]);
  deepEqual(judge(cluster.store.contents(), { held: new Map([["10.9.0.0", "same"], ["10.9.0.1", "same"]]) }), []);
});

Deno.test("a handle that counts too much (Calico's) is gone after its release, with blocks that are gone", async () => {
  const { cluster, allocator, mirror } = await started([pool], ["n1"]);
  await allocator.assign([workload("n1", "h")]);
  await cluster.put("/calico/ipam/v2/handle/h", { block: { "10.9.0.0/30": 7, "10.9.0.12/30": 1 }, deleted: false });
  await mirror.sync();
  const [gone] = await allocator.release([{ handle: "h" }]);
  deepEqual(gone!.released.map(formatIp), ["10.9.0.0"]);
  equal(cluster.store.contents().has("/calico/ipam/v2/handle/h"), false);
});

Deno.test("requested pools are names or CIDRs; what they are not is said as Calico says it", async () => {
  const { allocator } = await started([pool, { name: "six", cidr: "fd00::/120" }], ["n1"]);
  const ask = async (...pools: string[]) =>
    (await allocator.assign([workload("n1", "h", { pools: { 4: pools } })]))[0]!;
  equal((await ask("p")).problem, undefined);
  equal((await ask("10.9.0.0/28")).problem, undefined);
  equal((await ask("nope")).problem!.what, 'error parsing pool "nope": invalid CIDR address: nope');
  equal((await ask("six")).problem!.what, '"six" isn\'t a IPv4 address');
  equal((await ask("10.99.0.0/28")).problem!.what, "the given pool (10.99.0.0/28) does not exist, or is not enabled");
});

Deno.test("given addresses of both versions come in one transaction or not at all", async () => {
  const { cluster, allocator } = await started([pool, { name: "six", cidr: "fd00::/120" }], ["n1"]);
  const both = [parseIp("10.9.0.9"), parseIp("fd00::7")];
  const before = cluster.requests;
  const [got] = await allocator.assign([workload("n1", "h", { families: undefined, address: both })]);
  deepEqual([ips(got), cluster.requests - before], [["10.9.0.9", "fd00::7"], 1]);
  const half = [parseIp("10.9.0.10"), parseIp("fd00::7")];
  const [no] = await allocator.assign([workload("n1", "i", { families: undefined, address: half })]);
  deepEqual([no!.problem!.code, no!.addresses, no!.commit], ["exists", [], undefined]);
  equal(cluster.store.contents().has("/calico/ipam/v2/handle/i"), false);
});

Deno.test("a pool of single addresses is used up to the last one by several nodes", async () => {
  const { cluster, allocator } = await started([{ ...pool, cidr: "10.9.0.0/29", blockSize: 32 }], ["n1", "n2"]);
  const outcomes = await allocator.assign(Array.from({ length: 9 }, (_, i) => workload(`n${1 + i % 2}`, `h${i}`)));
  equal(new Set(outcomes.flatMap(ips)).size, 8);
  deepEqual(outcomes.filter((o) => o.problem).map((o) => o.problem!.code), ["exhausted"]);
  const held = new Map(outcomes.flatMap((o, i) => ips(o).map((ip) => [ip, `h${i}`] as const)));
  deepEqual(judge(cluster.store.contents(), { held }), []);
});

Deno.test("a release by address refuses a foreign handle or sequence number, and keeps the handle of other blocks", async () => {
  const { cluster, allocator } = await started([pool], ["n1"]);
  const [got] = await allocator.assign([workload("n1", "h", { families: { 4: 5 } })]);
  const ip = got!.addresses[4]!.ip;
  const sequences = stored(cluster, "10.9.0.4/30").sequenceNumberForAllocation as Record<string, bigint>;
  const release = async (more: object) => (await allocator.release([{ addresses: [{ ip, ...more }] }]))[0]!;
  equal((await release({ handle: "other" })).problem!.code, "conflict");
  equal((await release({ handle: "h", sequenceNumber: sequences["0"]! + 1n })).problem!.code, "conflict");
  deepEqual((await release({ handle: "h", sequenceNumber: sequences["0"]! })).released.map(formatIp), ["10.9.0.4"]);
  deepEqual((await release({})).unallocated.map(formatIp), ["10.9.0.4"]);
  const held = new Map(got!.addresses.slice(0, 4).map((a) => [formatIp(a.ip), "h"]));
  deepEqual(judge(cluster.store.contents(), { held }), []);
});

Deno.test("an address outside every pool is released by looking at all blocks", async () => {
  const { cluster, allocator, mirror } = await started([pool], ["n1"]);
  await allocator.assign([workload("n1", "h")]);
  await cluster.store.txn({ compare: [], write: [{ delete: "/calico/resources/v3/projectcalico.org/ippools/p" }] });
  await mirror.sync();
  const [gone] = await allocator.release([{ addresses: [{ ip: parseIp("10.9.0.0") }] }]);
  deepEqual(gone!.released.map(formatIp), ["10.9.0.0"]);
});

Deno.test("reserved addresses are not given, a reserved block is not claimed", async () => {
  const { cluster, mirror, allocator } = await started([pool], ["n1"]);
  await cluster.putReservation("r", ["10.9.0.0/30", " 10.9.0.4 ", "not an address"]);
  await mirror.sync();
  const [got] = await allocator.assign([workload("n1", "h", { families: { 4: 11 } })]);
  equal(got!.addresses.length, 11);
  equal(formatCidr(got!.addresses[0]!.block), "10.9.0.4/30");
  equal(formatIp(got!.addresses[0]!.ip), "10.9.0.5");
});
