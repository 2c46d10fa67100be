import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { isProblem } from "../lib/problem.ts";
import type { Author } from "./history.ts";
import { readHistory } from "./history.ts";
import { apiVersion, type Resource } from "./kind.ts";
import { resourceKey } from "./keys.ts";
import { MemoryStore } from "./memory.ts";
import {
  commitPending,
  confirmPending,
  guardKey,
  lastUndoneKey,
  type PendingFound,
  pendingPrefix,
  readPending,
  undoPending,
} from "./pending.ts";
import { Rehearsal } from "./rehearsal.ts";
import { Resources } from "./resources.ts";

const ann: Author = { user: "ann", host: "n1", from: "203.0.113.7", command: "ctl apply" };
const agent: Author = { user: "tortie", host: "n1" };
const at = "2026-01-02T03:04:05Z";

const object = (kind: string, name: string, spec: Record<string, unknown>): Resource => ({
  ...{ kind, apiVersion, metadata: { name } },
  spec,
});
const set = (name: string, ...nets: string[]) => object("GlobalNetworkSet", name, { nets });
const policyIn = (tier: string) => object("GlobalNetworkPolicy", `${tier}.p`, { tier, selector: "all()" });

async function makeWorld() {
  const clock = new FakeClock(), store = new MemoryStore({ clock });
  const resources = new Resources(store, { clock });
  await store.txn({ compare: [], write: [{ put: guardKey("n1"), value: "" }] });
  const apply = async (...objects: Resource[]) => {
    const rehearsal = await Rehearsal.of(store, { clock });
    for (const o of objects) await rehearsal.resources.apply(o);
    return await commitPending(store, rehearsal, { id: crypto.randomUUID(), at, by: ann, seconds: 60 });
  };
  const nets = async (name: string) => (await resources.get("GlobalNetworkSet", name)).spec.nets;
  const pendingKeys = () => [...store.contents().keys()].filter((k) => k.startsWith(pendingPrefix));
  return { clock, store, resources, apply, nets, pendingKeys };
}

Deno.test("what is confirmed stays, and nothing of its record does", async () => {
  const { clock, store, apply, nets, pendingKeys } = await makeWorld();
  const found = await apply(set("a", "10.0.0.0/8"));
  assert.equal((await readPending(store))[0]!.isOver, false);
  assert.equal(await confirmPending(store, found!), true);
  assert.equal(await confirmPending(store, found!), false);
  await clock.advance(120_000);
  assert.deepEqual([await nets("a"), await readPending(store), pendingKeys()], [["10.0.0.0/8"], [], []]);
});

Deno.test("when its time is over everything is as it was: what was made is gone, what was changed is back", async () => {
  const { clock, store, resources, apply, pendingKeys } = await makeWorld();
  await resources.apply(set("a", "10.0.0.0/8"));
  const before = store.contents().get(resourceKey("GlobalNetworkSet", "a"));
  await apply(set("a", "10.0.0.0/9"), set("b", "10.1.0.0/16"));
  await clock.advance(59_000);
  assert.equal((await readPending(store))[0]!.isOver, false);
  await clock.advance(1_000);
  const [found] = await readPending(store);
  assert.equal(found!.isOver, true);
  const undone = await undoPending(store, found!, agent, at);
  assert.deepEqual(undone, { restored: ["GlobalNetworkSet(a)", "GlobalNetworkSet(b)"], kept: [] });
  assert.equal(store.contents().get(resourceKey("GlobalNetworkSet", "a")), before);
  assert.equal(store.contents().has(resourceKey("GlobalNetworkSet", "b")), false);
  assert.deepEqual(pendingKeys(), []);
  assert.match(store.contents().get(lastUndoneKey)!, /GlobalNetworkSet\(b\)/);
  const { states } = await readHistory(store, resourceKey("GlobalNetworkSet", "b"));
  assert.deepEqual(states.map((s) => [s.done, s.by?.user]), [["created", "ann"], ["deleted", "tortie"]]);
});

Deno.test("what somebody else changed, deleted or made anew is left and named; the rest is undone", async () => {
  const { store, resources, apply, nets } = await makeWorld();
  for (const name of ["a", "b", "c"]) await resources.apply(set(name, "10.0.0.0/8"));
  const found = await apply(...["a", "b", "c"].map((name) => set(name, "10.0.0.0/9")));
  await resources.apply(set("a", "10.0.0.0/10"));
  await resources.delete("GlobalNetworkSet", "b");
  const why = "somebody changed it since";
  assert.deepEqual(await undoPending(store, found!, agent, at), {
    restored: ["GlobalNetworkSet(c)"],
    kept: [{ object: "GlobalNetworkSet(a)", why }, { object: "GlobalNetworkSet(b)", why }],
  });
  assert.deepEqual([await nets("a"), await nets("c")], [["10.0.0.0/10"], ["10.0.0.0/8"]]);
});

