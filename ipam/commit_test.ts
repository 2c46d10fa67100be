import { deepEqual, equal, ok } from "node:assert/strict";
import { formatCidr, formatIp, parseCidr, parseIp } from "../lib/ip.ts";
import { parseJson, writeJson } from "../lib/json64.ts";
import { resourceKey } from "../datastore/keys.ts";
import type { AssignOutcome, Extra } from "./request.ts";
import { coldReader } from "./view.ts";
import { TestCluster, workload } from "./_test_cluster.ts";

const small = { name: "p", cidr: "10.9.0.0/28", blockSize: 30 };
const wide = { name: "p", cidr: "10.9.0.0/16" };
const ips = (o: AssignOutcome) => o.addresses.map((a) => formatIp(a.ip));
const endpoint = (name: string) => resourceKey("WorkloadEndpoint", name, "shop");
const puts = (key: string) => (): Extra => ({ compare: [{ key, revision: 0n }], write: [{ put: key, value: "{}" }] });

Deno.test("assign() with a warm mirror costs one request, also for the first block of a node", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const before = cluster.requests;
  await allocator.assign([workload("n1", "net.a")]);
  equal(cluster.requests - before, 1);
  await allocator.assign([workload("n1", "net.b")]);
  equal(cluster.requests - before, 2, "the mirror has not heard of the first one yet");
  await allocator.release([{ handle: "net.a" }]);
  equal(cluster.requests - before, 3);
});

Deno.test("assign() without a mirror costs two requests", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  await using allocator = cluster.allocator(() => coldReader(cluster.store));
  const before = cluster.requests;
  await allocator.assign([workload("n1", "net.a")]);
  equal(cluster.requests - before, 2);
});

Deno.test("requests that come together go into one transaction with one write of the block, at most 40", async () => {
  const cluster = await TestCluster.with([{ ...wide, blockSize: 24 }], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const before = cluster.requests;
  const requests = Array.from({ length: 100 }, (_, i) => workload("n1", `net.${i}`, { with: puts(endpoint(`w${i}`)) }));
  const outcomes = await allocator.assign(requests);
  equal(new Set(outcomes.flatMap(ips)).size, 100);
  equal(cluster.requests - before, 3);
  deepEqual(outcomes.map((o) => o.problem), outcomes.map(() => undefined));
});

Deno.test("a release costs one request too when it comes while another transaction is under way", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  await allocator.assign([workload("n1", "net.a")]);
  const before = cluster.requests;
  const [released, assigned] = await Promise.all([
    allocator.release([{ handle: "net.a" }]),
    allocator.assign([workload("n1", "net.b")]),
  ]);
  equal(cluster.requests - before, 1);
  deepEqual(released[0]!.released.map(formatIp), [
    "10.9." + ips(assigned[0]!)[0]!.split(".").slice(2, 3) + "." +
    (Number(ips(assigned[0]!)[0]!.split(".")[3]) - 1),
  ]);
});

Deno.test("the commit carries all written keys as events that bring a mirror up to date", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const [outcome] = await allocator.assign([workload("n1", "net.a", { with: puts(endpoint("w")) })]);
  mirror.learn(outcome!.commit!.events);
  const fresh = await cluster.mirror();
  for (const kv of fresh.list("/calico/ipam/")) deepEqual(mirror.get(kv.key), kv);
  deepEqual(mirror.get(endpoint("w")), fresh.get(endpoint("w")));
  equal(outcome!.commit!.revision, fresh.revision);
});

Deno.test("endpoint and address come together or not at all: an endpoint that exists stops its own request only", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  await cluster.put(endpoint("taken"), "{}");
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const [good, bad, alsoGood] = await allocator.assign([
    workload("n1", "net.a", { with: puts(endpoint("a")) }),
    workload("n1", "net.b", { with: puts(endpoint("taken")) }),
    workload("n1", "net.c", { with: puts(endpoint("c")) }),
  ]);
  equal(bad!.problem?.code, "conflict");
  equal(bad!.current?.get(endpoint("taken"))?.value, "{}");
  deepEqual([good!.problem, alsoGood!.problem], [undefined, undefined]);
  const contents = cluster.store.contents();
  ok(!contents.has("/calico/ipam/v2/handle/net.b"));
  ok(contents.has(endpoint("a")) && contents.has(endpoint("c")));
});

Deno.test("two requests that write the same endpoint do not go into one transaction; the second one is told", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const [first, second] = await allocator.assign([
    workload("n1", "net.a", { with: puts(endpoint("same")) }),
    workload("n1", "net.b", { with: puts(endpoint("same")) }),
  ]);
  equal(first!.problem, undefined);
  equal(second!.problem?.code, "conflict");
});

Deno.test("a mirror that lies behind costs one more request, and nothing is given twice", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const [old, other] = [await cluster.mirror(), await cluster.mirror()];
  await using first = cluster.allocator(() => other);
  await first.assign([workload("n1", "net.a"), workload("n1", "net.b")]);
  await using allocator = cluster.allocator(() => old);
  const before = cluster.requests;
  const [outcome] = await allocator.assign([workload("n1", "net.c")]);
  equal(cluster.requests - before, 2);
  equal(Number(ips(outcome!)[0]!.split(".")[3]) % 64, 2);
});

