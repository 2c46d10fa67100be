import { deepEqual, equal, ok } from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { silentLog } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { resourceKey } from "../datastore/keys.ts";
import { apiVersion, type Resource } from "../datastore/kind.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { Resources } from "../datastore/resources.ts";
import type { KeyValue } from "../datastore/store.ts";
import { lockKey, terms } from "./election.ts";
import { type Step, stepTo } from "./syncs/step.ts";
import type { Sync } from "./syncs/sync.ts";
import { Writer } from "./syncs/writer.ts";
import { Worker } from "./worker.ts";

const key = (name: string) => resourceKey("Profile", name);
const profile = (name: string, value = "v"): Resource => ({
  ...{ kind: "Profile", apiVersion, metadata: { name } },
  spec: { labelsToApply: { label: value } },
});
const settle = async () => {
  for (let i = 0; i < 200; i++) await Promise.resolve();
};

/** A worker over a store in memory, which sees what is stored when it looks. Wants what `want` holds. */
async function play(work: (made: ReturnType<typeof world>) => Promise<void>): Promise<void> {
  const made = world();
  const running = made.worker.run(made.stop.signal);
  try {
    await work(made);
  } finally {
    made.stop.abort(new Error("test is over"));
    await running;
  }
}

function world() {
  const store = new MemoryStore(), clock = new FakeClock(), stop = new AbortController();
  const want = new Map<string, Resource>(), seen = new Map<string, KeyValue>();
  let refuses: Error | undefined;
  const sync: Pick<Sync, "name" | "step"> = {
    name: "test",
    step(key, have): Step {
      if (refuses) throw refuses;
      return stepTo(want.get(key), have);
    },
  };
  const writer = new Writer({
    ...{ sync: sync as Sync, mirror: seen, resources: new Resources(store, { clock }), clock, log: silentLog },
    ...{ removeNode: () => Promise.resolve(), tell: () => Promise.resolve() },
  });
  const act = (key: string) => writer.act(key);
  const worker = new Worker({ name: "test", act, clock, log: silentLog, random: () => 0.5 });
  /** Brings what the worker sees up to date. */
  const look = async () => {
    seen.clear();
    await store.list({ start: "/", end: "0" }, (kvs) => kvs.forEach((kv) => seen.set(kv.key, kv)));
  };
  /** Does it, and waits until the worker has nothing more to do now. */
  const doubt = async (...keys: string[]) => {
    worker.doubt(keys);
    await settle();
  };
  const refuse = (problem: Error | undefined) => void (refuses = problem);
  return { store, clock, stop, want, worker, look, doubt, refuse };
}

Deno.test("a key in doubt is made, changed, left alone and deleted by what is wanted", () =>
  play(async ({ store, want, look, doubt, worker }) => {
    const a = key("kns.a");
    want.set(a, profile("kns.a"));
    await doubt(a);
    equal(worker.written, 1);
    await look();
    await doubt(a);
    equal(worker.written, 1);
    want.set(a, profile("kns.a", "w"));
    await doubt(a);
    ok((await store.get(a))!.value.includes('"label":"w"'));
    await look();
    want.delete(a);
    await doubt(a);
    equal(await store.get(a), undefined);
    equal(worker.written, 3);
  }));

Deno.test("a step that was decided by an old copy changes nothing, and is decided again", () =>
  play(async ({ store, want, look, doubt, worker, clock }) => {
    const a = key("kns.a");
    want.set(a, profile("kns.a"));
    await doubt(a);
    await look();
    const other = (await store.get(a))!.value.replace('"v"', '"other"');
    await store.txn({ compare: [], write: [{ put: a, value: other }] });
    want.delete(a);
    await doubt(a);
    ok(await store.get(a), "the newer value is not deleted unseen");
    equal(worker.failing().size, 1);
    await look();
    await clock.advance(100);
    await settle();
    equal(await store.get(a), undefined);
    equal(worker.failing().size, 0);
  }));

