import assert from "node:assert/strict";
import { Findings } from "./resources.ts";
import { Snapshot } from "./snapshot.ts";

const prefix = "/calico/resources/v3/projectcalico.org/";
const kv = (key: string, value: unknown) => ({
  key,
  value: typeof value === "string" ? value : JSON.stringify(value),
  revision: 1n,
  created: 1n,
});
const pool = (cidr: unknown) =>
  kv(`${prefix}ippools/p`, {
    kind: "IPPool",
    apiVersion: "projectcalico.org/v3",
    metadata: { name: "p" },
    spec: { cidr },
  });

Deno.test("a value that cannot be understood is named and the last good one stays in force, until it is deleted", () => {
  const snapshot = new Snapshot("n1");
  const problems = () => {
    const findings = new Findings();
    snapshot.tell(findings);
    return findings.problems.map((p) => p.where);
  };
  assert.ok(snapshot.update({ set: [pool("10.65.0.0/16")], deleted: [] }));
  assert.ok(snapshot.update({ set: [pool(7)], deleted: [] }));
  assert.equal(snapshot.resources.ipPools.get("p")?.spec.cidr, "10.65.0.0/16");
  assert.deepEqual(problems(), [`${prefix}ippools/p`]);
  assert.ok(snapshot.update({ set: [pool("10.66.0.0/16")], deleted: [] }));
  assert.equal(snapshot.resources.ipPools.get("p")?.spec.cidr, "10.66.0.0/16");
  assert.deepEqual(problems(), []);
  assert.ok(snapshot.update({ set: [], deleted: [`${prefix}ippools/p`] }));
  assert.equal(snapshot.resources.ipPools.size, 0);
});

Deno.test("only own affinities count, not those of a node whose name begins with ours", () => {
  const snapshot = new Snapshot("n1");
  const key = (node: string) => `/calico/ipam/v2/host/${node}/ipv4/block/10.65.0.0-26`;
  assert.ok(!snapshot.update({ set: [kv(key("n10"), { state: "confirmed" })], deleted: [] }));
  assert.ok(snapshot.update({ set: [kv(key("n1"), "")], deleted: [] }));
  assert.deepEqual([...snapshot.resources.affinities], [["10.65.0.0/26", ""]]);
  assert.ok(snapshot.update({ set: [kv(key("n1"), "[]")], deleted: [] }));
  assert.deepEqual([...snapshot.resources.affinities], [["10.65.0.0/26", ""]]);
  assert.ok(snapshot.update({ set: [], deleted: [key("n1")] }));
  assert.equal(snapshot.resources.affinities.size, 0);
});

Deno.test("what routing does not read wakes nobody", () => {
  const snapshot = new Snapshot("n1");
  const set = [
    kv(`${prefix}workloadendpoints/shop/n1-k8s-web-eth0`, {}),
    kv("/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26", {}),
    kv("/calico/ipam/v2/handle/k8s-pod-network.x", {}),
  ];
  assert.ok(!snapshot.update({ set, deleted: set.map((s) => s.key) }));
});