Deno.test("a release of a handle that the mirror has not heard of yet still releases it", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const [old, other] = [await cluster.mirror(), await cluster.mirror()];
  await using first = cluster.allocator(() => other);
  await first.assign([workload("n1", "net.a")]);
  await using allocator = cluster.allocator(() => old);
  const [outcome] = await allocator.release([{ handle: "net.a" }]);
  equal(outcome!.missing, false);
  equal(outcome!.released.length, 1);
});

Deno.test("a refusal is not believed while the mirror is old: a pool that was added meanwhile is found", async () => {
  const cluster = await TestCluster.with([], ["n1"]);
  const old = await cluster.mirror();
  await cluster.put(resourceKey("IPPool", "late"), { metadata: { name: "late" }, spec: { cidr: "10.8.0.0/24" } });
  await using allocator = cluster.allocator(() => old);
  const [outcome] = await allocator.assign([workload("n1", "net.a")]);
  equal(outcome!.problem, undefined);
  equal(outcome!.addresses.length, 1);
});

Deno.test("a full pool refuses with the figures, writes nothing, and neighbours get theirs", async () => {
  const cluster = await TestCluster.with([small, { name: "v6", cidr: "fd00::/120" }], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  await allocator.assign([workload("n1", "net.all", { families: { 4: 16 } })]);
  const [no, yes] = await allocator.assign([
    workload("n1", "net.dual", { families: { 4: 1, 6: 1 } }),
    workload("n1", "net.six", { families: { 6: 1 } }),
  ]);
  equal(no!.problem?.code, "exhausted");
  equal(
    no!.problem?.what,
    "Assigned 0 out of 1 requested IPv4 addresses; No IPs available in pools: [10.9.0.0/28]",
  );
  deepEqual([no!.addresses, no!.commit], [[], undefined]);
  equal(yes!.addresses.length, 1);
  ok(!cluster.store.contents().has("/calico/ipam/v2/handle/net.dual"));
});

Deno.test("dual stack is one transaction: both addresses or none", async () => {
  const cluster = await TestCluster.with([wide, { name: "v6", cidr: "fd00::/120" }], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const before = cluster.requests;
  const [outcome] = await allocator.assign([workload("n1", "net.a", { families: { 4: 1, 6: 1 } })]);
  equal(cluster.requests - before, 1);
  deepEqual(outcome!.addresses.map((a) => a.ip.v), [4, 6]);
  const handle = parseJson(cluster.store.contents().get("/calico/ipam/v2/handle/net.a")!);
  const blocks = outcome!.addresses.map((a) => formatCidr(a.block));
  deepEqual(handle, { block: { [blocks[0]!]: 1, [blocks[1]!]: 1 }, deleted: false });
});

Deno.test("a lost answer is found out by reading back; the address is given once", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  cluster.store.loseNextAnswer();
  const [outcome] = await allocator.assign([workload("n1", "net.a", { with: puts(endpoint("a")) })]);
  equal(outcome!.problem, undefined);
  equal(ips(outcome!).length, 1);
  const handle = parseJson(cluster.store.contents().get("/calico/ipam/v2/handle/net.a")!) as { block: object };
  deepEqual(Object.values(handle.block), [1]);
  cluster.store.loseNextAnswer();
  const [released] = await allocator.release([{
    handle: "net.a",
    with: () => ({
      compare: [{ key: endpoint("a"), revision: outcome!.commit!.revision }],
      write: [{ delete: endpoint("a") }],
    }),
  }]);
  equal(released!.problem, undefined);
  ok(!cluster.store.contents().has(endpoint("a")));
});

Deno.test("a call that fails before it reaches etcd is made again", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  cluster.store.failNext(3);
  const [outcome] = await allocator.assign([workload("n1", "net.a")]);
  equal(outcome!.problem, undefined);
});

Deno.test("with etcd away a request ends at its deadline with `unavailable`", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const mirror = await cluster.mirror();
  const { clock } = cluster;
  // Each back-off takes its time here, so that the deadline comes.
  const timed = {
    now: () => clock.now(),
    monotonicMs: () => clock.monotonicMs(),
    sleep: (ms: number, signal?: AbortSignal) => {
      if (ms <= 200) clock.advance(ms);
      return ms <= 200 ? Promise.resolve() : clock.sleep(ms, signal);
    },
  };
  await using allocator = cluster.allocator(() => mirror, { clock: timed });
  cluster.store.disconnect();
  const waiting = allocator.assign([workload("n1", "net.a", { deadlineMs: 1_000 })]);
  cluster.store.failNext(0);
  const [outcome] = await waiting;
  equal(outcome!.problem?.code, "unavailable");
});

