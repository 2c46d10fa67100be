import { deepEqual, equal } from "node:assert/strict";
import { formatCidr, formatIp, parseCidr } from "../lib/ip.ts";
import { blockKey } from "../datastore/keys.ts";
import { parseJson } from "../lib/json64.ts";
import { judge } from "../tests/ipam_judge.ts";
import { collect, type Collection, type LocalTruth, type Suspects } from "./collect.ts";
import { viewOf } from "./view.ts";
import { TestCluster, workload } from "./_test_cluster.ts";

const graceMs = 900_000;
const truth = (more: Partial<LocalTruth> = {}): LocalTruth => ({
  node: "n1",
  validHandles: new Set(),
  endpointAddresses: new Set(),
  interfaceAddresses: new Set(),
  complete: true,
  ...more,
});

async function started() {
  const cluster = await TestCluster.with([{ name: "p", cidr: "10.9.0.0/27", blockSize: 30 }], ["n1", "n2"]);
  const mirror = await cluster.mirror();
  const allocator = cluster.allocator(() => mirror, { startBlock: () => 0n });
  let suspects: Suspects = new Map();
  /** A look after `laterMs`. */
  const look = async (laterMs: number, t = truth()): Promise<Collection> => {
    cluster.clock.step(laterMs);
    await mirror.sync();
    const found = collect(viewOf(mirror), t, suspects, { nowMs: cluster.clock.now(), graceMs });
    suspects = found.suspects;
    return found;
  };
  return { cluster, allocator, look };
}

const leaked = (found: Collection) => found.leaks.map((l) => formatIp(l.ip));

Deno.test("an address that nobody uses is released after the grace period, with the reason", async () => {
  const { cluster, allocator, look } = await started();
  const attributes = { node: "n1", pod: "web-0", namespace: "shop" };
  await allocator.assign([workload("n1", "net.gone", { attributes }), workload("n1", "net.used")]);
  const t = truth({ validHandles: new Set(["net.used"]) });
  deepEqual(leaked(await look(0, t)), []);
  deepEqual(leaked(await look(graceMs - 1, t)), []);
  const found = await look(1, t);
  deepEqual(leaked(found), ["10.9.0.0"]);
  equal(found.leaks[0]!.reason, "no attachment, endpoint or interface of n1 has it (pod shop/web-0)");
  const done = await allocator.clean(found, "n1");
  equal(done.released.length, 1);
  deepEqual(judge(cluster.store.contents(), { held: new Map([["10.9.0.1", "net.used"]]) }), []);
});

Deno.test("an endpoint, an interface or an attachment keeps an address; so does not knowing all attachments", async () => {
  const { allocator, look } = await started();
  await allocator.assign(["a", "b", "c"].map((h) => workload("n1", `net.${h}`)));
  const t = truth({
    validHandles: new Set(["net.a"]),
    endpointAddresses: new Set(["10.9.0.1"]),
    interfaceAddresses: new Set(["10.9.0.2"]),
  });
  await look(0, t);
  deepEqual(leaked(await look(graceMs, t)), []);
  await look(0, truth({ complete: false }));
  deepEqual(leaked(await look(graceMs, truth({ complete: false }))), []);
});

Deno.test("suspicion begins anew when the address was given to somebody else, or was used in between", async () => {
  const { allocator, look } = await started();
  await allocator.assign([workload("n1", "net.a"), workload("n1", "net.b")]);
  await look(0);
  await look(graceMs / 2, truth({ interfaceAddresses: new Set(["10.9.0.0"]) }));
  deepEqual(leaked(await look(graceMs / 2)), ["10.9.0.1"]);
});

Deno.test("a handle with one address in use loses none", async () => {
  const { allocator, look } = await started();
  await allocator.assign([workload("n1", "net.two", { families: { 4: 2 } })]);
  const t = truth({ interfaceAddresses: new Set(["10.9.0.1"]) });
  await look(0, t);
  deepEqual(leaked(await look(graceMs, t)), []);
});

