import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { parseJson, writeJson } from "../lib/json64.ts";
import { isProblem, type ProblemCode } from "../lib/problem.ts";
import { ensureInitialized } from "./cluster.ts";
import { apiVersion, type Resource } from "./kind.ts";
import type { ClusterInformation } from "./kinds/cluster_information.ts";
import type { GlobalNetworkPolicy } from "./kinds/policy.ts";
import type { IPPool } from "./kinds/ip_pool.ts";
import type { Tier } from "./kinds/tier.ts";
import { resourceKey } from "./keys.ts";
import { MemoryStore } from "./memory.ts";
import { Resources } from "./resources.ts";

interface World extends AsyncDisposable {
  store: MemoryStore;
  resources: Resources;
}

/** A store with the tiers and the ClusterInformation that every cluster has. */
async function makeWorld(): Promise<World> {
  const store = new MemoryStore();
  let uids = 0;
  const resources = new Resources(store, { clock: new FakeClock(), uuid: () => `uid-${++uids}` });
  await ensureInitialized(resources, "test");
  return { store, resources, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
}

const pool = (name: string, cidr: string, more: Partial<IPPool["spec"]> = {}): IPPool => ({
  kind: "IPPool",
  apiVersion,
  metadata: { name },
  spec: { cidr, ...more },
});

const set = (name: string, ...nets: string[]): Resource => ({
  kind: "GlobalNetworkSet",
  apiVersion,
  metadata: { name },
  spec: { nets },
});

const policy = (name: string, tier: string): GlobalNetworkPolicy => ({
  kind: "GlobalNetworkPolicy",
  apiVersion,
  metadata: { name },
  spec: { tier },
});

const tier = (name: string): Tier => ({ kind: "Tier", apiVersion, metadata: { name }, spec: { order: 5 }, status: {} });

const fails = (code: ProblemCode, what?: string) => (error: unknown) =>
  isProblem(error, code) && (what === undefined || error.what === what);

Deno.test("create() stores an object with uid, time and defaults, and answers it with its revision", async () => {
  await using world = await makeWorld();
  const given = pool("a", "10.0.0.0/16");
  const created = await world.resources.create(given);
  assert.deepEqual(given, pool("a", "10.0.0.0/16"), "the argument is not changed");
  assert.equal(created.spec.blockSize, 26);
  assert.deepEqual(created.metadata, {
    name: "a",
    uid: created.metadata.uid,
    creationTimestamp: "2026-01-02T03:04:05Z",
    resourceVersion: String((await world.store.get(resourceKey("IPPool", "a")))!.revision),
  });
  assert.deepEqual(await world.resources.get("IPPool", "a"), created);
});

Deno.test("create() of a name that is taken is refused, and update() of one that is not", async () => {
  await using world = await makeWorld();
  const stored = await world.resources.create(set("a"));
  const exists = "resource already exists: GlobalNetworkSet(a) with error: <nil>";
  await assert.rejects(world.resources.create(set("a")), fails("exists", exists));
  const missing = { ...stored, metadata: { ...stored.metadata, name: "b" } };
  const absent = "resource does not exist: GlobalNetworkSet(b) with error: <nil>";
  await assert.rejects(world.resources.update(missing), fails("not-found", absent));
});

Deno.test("update() needs the newest revision, uid and creation time", async () => {
  await using world = await makeWorld();
  const first = await world.resources.create(set("a"));
  const second = await world.resources.update({ ...first, spec: { nets: ["10.0.0.0/8"] } });
  assert.notEqual(second.metadata.resourceVersion, first.metadata.resourceVersion);
  const stale = { ...first, spec: { nets: ["10.0.0.0/9"] } };
  await assert.rejects(world.resources.update(stale), fails("conflict", "update conflict: GlobalNetworkSet(a)"));
  for (const member of ["resourceVersion", "uid", "creationTimestamp"]) {
    const metadata = { ...second.metadata, [member]: undefined };
    await assert.rejects(world.resources.update({ ...second, metadata }), fails("validation"), member);
  }
});

Deno.test("of two writers with the same revision one wins", async () => {
  await using world = await makeWorld();
  const stored = await world.resources.create(set("a"));
  const outcomes = await Promise.allSettled(
    ["10.0.0.0/8", "11.0.0.0/8"].map((net) => world.resources.update({ ...stored, spec: { nets: [net] } })),
  );
  assert.deepEqual(outcomes.map((o) => o.status).sort(), ["fulfilled", "rejected"]);
  const loser = outcomes.find((o) => o.status === "rejected")!;
  assert.ok(fails("conflict")(loser.reason));
});

Deno.test("two overlapping pools are never both stored, however close they are written", async () => {
  await using world = await makeWorld();
  const outcomes = await Promise.allSettled([
    world.resources.create(pool("a", "10.0.0.0/16")),
    world.resources.create(pool("b", "10.0.128.0/17")),
    world.resources.create(pool("c", "10.1.0.0/16")),
  ]);
  assert.deepEqual(outcomes.map((o) => o.status), ["fulfilled", "rejected", "fulfilled"]);
});

Deno.test("a pool does not fit over blocks of another size", async () => {
  await using world = await makeWorld();
  const key = "/calico/ipam/v2/assignment/ipv4/block/10.0.0.64-28";
  await world.store.txn({ compare: [], write: [{ put: key, value: "{}" }] });
  await assert.rejects(world.resources.create(pool("a", "10.0.0.0/16")), (error) => {
    assert.ok(fails("validation")(error));
    return isProblem(error) && error.fields![0]!.field === "IPPool.Spec.BlockSize";
  });
  await world.resources.create(pool("b", "10.0.0.0/16", { blockSize: 28 }));
});

Deno.test("a policy needs its tier at create, also when the tier goes at the same moment", async () => {
  await using world = await makeWorld();
  const missing = "resource does not exist: Tier(sec) with error: <nil>";
  await assert.rejects(world.resources.create(policy("p", "sec")), fails("not-found", missing));
  for (let round = 0; round < 20; round++) {
    await world.resources.create(tier("sec"));
    await Promise.allSettled([world.resources.create(policy("p", "sec")), world.resources.delete("Tier", "sec")]);
    const { items: tiers } = await world.resources.list("Tier");
    const { items: policies } = await world.resources.list("GlobalNetworkPolicy");
    const hasTier = tiers.some((t) => t.metadata.name === "sec");
    assert.ok(policies.length === 0 || hasTier, "a policy without its tier");
    for (const p of policies) await world.resources.delete("GlobalNetworkPolicy", p.metadata.name);
    if (hasTier) await world.resources.delete("Tier", "sec");
  }
});

Deno.test("a tier with policies, and a tier of every cluster, cannot be deleted", async () => {
  await using world = await makeWorld();
  await world.resources.create(tier("sec"));
  await world.resources.create(policy("p", "sec"));
  const used = "operation delete is not supported on sec: Cannot delete a non-empty tier";
  await assert.rejects(world.resources.delete("Tier", "sec"), fails("unsupported", used));
  const fixed = "operation Delete is not supported on default: Cannot delete default tier";
  await assert.rejects(world.resources.delete("Tier", "default"), fails("unsupported", fixed));
});

Deno.test("a write whose answer is lost is done once and answered as done", async () => {
  await using world = await makeWorld();
  world.store.loseNextAnswer();
  const created = await world.resources.create(set("a"));
  assert.equal(created.metadata.name, "a");
  world.store.loseNextAnswer();
  const updated = await world.resources.update({ ...created, spec: { nets: ["10.0.0.0/8"] } });
  assert.deepEqual(await world.resources.get("GlobalNetworkSet", "a"), updated);
  world.store.loseNextAnswer();
  await world.resources.delete("GlobalNetworkSet", "a");
  await assert.rejects(world.resources.get("GlobalNetworkSet", "a"), fails("not-found"));
});

Deno.test("a store that is away is told as such", async () => {
  await using world = await makeWorld();
  world.store.failNext(3);
  await assert.rejects(world.resources.create(set("a")), fails("unavailable"));
});

Deno.test("apply() creates, then replaces labels and spec, and leaves what is equal alone", async () => {
  await using world = await makeWorld();
  const labelled: Resource = { ...set("a", "10.0.0.0/8"), metadata: { name: "a", labels: { x: "1" } } };
  const first = await world.resources.apply(labelled);
  assert.equal(first.done, "created");
  const before = (await world.store.status()).revision;
  const again = await world.resources.apply(labelled);
  assert.equal(again.done, "unchanged");
  assert.equal((await world.store.status()).revision, before);
  const changed = await world.resources.apply(set("a", "10.0.0.0/8"));
  assert.equal(changed.done, "configured");
  assert.equal(changed.resource.metadata.labels, undefined);
  assert.equal(changed.resource.metadata.uid, first.resource.metadata.uid);
});

Deno.test("apply() with a revision that is not the stored one is refused", async () => {
  await using world = await makeWorld();
  await world.resources.create(set("a"));
  const stale = { ...set("a"), metadata: { name: "a", resourceVersion: "1" } };
  await assert.rejects(world.resources.apply(stale), fails("conflict", "update conflict: GlobalNetworkSet(a)"));
});

Deno.test("many appliers of one object all get it done", async () => {
  await using world = await makeWorld();
  const nets = ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"];
  await Promise.all(nets.map((net) => world.resources.apply(set("a", net))));
  const stored = await world.resources.get("GlobalNetworkSet", "a");
  assert.ok(nets.includes((stored.spec.nets as string[])[0]!));
});

Deno.test("members of a newer version that we do not know survive a change of ours", async () => {
  await using world = await makeWorld();
  const stored = await world.resources.create(set("a"));
  const key = resourceKey("GlobalNetworkSet", "a");
  const value = parseJson((await world.store.get(key))!.value) as Record<string, Record<string, unknown>>;
  const newer = { ...value, spec: { ...value.spec, expiry: 9007199254740993n } };
  await world.store.txn({ compare: [], write: [{ put: key, value: writeJson(newer) }] });
  const read = await world.resources.get("GlobalNetworkSet", stored.metadata.name);
  await world.resources.update({ ...read, metadata: { ...read.metadata, labels: { a: "b" } } });
  assert.match((await world.store.get(key))!.value, /"expiry":9007199254740993[,}]/);
});

