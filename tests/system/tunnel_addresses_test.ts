/** Tunnel addresses through IPAM on a real etcd: what Node, block and handle hold after each change of the pools. */
import assert from "node:assert/strict";
import { systemClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { openEtcd } from "../../datastore/etcd.ts";
import { Resources } from "../../datastore/resources.ts";
import type { Store } from "../../datastore/store.ts";
import { Allocator } from "../../ipam/commit.ts";
import { coldReader } from "../../ipam/view.ts";
import { newResource } from "../../datastore/cluster.ts";
import { ensureTunnelAddresses } from "../../node/tunnel_addresses.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";

/** A cluster with a Node, a ClusterInformation and the given pools. */
async function makeCluster(pools: Record<string, Record<string, unknown>>) {
  await using made = new AsyncDisposableStack();
  const etcd = made.use(await startEtcd());
  const store: Store = made.use(
    openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 3000 }, { clock: systemClock, log: silentLog }),
  );
  const resources = new Resources(store);
  await resources.create(newResource("ClusterInformation", "default", { datastoreReady: true }));
  await resources.create(newResource("Node", "alpha", { bgp: { ipv4Address: "192.0.2.2/24" } }));
  for (const [name, spec] of Object.entries(pools)) await resources.create(newResource("IPPool", name, spec));
  const reader = () => coldReader(store);
  const allocator = made.use(
    new Allocator({ store, reader, clock: systemClock, random: Math.random, log: silentLog }),
  );
  const parts = { node: "alpha", store, allocator, reader, hostEncryption: false, log: silentLog };
  const all = made.move();
  return {
    etcd,
    store,
    resources,
    ensure: () => ensureTunnelAddresses(parts),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

const jsonUnder = async (etcd: Etcd, prefix: string) =>
  Object.fromEntries([...await etcd.dump(prefix)].map(([key, value]) => [key.slice(prefix.length), JSON.parse(value)]));

Deno.test("a node gets its IPIP address: Node, block and handle are Calico's", async () => {
  await using cluster = await makeCluster({ p: { cidr: "10.65.0.0/16", ipipMode: "Always" } });
  const { done, problems } = await cluster.ensure();
  assert.deepEqual([done, problems], [["assign ipipTunnelAddress"], []]);
  const node = await cluster.resources.get("Node", "alpha");
  const address = (node.spec.bgp as { ipv4IPIPTunnelAddr: string }).ipv4IPIPTunnelAddr;
  const blocks = Object.entries(await jsonUnder(cluster.etcd, "/calico/ipam/v2/assignment/ipv4/block/"));
  assert.equal(blocks.length, 1);
  const [key, block] = blocks[0]!;
  assert.equal(address, key.split("-")[0], "the first address of the block");
  assert.equal(block.affinity, "host:alpha");
  assert.deepEqual(block.attributes, [
    { handle_id: "ipip-tunnel-addr-alpha", secondary: { node: "alpha", type: "ipipTunnelAddress" } },
  ]);
  const handles = await jsonUnder(cluster.etcd, "/calico/ipam/v2/handle/");
  assert.deepEqual(handles, { "ipip-tunnel-addr-alpha": { block: { [block.cidr]: 1 }, deleted: false } });
});

Deno.test("when all is well nothing is written", async () => {
  await using cluster = await makeCluster({ p: { cidr: "10.65.0.0/16", ipipMode: "Always" } });
  await cluster.ensure();
  const { revision } = await cluster.store.status();
  assert.deepEqual((await cluster.ensure()).done, []);
  assert.equal((await cluster.store.status()).revision, revision);
});

Deno.test("a pool that changes from IPIP to VXLAN exchanges the addresses and leaks none", async () => {
  await using cluster = await makeCluster({ p: { cidr: "10.65.0.0/16", ipipMode: "Always" } });
  await cluster.ensure();
  const pool = await cluster.resources.get("IPPool", "p");
  await cluster.resources.update({ ...pool, spec: { ...pool.spec, ipipMode: "Never", vxlanMode: "Always" } });
  const { done } = await cluster.ensure();
  assert.deepEqual(done, ["release handle ipipTunnelAddress", "assign vxlanTunnelAddress"]);
  const { spec } = await cluster.resources.get("Node", "alpha");
  assert.deepEqual(spec.bgp, { ipv4Address: "192.0.2.2/24" });
  assert.ok(spec.ipv4VXLANTunnelAddr);
  assert.deepEqual(Object.keys(await jsonUnder(cluster.etcd, "/calico/ipam/v2/handle/")), ["vxlan-tunnel-addr-alpha"]);
  const after = await cluster.resources.get("IPPool", "p");
  await cluster.resources.update({ ...after, spec: { ...after.spec, vxlanMode: "Never" } });
  assert.deepEqual((await cluster.ensure()).done, ["release handle vxlanTunnelAddress"]);
  assert.equal((await cluster.resources.get("Node", "alpha")).spec.ipv4VXLANTunnelAddr, undefined);
  assert.deepEqual(await jsonUnder(cluster.etcd, "/calico/ipam/v2/handle/"), {});
});

Deno.test("an address that an old version stored without a handle is taken over, the same one", async () => {
  await using cluster = await makeCluster({ p: { cidr: "10.65.0.0/16", ipipMode: "Always" } });
  await cluster.ensure();
  const [[key, text]] = [...await cluster.etcd.dump("/calico/ipam/v2/assignment/")] as [[string, string]];
  const old = { ...JSON.parse(text), attributes: [{ handle_id: null, secondary: null }] };
  await cluster.store.txn({
    compare: [],
    write: [{ put: key, value: JSON.stringify(old) }, { delete: "/calico/ipam/v2/handle/ipip-tunnel-addr-alpha" }],
  });
  const before = (await cluster.resources.get("Node", "alpha")).spec.bgp;
  assert.deepEqual((await cluster.ensure()).done, ["release address ipipTunnelAddress", "take ipipTunnelAddress"]);
  assert.deepEqual((await cluster.resources.get("Node", "alpha")).spec.bgp, before);
  assert.deepEqual(Object.keys(await jsonUnder(cluster.etcd, "/calico/ipam/v2/handle/")), ["ipip-tunnel-addr-alpha"]);
});

Deno.test("a kind without an address left is told, and the others are in order", async () => {
  await using cluster = await makeCluster({
    full: { cidr: "10.65.0.0/32", blockSize: 32, ipipMode: "Always" },
    v6: { cidr: "fd00:65::/64", vxlanMode: "Always" },
  });
  await cluster.store.txn({
    compare: [],
    write: [{
      put: "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-32",
      value: JSON.stringify({
        cidr: "10.65.0.0/32",
        affinity: "host:beta",
        allocations: [0],
        unallocated: [],
        attributes: [{ handle_id: "pod", secondary: {} }],
        sequenceNumber: 1,
      }),
    }],
  });
  const { done, problems } = await cluster.ensure();
  assert.deepEqual(done, ["assign vxlanV6TunnelAddress"]);
  assert.equal(problems.length, 1);
  assert.equal(problems[0]!.code, "exhausted");
  const { spec } = await cluster.resources.get("Node", "alpha");
  assert.match(String(spec.ipv6VXLANTunnelAddr), /^fd00:65::/);
});

Deno.test("a node without a Node resource gets none", async () => {
  await using cluster = await makeCluster({ p: { cidr: "10.65.0.0/16", ipipMode: "Always" } });
  await cluster.store.txn({
    compare: [],
    write: [{ delete: "/calico/resources/v3/projectcalico.org/nodes/alpha" }],
  });
  assert.deepEqual(await cluster.ensure(), { done: [], problems: [] });
});
