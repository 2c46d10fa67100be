import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeClock } from "../lib/clock.ts";
import { Problem } from "../lib/problem.ts";
import { type Author, historyKey, maxBytes, maxStates, readHistory, statesOf, withChange } from "./history.ts";
import { apiVersion, type Resource } from "./kind.ts";
import { resourceKey } from "./keys.ts";
import { MemoryStore } from "./memory.ts";
import { Resources } from "./resources.ts";

const key = resourceKey("GlobalNetworkSet", "a");
const ann: Author = { user: "ann", host: "n1", from: "203.0.113.7", command: "ctl apply -f a.yaml" };

const set = (...nets: string[]): Resource => ({
  kind: "GlobalNetworkSet",
  apiVersion,
  metadata: { name: "a" },
  spec: { nets },
});

function makeWorld() {
  const store = new MemoryStore();
  const clock = new FakeClock();
  return { store, clock, recorded: new Resources(store, { clock, author: ann }), others: new Resources(store) };
}

Deno.test("each change is kept with its author, its time and the revision that it was made at", async () => {
  const { store, clock, recorded } = makeWorld();
  const revisions = [];
  revisions.push((await recorded.apply(set("10.0.0.0/8"))).resource.metadata.resourceVersion);
  await clock.advance(60_000);
  revisions.push((await recorded.apply(set("10.0.0.0/9"))).resource.metadata.resourceVersion);
  await recorded.delete("GlobalNetworkSet", "a");
  const { states, current } = await readHistory(store, key);
  assert.equal(current, undefined);
  assert.deepEqual(states.map((s) => [s.number, s.done, s.at, s.by]), [
    [1, "created", "2026-01-02T03:04:05Z", ann],
    [2, "changed", "2026-01-02T03:05:05Z", ann],
    [3, "deleted", "2026-01-02T03:05:05Z", ann],
  ]);
  assert.deepEqual(states.slice(0, 2).map((s) => s.revision), revisions);
  assert.match(states[1]!.value!, /10\.0\.0\.0\/9/);
  assert.equal(states[2]!.value, undefined);
});

Deno.test("what others changed appears without an author, before and after our next change", async () => {
  const { store, recorded, others } = makeWorld();
  await others.apply(set("10.0.0.0/8"));
  const before = await readHistory(store, key);
  assert.deepEqual(before.states.map((s) => [s.number, s.done, s.by?.user]), [[1, "created", undefined]]);
  await recorded.apply(set("10.0.0.0/9"));
  const theirs = (await others.apply(set("10.0.0.0/10"))).resource.metadata.resourceVersion;
  await recorded.apply(set("10.0.0.0/11"));
  await others.delete("GlobalNetworkSet", "a");
  const { states } = await readHistory(store, key);
  assert.deepEqual(states.map((s) => [s.number, s.done, s.by?.user]), [
    [1, "created", undefined],
    [2, "changed", "ann"],
    [3, "changed", undefined],
    [4, "changed", "ann"],
    [5, "deleted", undefined],
  ]);
  assert.equal(states[2]!.revision, theirs);
  assert.match(states[2]!.value!, /10\.0\.0\.0\/10/);
});

Deno.test("an object that is stored already leaves no line, and an object is changed without an author leaves none", async () => {
  const { store, recorded, others } = makeWorld();
  await others.apply(set("10.0.0.0/8"));
  await recorded.apply(set("10.0.0.0/8"));
  assert.equal(await store.get(historyKey(key)), undefined);
});

Deno.test("a history stays within its bounds and its numbers go on", async () => {
  const { store, recorded } = makeWorld();
  for (let i = 0; i < maxStates + 5; i++) await recorded.apply(set(`10.0.${i}.0/24`));
  const { states } = await readHistory(store, key);
  assert.deepEqual([states.length, states[0]!.number, states.at(-1)!.number], [maxStates, 6, maxStates + 5]);
  const many = Array.from({ length: 6_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);
  await recorded.apply(set(...many));
  const large = await store.get(historyKey(key));
  assert.ok(large!.value.length <= maxBytes);
  assert.equal((await readHistory(store, key)).states.at(-1)!.number, maxStates + 6);
});

Deno.test("any value in the history's place, and any object, holds up no change and stays within the bounds", () => {
  const stored = { key, value: "{}", revision: 7n, created: 3n };
  fc.assert(fc.property(fc.oneof(fc.json(), fc.string()), fc.string({ maxLength: 300 }), (history, value) => {
    const kv = { key: historyKey(key), value: history, revision: 5n, created: 5n };
    const text = withChange(kv, stored, { at: "2026-01-02T03:04:05Z", by: ann, value });
    const states = statesOf({ ...kv, value: text, revision: 9n }, { ...stored, value, revision: 9n });
    assert.deepEqual([states.at(-1)!.value, states.at(-1)!.revision], [value, "9"]);
    assert.ok(text.length <= maxBytes);
  }));
});

Deno.test("two writers at once leave both their lines", async () => {
  const { store, clock, recorded } = makeWorld();
  const bob = new Resources(store, { clock, author: { user: "bob", host: "n2" } });
  await Promise.all(["1", "2"].flatMap((n) => [
    recorded.apply(set(`10.${n}.0.0/16`)),
    bob.apply(set(`10.${n}.1.0/24`)),
  ]));
  const { states, current } = await readHistory(store, key);
  assert.ok(states.every((s) => s.by !== undefined), "no line is lost");
  assert.deepEqual(states.map((s) => s.number), states.map((_, i) => i + 1));
  assert.equal(states.at(-1)!.revision, String(current!.revision));
});

Deno.test("who may not write histories may change objects all the same", async () => {
  const { store, clock } = makeWorld();
  const refuse = (k: string) => {
    if (k.startsWith("/tortie/")) throw new Problem({ code: "unauthorized", what: "permission denied" });
  };
  for (const which of ["read", "write"] as const) {
    const limited = Object.create(store, {
      get: { value: (k: string) => (which === "read" && refuse(k), store.get(k)) },
      txn: {
        value: (txn: Parameters<MemoryStore["txn"]>[0]) => {
          for (const w of txn.write) refuse("put" in w ? w.put : w.delete);
          return store.txn(txn);
        },
      },
    });
    const resources = new Resources(limited, { clock, author: ann });
    assert.equal((await resources.apply(set(which === "read" ? "10.0.0.0/8" : "10.0.0.0/9"))).done.length > 0, true);
  }
  assert.match((await store.get(key))!.value, /10\.0\.0\.0\/9/);
  assert.equal(await store.get(historyKey(key)), undefined);
});