Deno.test("a key that fails is tried for ever, less and less often, and does not hold up others", () =>
  play(async ({ store, want, doubt, worker, clock, refuse }) => {
    const [a, b] = [key("kns.a"), key("kns.b")];
    want.set(a, profile("kns.a")).set(b, profile("kns.b"));
    refuse(new Problem({ code: "validation", what: "it cannot be" }));
    await doubt(a);
    deepEqual([...worker.failing()], [[a, "it cannot be"]]);
    for (let i = 0; i < 30; i++) await clock.advance(60_000).then(settle);
    equal(worker.failing().size, 1);
    refuse(undefined);
    await doubt(b);
    ok(await store.get(b));
    await clock.advance(60_000);
    await settle();
    ok(await store.get(a));
    equal(worker.failing().size, 0);
  }));

Deno.test("an object that nobody foresaw fails alone, and is said with its name", () =>
  play(async ({ want, doubt, worker, refuse, stop }) => {
    const a = key("kns.a");
    want.set(a, profile("kns.a"));
    refuse(new TypeError("undefined is not iterable"));
    await doubt(a);
    const why = `its origin in Kubernetes is not understood (${a}): undefined is not iterable`;
    deepEqual([...worker.failing()], [[a, why]]);
    stop.abort(new Error("another instance works"));
    await settle();
    equal(worker.failing().size, 0, "who does not work does not fail");
  }));

Deno.test("while the datastore is away all keys wait; when it is back each is done", () =>
  play(async ({ store, want, doubt, clock, worker }) => {
    const keys = Array.from({ length: 40 }, (_, i) => `kns.n${i}`);
    for (const name of keys) want.set(key(name), profile(name));
    store.failNext(30, () => new Problem({ code: "unavailable", what: "etcd is away" }));
    await doubt(...keys.map(key));
    for (let i = 0; i < 40; i++) await clock.advance(500).then(settle);
    equal(worker.written, 40);
    equal(worker.failing().size, 0);
  }));

Deno.test("a value that cannot be read is written over in one step", () =>
  play(async ({ store, want, look, doubt }) => {
    const a = key("kns.a");
    await store.txn({ compare: [], write: [{ put: a, value: "{not json" }] });
    const { created } = (await store.get(a))!;
    await look();
    want.set(a, profile("kns.a"));
    await doubt(a);
    const now = (await store.get(a))!;
    ok(now.value.includes('"label":"v"') && /"uid":"[0-9a-f-]{36}"/.test(now.value), now.value);
    equal(now.created, created);
  }));

Deno.test("what somebody wrote without UID and age is changed, too", () =>
  play(async ({ store, want, look, doubt, worker }) => {
    const a = key("kns.a");
    await store.txn({ compare: [], write: [{ put: a, value: JSON.stringify(profile("kns.a", "old")) }] });
    await look();
    want.set(a, profile("kns.a"));
    await doubt(a);
    const { metadata, spec } = JSON.parse((await store.get(a))!.value);
    ok(metadata.uid && metadata.creationTimestamp);
    deepEqual([spec.labelsToApply, worker.failing().size], [{ label: "v" }, 0]);
  }));

Deno.test("one of two instances works; the other when the first gives up, or its lock is taken away", async () => {
  const store = new MemoryStore(), stop = new AbortController();
  const parts = { store, clock: new FakeClock(), log: silentLog, random: () => 0.5 };
  const first = terms({ ...parts, holder: "one" }, stop.signal),
    second = terms({ ...parts, holder: "two" }, stop.signal);
  const term = (await first.next()).value!;
  equal((await store.get(lockKey))?.value, "one");
  let elected = false;
  const waiting = second.next().then(({ value }) => {
    elected = true;
    return value!;
  });
  await settle();
  equal(elected, false);
  await store.txn({ compare: [], write: [{ delete: lockKey }] });
  const other = await waiting;
  await settle();
  equal(term.aborted, true);
  equal((await store.get(lockKey))?.value, "two");
  equal(other.aborted, false);
  await second.return();
  equal(await store.get(lockKey), undefined);
  equal((await first.next()).done, false);
  equal((await store.get(lockKey))?.value, "one");
  await first.return();
  stop.abort(new Error("test is over"));
});