Deno.test("calicoVersion is not ours to write, and Calico's stays", async () => {
  await using world = await makeWorld();
  const info = await world.resources.get<ClusterInformation>("ClusterInformation", "default");
  const mine = await world.resources.update({ ...info, spec: { ...info.spec, calicoVersion: "v9", variant: "x" } });
  assert.equal(mine.spec.calicoVersion, undefined);
  const key = resourceKey("ClusterInformation", "default");
  const kv = (await world.store.get(key))!;
  const theirs = kv.value.replace('"clusterType"', '"calicoVersion":"v3.33.0","clusterType"');
  await world.store.txn({ compare: [], write: [{ put: key, value: theirs }] });
  await ensureInitialized(world.resources, "more");
  const after = await world.resources.get<ClusterInformation>("ClusterInformation", "default");
  assert.equal(after.spec.calicoVersion, "v3.33.0");
  assert.equal(after.spec.clusterType, "test,more");
  assert.equal(after.spec.clusterGUID, info.spec.clusterGUID);
});

Deno.test("a value that cannot be read is told, can be deleted, and hides no other", async () => {
  await using world = await makeWorld();
  const key = resourceKey("GlobalNetworkSet", "broken");
  await world.store.txn({ compare: [], write: [{ put: key, value: '{"spec":{"nets":3}}' }] });
  await world.resources.create(set("good"));
  const list = await world.resources.list("GlobalNetworkSet");
  assert.deepEqual(list.items.map((r) => r.metadata.name), ["good"]);
  assert.deepEqual(list.undecodable.map((u) => u.why), ["spec.nets: number cannot be read as array"]);
  await assert.rejects(world.resources.get("GlobalNetworkSet", "broken"), fails("undecodable"));
  const deleted = await world.resources.delete("GlobalNetworkSet", "broken");
  assert.equal(deleted.metadata.name, "broken");
});