Deno.test("tunnel addresses, other nodes' and addresses without handle are never judged", async () => {
  const { allocator, look } = await started();
  await allocator.assign([
    workload("n1", "vxlan-tunnel-addr-n1", { use: "Tunnel", attributes: { node: "n1", type: "vxlanTunnelAddress" } }),
    workload("n2", "net.other"),
    { ...workload("n1", ""), handle: undefined },
  ]);
  await look(0);
  deepEqual(leaked(await look(graceMs)), []);
});

Deno.test("an address that was given again between look and release stays with its new holder", async () => {
  const { cluster, allocator, look } = await started();
  await allocator.assign([workload("n1", "net.a")]);
  await look(0);
  const found = await look(graceMs);
  await allocator.release([{ handle: "net.a" }]);
  await allocator.assign(["b", "c", "d", "e"].map((h) => workload("n1", `net.${h}`)));
  const done = await allocator.clean(found, "n1");
  equal(done.released.length, 0);
  const held = new Map([["10.9.0.1", "net.b"], ["10.9.0.2", "net.c"], ["10.9.0.3", "net.d"], ["10.9.0.0", "net.e"]]);
  deepEqual(judge(cluster.store.contents(), { held }), []);
});

Deno.test("stale handles, spare blocks, abandoned blocks and lost claims go; the last block of a node stays", async () => {
  const { cluster, allocator, look } = await started();
  await allocator.assign([workload("n1", "net.a", { families: { 4: 8 } }), workload("n2", "net.b")]);
  await allocator.release([{ handle: "net.a" }]);
  await cluster.put("/calico/ipam/v2/handle/net.stale", { block: { "10.9.0.0/30": 1 }, deleted: false });
  await cluster.put("/calico/ipam/v2/handle/net.n2s", { block: { "10.9.0.8/30": 1 }, deleted: false });
  await cluster.put("/calico/ipam/v2/host/n1/ipv4/block/10.9.0.8-30", { state: "pending" });
  await cluster.put("/calico/ipam/v2/host/n1/ipv4/block/10.9.0.12-30", { state: "pending" });
  const empty = parseJson(cluster.store.contents().get(blockKey(parseCidr("10.9.0.0/30")))!) as object;
  await cluster.put(blockKey(parseCidr("10.9.0.16/30")), { ...empty, cidr: "10.9.0.16/30", affinity: null });
  await look(0);
  const found = await look(graceMs);
  deepEqual(found.handles, ["net.stale"]);
  deepEqual(found.spare.map(formatCidr).sort(), ["10.9.0.0/30", "10.9.0.12/30", "10.9.0.8/30"]);
  deepEqual(found.abandoned.map(formatCidr), ["10.9.0.16/30"]);
  await allocator.clean(found, "n1");
  await allocator.release([{ handle: "net.n2s" }]);
  deepEqual(judge(cluster.store.contents(), { held: new Map([["10.9.0.8", "net.b"]]) }), []);
  equal(cluster.store.contents().has(blockKey(parseCidr("10.9.0.4/30"))), true);
  const again = await look(graceMs);
  deepEqual([again.handles, again.spare, again.abandoned], [[], [], []]);
});

Deno.test("addresses whose cooldown is over are freed in etcd", async () => {
  const { cluster, allocator, look } = await started();
  await cluster.put("/calico/ipam/v2/config", { auto_allocate_blocks: true, ipCooldownSeconds: 60 });
  await look(0);
  await allocator.assign([workload("n1", "net.a")]);
  await allocator.release([{ handle: "net.a" }]);
  deepEqual((await look(30_000)).cooled, []);
  const found = await look(31_000);
  deepEqual(found.cooled.map(formatCidr), ["10.9.0.0/30"]);
  await allocator.clean(found, "n1");
  equal(cluster.store.contents().get(blockKey(parseCidr("10.9.0.0/30")))!.includes("releasedAt"), false);
  deepEqual((await look(0)).cooled, []);
});
