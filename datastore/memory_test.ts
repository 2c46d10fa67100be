import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { isProblem } from "../lib/problem.ts";
import { MemoryStore } from "./memory.ts";
import { Compacted, Restored, type WatchBatch, type WatchState } from "./store.ts";

const all = { start: "/", end: "0" };
const put = (store: MemoryStore, key: string, value = "1") => store.txn({ compare: [], write: [{ put: key, value }] });
const away = (error: unknown) => isProblem(error, "unavailable");
const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

Deno.test("failNext() fails that many calls before they do anything", async () => {
  const store = new MemoryStore();
  store.failNext(2);
  await assert.rejects(put(store, "/a"), away);
  await assert.rejects(store.get("/a"), away);
  assert.equal(await store.get("/a"), undefined);
  store.failNext(1, () => new RangeError("mine"));
  await assert.rejects(store.get("/a"), RangeError);
});

Deno.test("loseNextAnswer() carries the transaction out and says that it is unknown", async () => {
  const store = new MemoryStore();
  store.loseNextAnswer();
  await assert.rejects(put(store, "/a"), away);
  assert.equal((await store.get("/a"))?.value, "1");
  assert.equal((await put(store, "/a", "2")).committed, true);
});

Deno.test("while paused a call waits for its deadline or for resume(), and nothing is done late", async () => {
  const clock = new FakeClock(), store = new MemoryStore({ clock });
  store.pause();
  const late = assert.rejects(put(store, "/late"), away);
  await turn();
  await clock.advance(5_000);
  await late;
  const patient = put(store, "/patient");
  await turn();
  store.resume();
  assert.equal((await patient).committed, true);
  assert.deepEqual([...store.contents().keys()], ["/patient"]);
});

Deno.test("disconnected watches go on where they were; a compaction meanwhile is told", async () => {
  const store = new MemoryStore(), stop = new AbortController(), states: WatchState[] = [];
  const watch = store.watch(all, 2n, { signal: stop.signal, onState: (s) => states.push(s) });
  await put(store, "/a");
  assert.equal((await watch.next()).value?.revision, 2n);
  store.disconnect("watches");
  await put(store, "/b");
  const next = watch.next();
  await turn();
  store.reconnect();
  const batch: WatchBatch | undefined = (await next).value;
  assert.deepEqual(batch?.events.map((e) => e.key), ["/b"]);
  store.disconnect("watches");
  await put(store, "/c");
  store.compact();
  const compacted = assert.rejects(watch.next(), Compacted);
  store.reconnect();
  await compacted;
  assert.deepEqual(states.map((s) => s.connected), [true, false, true, false]);
});

Deno.test("restore() goes back to a backup, with its revisions, and watches say so", async () => {
  const store = new MemoryStore();
  await put(store, "/a", "old");
  const backup = store.backup();
  await put(store, "/a", "new");
  await put(store, "/b");
  const watching = assert.rejects(store.watch(all, 5n, { signal: new AbortController().signal }).next(), Restored);
  await turn();
  store.restore(backup);
  await watching;
  assert.deepEqual([...store.contents()], [["/a", "old"]]);
  assert.deepEqual([store.revision, (await put(store, "/c")).revision], [2n, 3n]);
});

Deno.test("a lease that could not be renewed for all its time takes its keys with it and is lost", async () => {
  const clock = new FakeClock(), store = new MemoryStore({ clock });
  const pass = async (ms: number) => {
    for (let i = 0; i < ms; i += 1_000) {
      await clock.advance(1_000);
      await turn();
    }
  };
  await using lease = await store.lease(9);
  await store.txn({
    compare: [],
    write: [{ put: "/leased", value: "1", lease: lease.id }, { put: "/own", value: "1" }],
  });
  await pass(30_000);
  assert.equal(lease.lost.aborted, false);
  store.disconnect();
  await pass(8_000);
  assert.ok(store.contents().has("/leased"));
  await pass(8_000);
  assert.deepEqual([...store.contents().keys()], ["/own"]);
  store.reconnect();
  await pass(4_000);
  assert.equal(lease.lost.aborted, true);
});

Deno.test("a key that was put again without its lease outlives the lease", async () => {
  const store = new MemoryStore();
  const lease = await store.lease(9);
  await store.txn({ compare: [], write: [{ put: "/a", value: "1", lease: lease.id }] });
  await put(store, "/a", "2");
  await lease[Symbol.asyncDispose]();
  assert.equal(store.contents().get("/a"), "2");
});