Deno.test("a handle whose assignment was given up in doubt is barred from coming late by its release", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  const mirror = await cluster.mirror();
  await using first = cluster.allocator(() => mirror);
  await first.assign([workload("n1", "net.a")]);
  await mirror.sync();
  // A store whose first transaction reaches etcd only when we say so, after its caller has given up.
  let late: (() => Promise<unknown>) | undefined;
  let calls = 0;
  const slow = new Proxy(cluster.store, {
    get(store, name) {
      if (name !== "txn") return Reflect.get(store, name).bind?.(store) ?? Reflect.get(store, name);
      return (...args: Parameters<typeof store.txn>) => {
        if (calls++ > 0) return store.txn(...args);
        late = () => store.txn(...args);
        store.failNext();
        cluster.clock.advance(10_000);
        return store.txn(...args);
      };
    },
  });
  await using allocator = cluster.allocator(() => mirror, { store: slow });
  const [outcome] = await allocator.assign([workload("n1", "net.b")]);
  equal(outcome!.problem?.code, "unavailable");
  const [released] = await allocator.release([{ handle: "net.b" }]);
  equal(released!.missing, true);
  deepEqual(await late!().then((r) => (r as { committed: boolean }).committed), false);
  ok(!cluster.store.contents().has("/calico/ipam/v2/handle/net.b"));
});

Deno.test("nothing is given while the cluster is not ready, and the answer says so", async () => {
  const cluster = await TestCluster.with([wide], ["n1"]);
  await cluster.put(resourceKey("ClusterInformation", "default"), { spec: { datastoreReady: false } });
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const [outcome] = await allocator.assign([workload("n1", "net.a")]);
  equal(outcome!.problem?.code, "not-ready");
});

Deno.test("a pool whose JSON is broken is named in the refusal and does not stop the others", async () => {
  const cluster = await TestCluster.with([{ name: "good", cidr: "10.7.0.0/24" }], ["n1"]);
  await cluster.put(resourceKey("IPPool", "broken"), "{");
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const [fine, refused] = await allocator.assign([
    workload("n1", "net.a"),
    workload("n1", "net.b", { families: { 6: 1 } }),
  ]);
  equal(fine!.addresses.length, 1);
  ok(refused!.problem?.todo?.includes(resourceKey("IPPool", "broken")), `${refused!.problem?.message}`);
});

Deno.test("a block that cannot be read is neither used nor written over", async () => {
  const cluster = await TestCluster.with([small], ["n1"]);
  const key = "/calico/ipam/v2/assignment/ipv4/block/10.9.0.0-30";
  await cluster.put(key, "garbage");
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  const [outcome] = await allocator.assign([workload("n1", "net.a", { families: { 4: 16 }, partial: true })]);
  equal(outcome!.addresses.length, 12);
  equal(cluster.store.contents().get(key), "garbage");
  const [given] = await allocator.assign([workload("n1", "net.b", { address: [parseIp("10.9.0.1")] })]);
  equal(given!.problem?.code, "undecodable");
});

Deno.test("members of a block, handle and affinity that we do not know survive, and so do 64-bit numbers", async () => {
  const cluster = await TestCluster.with([small], ["n1"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror, { startBlock: () => 0n });
  await allocator.assign([workload("n1", "net.a")]);
  const keys = ["assignment/ipv4/block/10.9.0.0-30", "handle/net.a", "host/n1/ipv4/block/10.9.0.0-30"];
  for (const key of keys.map((k) => `/calico/ipam/v2/${k}`)) {
    const value = parseJson(cluster.store.contents().get(key)!) as Record<string, unknown>;
    const state = key.includes("/host/") ? { state: "pending" } : {};
    await cluster.put(key, writeJson({ ...value, ...state, newer: { deep: 18446744073709551615n } }));
  }
  await mirror.sync();
  await allocator.assign([workload("n1", "net.a")]);
  for (const key of keys) {
    const text = cluster.store.contents().get(`/calico/ipam/v2/${key}`)!;
    ok(text.includes('"newer":{"deep":18446744073709551615}'), text);
  }
});

Deno.test("releaseAffinities() and claimAffinities() give up and take whole networks", async () => {
  const cluster = await TestCluster.with([small], ["n1", "n2"]);
  const mirror = await cluster.mirror();
  await using allocator = cluster.allocator(() => mirror);
  await allocator.assign([workload("n1", "net.a")]);
  const { claimed, failed } = await allocator.claimAffinities("n2", parseCidr("10.9.0.0/28"));
  deepEqual([claimed.length, failed.length], [3, 1]);
  const kept = await allocator.releaseAffinities({ within: parseCidr("10.9.0.0/28") }, true);
  deepEqual(kept.blocks.map((b) => b.result).sort(), ["not empty", "released", "released", "released"]);
  await allocator.releaseAffinities({ node: "n1" }, false);
  const left = [...cluster.store.contents().keys()].filter((k) => k.startsWith("/calico/ipam/"));
  equal(left.length, 2, "the used block without owner, and its handle");
  await allocator.release([{ handle: "net.a" }]);
  deepEqual([...cluster.store.contents().keys()].filter((k) => k.startsWith("/calico/ipam/")), []);
});