Deno.test("a tier goes with the policy that came with it, and stays when somebody else uses it", async () => {
  for (const used of [false, true]) {
    const { store, resources, apply } = await makeWorld();
    const found = await apply(object("Tier", "web", { order: 10 }), policyIn("web"));
    const other = { ...policyIn("web"), metadata: { name: "web.other" } };
    if (used) await resources.apply(other);
    const undone = await undoPending(store, found!, agent, at);
    assert.equal(undone!.restored.includes("GlobalNetworkPolicy(web.p)"), true);
    assert.equal(undone!.restored.includes("Tier(web)"), !used);
    assert.deepEqual(undone!.kept.map((k) => k.object), used ? ["Tier(web)"] : []);
  }
});

Deno.test("an object is pending in one change at a time", async () => {
  const { store, apply, nets } = await makeWorld();
  const first = await apply(set("a", "10.0.0.0/8"));
  await assert.rejects(apply(set("a", "10.0.0.0/9")), (e) => isProblem(e, "exists"));
  await apply(set("b", "10.0.0.0/9"));
  await confirmPending(store, first!);
  await apply(set("a", "10.0.0.0/9"));
  assert.deepEqual(await nets("a"), ["10.0.0.0/9"]);
});

Deno.test("of all who confirm and undo at once one prevails", async () => {
  const { store, apply, nets } = await makeWorld();
  const found = (await apply(set("a", "10.0.0.0/8")))!;
  const undo = () => undoPending(store, found, agent, at).then((undone) => undone !== undefined);
  const done = await Promise.all([undo(), confirmPending(store, found), undo(), undo()]);
  assert.equal(done.filter(Boolean).length, 1, String(done));
  const isThere = await nets("a").then(() => true, () => false);
  assert.equal(isThere, done[1]);
});

Deno.test("a change whose answer is lost is pending once; an undo whose answer is lost has been done", async () => {
  const { store, apply } = await makeWorld();
  const rehearsal = await Rehearsal.of(store, {});
  await rehearsal.resources.apply(set("a", "10.0.0.0/8"));
  store.loseNextAnswer();
  const found = await commitPending(store, rehearsal, { id: "x", at, by: ann, seconds: 60 });
  assert.equal((await readPending(store))[0]!.revision, found!.revision);
  store.loseNextAnswer();
  await assert.rejects(undoPending(store, found!, agent, at), (e) => isProblem(e, "unavailable"));
  assert.equal(await undoPending(store, found!, agent, at), undefined);
  assert.equal(store.contents().has(resourceKey("GlobalNetworkSet", "a")), false);
  assert.equal(await apply(), undefined, "nothing to do is nothing to confirm");
});

Deno.test("a change is refused when something that its checks looked at has changed, and when nobody would undo it", async () => {
  const { store, resources, apply } = await makeWorld();
  await resources.apply(object("Tier", "web", { order: 10 }));
  const rehearsal = await Rehearsal.of(store, {});
  await rehearsal.resources.apply(policyIn("web"));
  await resources.delete("Tier", "web");
  const parts = { id: "x", at, by: ann, seconds: 60 };
  await assert.rejects(commitPending(store, rehearsal, parts), (e) => isProblem(e, "conflict"));
  await store.txn({ compare: [], write: [{ delete: guardKey("n1") }] });
  await assert.rejects(apply(set("a")), (e) => isProblem(e, "not-ready"));
  assert.deepEqual(await readPending(store), []);
  assert.equal(store.contents().has(resourceKey("GlobalNetworkSet", "a")), false);
});

Deno.test("a change that is too large says so, and a large one is undone whole", async () => {
  const { store, apply } = await makeWorld();
  const many = (n: number) => Array.from({ length: n }, (_, i) => set(`s${i}`, "10.0.0.0/8"));
  await assert.rejects(apply(...many(61)), (e) => isProblem(e, "bad-input"));
  const nets = Array.from({ length: 1_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);
  const found = await apply(...many(40).map((s) => ({ ...s, spec: { nets } })));
  assert.equal((await undoPending(store, found!, agent, at))!.restored.length, 40);
});

Deno.test("a record that cannot be understood is told and left, and holds up no other", async () => {
  const { store, apply, pendingKeys } = await makeWorld();
  const bad = ["no json", "{}", '{"changed":[{"key":1}]}', '{"changed":[]}', "[]"];
  const write = bad.map((value, i) => ({ put: `${pendingPrefix}bad${i}/change`, value }));
  await store.txn({ compare: [], write });
  const found: PendingFound | undefined = await apply(set("a", "10.0.0.0/8")), told: string[] = [];
  const all = await readPending(store, (key) => told.push(key));
  assert.deepEqual([all.map((p) => p.change.id), told.length], [[found!.change.id], bad.length]);
  assert.equal(pendingKeys().length, bad.length + 2);
});