Deno.test("the built-in profile is shown, and cannot be written", async () => {
  await using world = await makeWorld();
  const name = "projectcalico-default-allow";
  const profile = await world.resources.get("Profile", name);
  assert.deepEqual((await world.resources.list("Profile")).items.map((p) => p.metadata.name), [name]);
  await assert.rejects(world.resources.create({ ...profile, metadata: { name } }), fails("exists"));
  await assert.rejects(world.resources.delete("Profile", name), fails("unsupported"));
});

Deno.test("namespaced kinds need a namespace, and lists can be of one", async () => {
  await using world = await makeWorld();
  const netset = (namespace?: string): Resource => ({
    kind: "NetworkSet",
    apiVersion,
    metadata: { name: "a", namespace },
    spec: {},
  });
  await assert.rejects(world.resources.create(netset()), fails("validation"));
  await world.resources.create(netset("one"));
  await world.resources.create(netset("two"));
  assert.equal((await world.resources.list("NetworkSet")).items.length, 2);
  const one = (await world.resources.list("NetworkSet", "one")).items;
  assert.deepEqual(one.map((r) => r.metadata.namespace), ["one"]);
});

Deno.test("tiers are listed by their order, with the defaults that they lack", async () => {
  await using world = await makeWorld();
  await world.resources.create(tier("sec"));
  const key = resourceKey("Tier", "bare");
  await world.store.txn({ compare: [], write: [{ put: key, value: '{"metadata":{"name":"bare"},"spec":{}}' }] });
  const { items } = await world.resources.list<Tier>("Tier");
  assert.deepEqual(items.map((t) => [t.metadata.name, t.spec.order]), [
    ["sec", 5],
    ["kube-admin", 1000],
    ["bare", 1_000_000],
    ["default", 1_000_000],
    ["kube-baseline", 10_000_000],
  ]);
});
