import assert from "node:assert/strict";
import { resourceKey } from "../../datastore/keys.ts";
import { ChangeReader } from "./changes.ts";

const kv = (key: string, value: string) => ({ key, value, revision: 1n, created: 1n });

Deno.test("an object is called as its key says, whatever its annotation says, so that its delete finds it", () => {
  const key = resourceKey("NetworkPolicy", "default.web", "shop");
  const value = JSON.stringify({
    kind: "NetworkPolicy",
    metadata: { name: "default.web", namespace: "shop" },
    spec: {},
  });
  const { changes } = new ChangeReader().read({ set: [kv(key, value)], deleted: [key] });
  assert.deepEqual(changes.map((c) => ("set" in c ? c.set.metadata.name : c.delete.metadata.name)), [
    "default.web",
    "default.web",
  ]);
});

Deno.test("a value that is no resource is named by its key; kinds that policy does not use are left out", () => {
  const broken = resourceKey("Tier", "a"), pool = resourceKey("IPPool", "p");
  const { changes, broken: named } = new ChangeReader().read({
    set: [kv(broken, "[]"), kv(pool, "{}")],
    deleted: [pool],
  });
  assert.deepEqual([changes, [...named.keys()]], [[], [broken]]);
});

const policyKey = resourceKey("GlobalNetworkPolicy", "no-ssh");
const policy = (port: number, more = {}) =>
  JSON.stringify({
    kind: "GlobalNetworkPolicy",
    metadata: { name: "no-ssh" },
    spec: {
      ...{ tier: "security", order: 7, selector: "role == 'db'", types: ["Ingress"] },
      ingress: [{ action: "Deny", protocol: "TCP", destination: { ports: [port] } }],
      ...more,
    },
  });
const specOf = (changes: ReturnType<ChangeReader["read"]>["changes"]) =>
  changes.map((c) => ("set" in c ? (c.set as unknown as { spec: Record<string, unknown> }).spec : "deleted"));

Deno.test("of a policy that was never readable a rule that cannot be read denies, or allows nothing", () => {
  const reader = new ChangeReader();
  const first = reader.read({ set: [kv(policyKey, policy(70000))], deleted: [] });
  const place = { tier: "security", order: 7, selector: "role == 'db'", types: ["Ingress"] };
  assert.deepEqual(specOf(first.changes), [{ ...place, ingress: [{ action: "Deny" }], egress: [] }]);
  assert.match(first.broken.get(policyKey)!, /ports.*cannot be read deny/);
  // What cannot be read of its reach widens it; an Allow that cannot be read is no rule; the others stay as they are.
  const allow = { action: "Allow", destination: { ports: [70000] } }, ssh = { action: "Deny", protocol: "TCP" };
  const ssh4 = { ...ssh, ipVersion: null, notProtocol: null };
  const odd = { selector: "role ==", types: 5, ingress: [allow, ssh4], egress: 7 };
  const wider = reader.read({ set: [kv(policyKey, policy(22, odd))], deleted: [] });
  const both = ["Ingress", "Egress"];
  assert.deepEqual(specOf(wider.changes), [
    { ...place, selector: "all()", types: both, ingress: [ssh], egress: [{ action: "Deny" }] },
  ]);
  const good = reader.read({ set: [kv(policyKey, policy(22))], deleted: [] });
  assert.equal(good.broken.size, 0);
  // Now it has a good version, which stays.
  const again = reader.read({ set: [kv(policyKey, policy(70000))], deleted: [] });
  assert.deepEqual([again.changes.length, again.broken.size], [0, 1]);
  reader.read({ set: [], deleted: [policyKey] });
  assert.equal(reader.read({ set: [kv(policyKey, policy(70000))], deleted: [] }).changes.length, 1);
});

Deno.test("what is no JSON, and staged policies, close nothing", () => {
  const staged = resourceKey("StagedGlobalNetworkPolicy", "s");
  const { changes, broken } = new ChangeReader().read({
    set: [kv(policyKey, "{"), kv(staged, policy(70000))],
    deleted: [],
  });
  assert.deepEqual([changes, broken.size], [[], 2]);
});

Deno.test("a network set that was never readable stands as one of which not all is known, under the labels that are", () => {
  const key = resourceKey("GlobalNetworkSet", "bad");
  const value = (nets: unknown, labels: unknown = { kind: "bad", n: 5 }) =>
    JSON.stringify({ kind: "GlobalNetworkSet", metadata: { name: "bad", labels }, spec: { nets } });
  const reader = new ChangeReader();
  const read = (text: string) => reader.read({ set: [kv(key, text)], deleted: [] });
  const setOf = ({ changes: [first] }: ReturnType<typeof read>) => "set" in first! ? first.set : undefined;
  const first = read(value("192.0.2.0/24"));
  assert.deepEqual(setOf(first)?.metadata.labels, { kind: "bad", n: "5" });
  assert.deepEqual(setOf(first)?.spec, { nets: ['"192.0.2.0/24" in place of a list'] });
  assert.match(first.broken.get(key)!, /deny by it/);
  assert.deepEqual(setOf(read(value(["192.0.2.0/24", 7])))?.spec, { nets: ["192.0.2.0/24", "7"] });
  assert.deepEqual(setOf(read(value(["192.0.2.0/24"])))?.spec, { nets: ["192.0.2.0/24"] }, "only a label is strange");
  assert.equal(read("no json").changes.length, 0, "nothing tells which selectors mean it");
  read(value(["192.0.2.0/24"], { kind: "bad" }));
  assert.equal(read(value(7)).changes.length, 0, "the last good version stays");
});
