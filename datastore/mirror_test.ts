import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { createLog } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { MemoryStore } from "./memory.ts";
import { type Changes, Mirror } from "./mirror.ts";
import type { Store } from "./store.ts";

const range = { start: "/r/", end: "/r0" };

/** Lets everything run that needs no time to pass. */
const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

/** A store, a mirror of it, and what one consumer was told. */
async function scene(
  options: { before?: (store: MemoryStore) => Promise<unknown>; wrap?: (s: MemoryStore) => Store } = {},
) {
  const clock = new FakeClock(), store = new MemoryStore({ clock }), stop = new AbortController();
  await options.before?.(store);
  const lines: string[] = [];
  const log = createLog("mirror", { clock, write: (line) => lines.push(line) });
  const mirror = Mirror.start({ store: options.wrap?.(store) ?? store, range, clock, log, random: () => 1 });
  const failures: unknown[] = [];
  const batches = consume(mirror, stop.signal, failures);
  await turn();
  return {
    failures,
    clock,
    store,
    mirror,
    batches,
    lines,
    put: (key: string, value: string) => store.txn({ compare: [], write: [{ put: `/r/${key}`, value }] }),
    remove: (key: string) => store.txn({ compare: [], write: [{ delete: `/r/${key}` }] }),
    /** Lets `ms` pass, and what becomes due run. */
    async pass(ms: number) {
      const step = Math.max(10, ms / 20);
      for (let passed = 0; passed < ms; passed += step) {
        await clock.advance(Math.min(step, ms - passed));
        await turn();
      }
      await turn();
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await mirror[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
}

/** Collects what a consumer is told, and in `failures` what ended it. */
function consume(mirror: Mirror, signal: AbortSignal, failures: unknown[] = []): Changes[] {
  const batches: Changes[] = [];
  const run = async () => {
    for await (const batch of mirror.changes(signal)) batches.push(batch);
  };
  run().catch((error) => failures.push(error));
  return batches;
}

/** A batch in short: `a=1 -b`, with `!` for resync. */
const short = (b: Changes | undefined) =>
  b &&
  [
    b.resync ? "!" : "",
    ...b.set.map((kv) => `${kv.key.slice(3)}=${kv.value}`),
    ...b.deleted.map((k) => `-${k.slice(3)}`),
  ]
    .join(" ").trim();

/** What a consumer that was told `batches` holds. */
function held(batches: Changes[]): Map<string, string> {
  const values = new Map<string, string>();
  for (const b of batches) {
    for (const kv of b.set) values.set(kv.key, kv.value);
    for (const key of b.deleted) values.delete(key);
  }
  return new Map([...values].sort());
}

const before = async (store: MemoryStore) => {
  for (const k of ["b", "a", "c/d"]) await store.txn({ compare: [], write: [{ put: `/r/${k}`, value: "1" }] });
  await store.txn({ compare: [], write: [{ put: "/elsewhere", value: "1" }] });
};

Deno.test("it holds what was there, at one revision, and finds it by key and prefix", async () => {
  await using s = await scene({ before });
  await s.mirror.ready();
  assert.deepEqual(s.mirror.state(), { inSync: true, connected: true });
  assert.equal(s.mirror.revision, s.store.revision);
  assert.equal(s.mirror.get("/r/a")?.value, "1");
  assert.equal(s.mirror.get("/elsewhere"), undefined);
  assert.deepEqual(s.mirror.list("/r/").map((kv) => kv.key), ["/r/a", "/r/b", "/r/c/d"]);
  assert.deepEqual(s.mirror.list("/r/c").map((kv) => kv.key), ["/r/c/d"]);
});

Deno.test("a consumer's first batch is everything, the next ones are what changed", async () => {
  await using s = await scene({ before });
  assert.deepEqual(s.batches.map(short), ["! a=1 b=1 c/d=1"]);
  await s.pass(100);
  await s.put("a", "2");
  await s.remove("b");
  await turn();
  assert.deepEqual(s.batches.map(short).slice(1), ["a=2 -b"]);
  assert.equal(s.batches[1]!.revision, s.store.revision);
});

Deno.test("an idle consumer is told at once, a busy one at most every 10 ms, the last state of each key", async () => {
  await using s = await scene({ before });
  await s.pass(100);
  await s.put("a", "2");
  await turn();
  assert.equal(s.batches.length, 2, "told without any time passing");
  for (const v of ["3", "4", "5"]) await s.put("a", v);
  await s.put("e", "1");
  await s.remove("e");
  await s.pass(9);
  assert.equal(s.batches.length, 2);
  await s.pass(1);
  assert.deepEqual(s.batches.map(short).slice(2), ["a=5 -e"]);
});

Deno.test("consumers are independent: each begins with everything, a slow one misses nothing", async () => {
  await using s = await scene({ before });
  const stop = new AbortController();
  const slow = s.mirror.changes(stop.signal);
  assert.equal(short((await slow.next()).value as Changes), "! a=1 b=1 c/d=1");
  for (const v of ["2", "3"]) {
    await s.put("a", v);
    await s.pass(20);
  }
  const late = consume(s.mirror, stop.signal);
  await turn();
  assert.deepEqual(late.map(short), ["! a=3 b=1 c/d=1"]);
  assert.equal(short((await slow.next()).value as Changes), "a=3");
  assert.deepEqual(s.batches.map(short).slice(1), ["a=2", "a=3"]);
  const end = slow.next();
  stop.abort();
  assert.equal((await end).done, true);
});

Deno.test("own commits are visible at once and are not told again by the watch", async () => {
  await using s = await scene({ before });
  await s.pass(100);
  s.store.pause(); // the watch tells nothing now
  s.mirror.learn([
    { key: "/r/a", value: "mine", revision: s.store.revision + 1n, created: 2n },
    { key: "/r/b", value: undefined, revision: s.store.revision + 1n, created: 0n },
    { key: "/elsewhere", value: "mine", revision: s.store.revision + 1n, created: 2n },
  ]);
  assert.equal(s.mirror.get("/r/a")?.value, "mine");
  assert.equal(s.mirror.get("/r/b"), undefined);
  assert.equal(s.mirror.get("/elsewhere"), undefined, "outside its range");
  await turn();
  assert.deepEqual(s.batches.map(short).slice(1), ["a=mine -b"]);
  s.store.resume();
  const write = [{ put: "/r/a", value: "mine" }, { delete: "/r/b" }];
  const { revision } = await s.store.txn({ compare: [], write });
  await s.pass(100);
  assert.equal(s.mirror.revision, revision);
  assert.equal(s.batches.length, 2);
});

Deno.test("while the datastore is away everything stays, and the watch goes on where it was", async () => {
  await using s = await scene({ before });
  const { range: lists } = s.store.requests;
  s.store.disconnect();
  await turn();
  assert.deepEqual(s.mirror.state(), { inSync: true, connected: false, why: "disconnected" });
  assert.equal(s.mirror.list("/r/").length, 3);
  await s.pass(60_000);
  s.store.reconnect();
  await s.put("a", "2");
  await s.pass(100);
  assert.deepEqual(s.mirror.state(), { inSync: true, connected: true });
  assert.deepEqual(s.batches.map(short).slice(1), ["a=2"]);
  assert.equal(s.store.requests.range, lists, "nothing was listed again");
});

Deno.test("a datastore that is away at the start is waited for", async () => {
  await using s = await scene({ before: async (store) => (await before(store), store.disconnect()) });
  await s.pass(5_000);
  assert.equal(s.mirror.state().inSync, false);
  assert.match(s.mirror.state().why ?? "", /disconnected/);
  assert.equal(s.batches.length, 0);
  s.store.reconnect();
  await s.pass(30_000);
  assert.equal(s.mirror.state().inSync, true);
  assert.deepEqual(s.batches.map(short), ["! a=1 b=1 c/d=1"]);
});

Deno.test("after a compaction it lists again and tells the difference, deletes too", async () => {
  await using s = await scene({ before });
  s.store.disconnect("watches");
  await turn();
  await s.put("a", "2");
  await s.remove("b");
  s.store.compact();
  s.store.reconnect();
  await s.pass(1_000);
  assert.deepEqual(s.batches.map(short).slice(1), ["! a=2 -b"]);
  assert.deepEqual(s.mirror.state(), { inSync: true, connected: true });
  assert.ok(s.lines.some((l) => /history is compacted, listing again/.test(l)));
});

Deno.test("after a restore from a backup it takes over the older state", async () => {
  await using s = await scene({ before });
  const backup = s.store.backup();
  await s.put("a", "2");
  await s.put("new", "1");
  await s.remove("b");
  await s.pass(100);
  s.store.restore(backup);
  await s.pass(1_000);
  assert.deepEqual(held(s.batches), new Map([["/r/a", "1"], ["/r/b", "1"], ["/r/c/d", "1"]]));
  assert.equal(s.mirror.revision, backup.revision);
  await s.put("a", "3");
  await s.pass(100);
  assert.equal(s.mirror.get("/r/a")?.value, "3");
});

Deno.test("a compaction in the middle of the first list costs another list", async () => {
  let pages = 0;
  const wrap = (store: MemoryStore): Store =>
    new Proxy(store, {
      get(target, member) {
        const value = Reflect.get(target, member, target);
        if (member !== "list") return typeof value === "function" ? value.bind(target) : value;
        return (r: typeof range, page: (kvs: never[]) => void, o: object) =>
          target.list(r, (kvs) => {
            page(kvs as never[]);
            if (++pages !== 1) return;
            void target.txn({ compare: [], write: [{ put: "/r/a", value: "2" }] }).then(() => target.compact());
          }, { ...o, pageSize: 1 });
      },
    });
  await using s = await scene({ before, wrap });
  await s.pass(1_000);
  assert.ok(pages > 3, `${pages} pages of one key, of 3 keys`);
  assert.deepEqual(s.batches.map(short), ["! a=2 b=1 c/d=1"]);
});

Deno.test("any mix of writes, cuts, freezes, compactions and restores ends with the datastore's content", async () => {
  // A linear congruential generator: the same steps in every run.
  let seed = 4711;
  const random = (n: number) => {
    seed = (seed * 1103515245 + 12345) % 2147483648; // its low bits repeat soon
    return Math.floor(seed / 65536) % n;
  };
  for (let round = 0; round < 10; round++) {
    await using s = await scene({ before });
    let backup = s.store.backup();
    for (let i = 0; i < 60; i++) {
      const key = `k${random(6)}`;
      const what = random(16);
      if (what < 5) void s.put(key, `${round}.${i}`).catch(() => {});
      else if (what < 7) void s.remove(key).catch(() => {});
      else if (what === 7) s.store.disconnect(random(2) ? "all" : "watches");
      else if (what === 8) s.store.reconnect();
      else if (what === 9) s.store.pause();
      else if (what === 10) s.store.resume();
      else if (what === 11) s.store.compact();
      else if (what === 12 && random(4) === 0) s.store.restore(backup);
      else if (what === 13) backup = s.store.backup();
      else await s.pass(random(30));
    }
    s.store.resume();
    s.store.reconnect();
    await s.pass(60_000);
    const content = new Map([...s.store.contents()].filter(([k]) => k >= range.start && k < range.end));
    assert.deepEqual(new Map(s.mirror.list("").map((kv) => [kv.key, kv.value])), content, `round ${round}`);
    assert.deepEqual(held(s.batches), content, `round ${round}`);
    assert.deepEqual(s.mirror.state(), { inSync: true, connected: true });
  }
});

Deno.test("a refused user is said, and what is held stays", async () => {
  await using s = await scene({
    before: async (store) => {
      await before(store);
      store.failNext(3, () => new Problem({ code: "unauthorized", what: "etcd refused user and password" }));
    },
  });
  assert.match(s.mirror.state().why ?? "", /refused user and password/);
  await s.pass(10_000);
  assert.equal(s.mirror.state().inSync, true);
});

Deno.test("a bug in the store is not retried: who waits for the mirror is told", async () => {
  await using s = await scene({ before: (store) => Promise.resolve(store.failNext(1, () => new TypeError("oops"))) });
  await assert.rejects(s.mirror.ready(), /oops/);
  assert.deepEqual(s.failures.map(String), ["TypeError: oops"]);
  assert.deepEqual(s.mirror.state(), { inSync: false, why: "oops", connected: false });
});

Deno.test("waiting for it ends when the signal is aborted or the mirror is disposed", async () => {
  const s = await scene({ before: (store) => Promise.resolve(store.disconnect()) });
  const stop = new AbortController();
  const waiting = s.mirror.ready(stop.signal);
  stop.abort(new Error("no longer"));
  await assert.rejects(waiting, /no longer/);
  const changes = s.mirror.changes(new AbortController().signal).next();
  const disposed = assert.rejects(s.mirror.ready(), /disposed/);
  await s[Symbol.asyncDispose]();
  await disposed;
  assert.equal((await changes).done, true);
});

Deno.test("a store that is closed first ends the mirror and its consumers, with the reason", async () => {
  await using s = await scene({ before });
  await s.store[Symbol.asyncDispose]();
  await s.pass(100);
  assert.match(s.mirror.state().why ?? "", /store was closed/);
  assert.match(String(s.failures[0]), /store was closed/);
  assert.equal(s.mirror.list("/r/").length, 3, "what it held can still be read");
});

Deno.test("in sync and nothing happens: no request, no line, no batch", async () => {
  await using s = await scene({ before });
  const requests = { ...s.store.requests }, lines = s.lines.length;
  await s.pass(60_000);
  assert.deepEqual(s.store.requests, requests);
  assert.deepEqual([s.lines.length, s.batches.length], [lines, 1]);
});
