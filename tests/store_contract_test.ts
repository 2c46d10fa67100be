/** One suite for every Store: what is true of real etcd must be true of the others. */
import assert from "node:assert/strict";
import { systemClock } from "../lib/clock.ts";
import { silentLog } from "../lib/log.ts";
import { isProblem } from "../lib/problem.ts";
import { openEtcd } from "../datastore/etcd.ts";
import { openThroughGateway } from "../datastore/gateway.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { Compacted, type KeyValue, prefixRange, Restored, type Store, type WatchBatch } from "../datastore/store.ts";
import { startEtcd } from "./lab/etcd.ts";
import { wait } from "./lab/wait.ts";

/** A store under test, and what only its server can do. */
interface Subject extends AsyncDisposable {
  store: Store;
  compact(revision: bigint): Promise<void>;
}

const subjects: Record<string, () => Promise<Subject>> = {
  async memory() {
    const store = await Promise.resolve(new MemoryStore());
    return {
      store,
      compact: (revision) => Promise.resolve(store.compact(revision)),
      [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
    };
  },
  etcd: () => served("etcd"),
  "tortie store": () => served("store"),
  async "etcd's gateway"() {
    const subject = await served("etcd");
    const { store, endpoint } = subject;
    return {
      ...subject,
      store: openThroughGateway({ endpoints: [endpoint], deadlineMs: 5_000 }, {
        env: () => undefined,
        // Writes and watches go through the whole client, reads stay with the gateway all the same.
        open: () => Promise.resolve(store),
      }),
    };
  },
};

async function served(server: "etcd" | "store"): Promise<Subject & { endpoint: string }> {
  const etcd = await startEtcd({ server });
  const store = openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 5_000 }, { clock: systemClock, log: silentLog });
  return {
    store,
    endpoint: etcd.endpoint,
    compact: (revision) => etcd.compact(revision),
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await etcd[Symbol.asyncDispose]();
    },
  };
}

for (const [name, open] of Object.entries(subjects)) {
  Deno.test(`store contract: ${name}`, async (t) => {
    await using subject = await open();
    for (const [behaviour, check] of Object.entries(behaviours)) {
      let n = 0;
      const prefix = `/h1/${behaviour.replaceAll(" ", "-")}/`;
      await t.step(behaviour, () => check(subject, { key: (k = String(n++)) => prefix + k, prefix }));
    }
  });
}

/** Names for one check: keys of its own. */
interface Names {
  prefix: string;
  key(name?: string): string;
}

async function put(store: Store, key: string, value: string): Promise<bigint> {
  return (await store.txn({ compare: [], write: [{ put: key, value }] })).revision;
}

async function remove(store: Store, key: string): Promise<bigint> {
  return (await store.txn({ compare: [], write: [{ delete: key }] })).revision;
}

/** Collects batches until `enough` says so. */
async function collect(batches: AsyncGenerator<WatchBatch>, enough: (seen: WatchBatch[]) => boolean) {
  const seen: WatchBatch[] = [];
  for await (const batch of batches) {
    if (batch.events.length > 0) seen.push(batch);
    if (enough(seen)) break;
  }
  return seen.flatMap((b) => b.events);
}

const behaviours: Record<string, (subject: Subject, names: Names) => Promise<void>> = {
  async "a missing key is undefined"({ store }, { key }) {
    assert.equal(await store.get(key()), undefined);
  },

  async "a value comes back with its revisions"({ store }, { key }) {
    const k = key();
    const created = await put(store, k, 'ünï "1"');
    const changed = await put(store, k, "two");
    assert.equal(changed, created + 1n);
    assert.deepEqual(await store.get(k), { key: k, value: "two", revision: changed, created });
    await remove(store, k);
    const again = await put(store, k, "three");
    assert.deepEqual(await store.get(k), { key: k, value: "three", revision: again, created: again });
  },

  async "a wrong revision is refused and the current value comes back"({ store }, { key }) {
    const k = key();
    const first = await put(store, k, "one");
    for (const revision of [0n, first - 1n, first + 1n]) {
      const result = await store.txn({ compare: [{ key: k, revision }], write: [{ put: k, value: "stolen" }] });
      assert.equal(result.committed, false, `revision ${revision} against ${first}`);
      assert.deepEqual(!result.committed && result.current.get(k)?.value, "one");
    }
    const result = await store.txn({ compare: [{ key: k, revision: first }], write: [{ put: k, value: "two" }] });
    assert.deepEqual(result, { committed: true, revision: first + 1n });
  },

  async "revision 0 means that the key must not exist"({ store }, { key }) {
    const k = key();
    const create = { compare: [{ key: k, revision: 0n }], write: [{ put: k, value: "mine" }] };
    assert.equal((await store.txn(create)).committed, true);
    assert.equal((await store.txn(create)).committed, false);
    await remove(store, k);
    assert.equal((await store.txn(create)).committed, true);
  },

  async "a range compare notices puts and creations but no deletes"({ store }, { prefix, key }) {
    const range = prefixRange(prefix);
    const probe = `${prefix.slice(0, -1)}-probe`;
    const commit = async (unchangedSince: bigint) =>
      (await store.txn({ compare: [{ range, unchangedSince }], write: [{ put: probe, value: "x" }] })).committed;
    const { revision: start } = await store.status();
    assert.equal(await commit(start), true, "empty range");
    const a = await put(store, key("a"), "1");
    assert.equal(await commit(start), false, "created");
    assert.equal(await commit(a), true);
    assert.equal(await commit(a - 1n), false);
    await remove(store, key("a"));
    assert.equal(await commit(start), true, "deleted");
  },

  async "all writes of a transaction share one revision, or none happens"({ store }, { key }) {
    const [a, b, c] = [key(), key(), key()] as const;
    await put(store, c, "old");
    const write = [{ put: a, value: "1" }, { put: b, value: "2" }, { delete: c }];
    const refused = await store.txn({ compare: [{ key: c, revision: 0n }], write, onConflict: [a, c] });
    assert.equal(refused.committed, false);
    assert.deepEqual(!refused.committed && [...refused.current.keys()], [c]);
    assert.equal(await store.get(a), undefined);
    const done = await store.txn({ compare: [{ key: a, revision: 0n }], write });
    const { values } = await store.read([a, b, c]);
    assert.deepEqual([...values].map(([k, kv]) => [k, kv.revision]), [[a, done.revision], [b, done.revision]]);
  },

  async "a transaction that writes nothing makes no revision"({ store }, { key }) {
    const { revision } = await store.status();
    assert.deepEqual(await store.txn({ compare: [], write: [] }), { committed: true, revision });
    assert.deepEqual(await store.txn({ compare: [], write: [{ delete: key() }] }), { committed: true, revision });
  },

  async "transactions beyond etcd's limits are refused before they are sent"({ store }, { key }) {
    const many = Array.from({ length: 129 }, (_, i) => ({ put: key(`${i}`), value: "" }));
    const large = [{ put: key(), value: "x".repeat(1_600_000) }];
    const twice = [{ put: key("t"), value: "" }, { delete: key("t") }];
    const sent = store.requests["txn"] ?? 0;
    for (const write of [many, large, twice]) {
      await assert.rejects(store.txn({ compare: [], write }), (e) => isProblem(e, "bad-input"));
    }
    assert.equal(store.requests["txn"] ?? 0, sent);
    assert.equal((await store.txn({ compare: [], write: many.slice(1) })).committed, true);
  },

  async "several keys and ranges are read at one revision"({ store }, { key, prefix }) {
    for (const k of ["a/1", "a/2", "b"]) await put(store, key(k), k);
    const snapshot = await store.read([prefixRange(key("a/")), key("b"), key("none")]);
    assert.deepEqual([...snapshot.values.values()].map((kv) => kv.value), ["a/1", "a/2", "b"]);
    assert.equal(snapshot.revision, (await store.status()).revision);
    const all = await store.read(Array.from({ length: 300 }, (_, i) => i === 299 ? key("b") : `${prefix}none${i}`));
    assert.deepEqual([...all.values.keys()], [key("b")]);
  },

  async "a list comes in pages of one revision, sorted by key"({ store }, { key, prefix }) {
    const keys = Array.from({ length: 25 }, (_, i) => key(String(i).padStart(2, "0")));
    for (const k of keys.toReversed()) await put(store, k, "v");
    const pages: KeyValue[][] = [];
    const revision = await store.list(prefixRange(prefix), (kvs) => {
      pages.push(kvs);
      if (pages.length === 1) void put(store, keys[20]!, "changed while listing");
    }, { pageSize: 10 });
    assert.deepEqual(pages.map((p) => p.length), [10, 10, 5]);
    assert.deepEqual(pages.flat().map((kv) => kv.key), keys);
    assert.ok(pages.flat().every((kv) => kv.value === "v" && kv.revision <= revision));
  },

  async "an older revision can be listed until it is compacted"({ store, compact }, { key, prefix }) {
    const [a, b] = [key("a"), key("b")];
    const old = await put(store, a, "1");
    await put(store, a, "2");
    await put(store, b, "1");
    const newest = await remove(store, a);
    const at = async (revision?: bigint) => {
      const kvs: KeyValue[] = [];
      assert.equal(await store.list(prefixRange(prefix), (page) => kvs.push(...page), { at: revision }), revision);
      return kvs.map((kv) => `${kv.key.at(-1)}=${kv.value}`);
    };
    assert.deepEqual(await at(old), ["a=1"]);
    assert.deepEqual(await at(newest - 1n), ["a=2", "b=1"]);
    assert.deepEqual(await at(newest), ["b=1"]);
    await compact(newest);
    await assert.rejects(at(newest - 1n), Compacted);
    assert.deepEqual(await at(newest), ["b=1"]);
  },

  async "a list of a revision that is not yet means a restored server"({ store }, { prefix }) {
    const { revision } = await store.status();
    await assert.rejects(store.list(prefixRange(prefix), () => {}, { at: revision + 100n }), Restored);
  },

  async "a watch yields history and then news, each event once and in order"({ store }, { key, prefix }) {
    const [a, b] = [key("a"), key("b")];
    const first = await put(store, a, "1");
    await store.txn({ compare: [], write: [{ put: a, value: "2" }, { put: b, value: "1" }] });
    const stop = new AbortController();
    let attached = 0;
    const onState = (s: { connected: boolean }) => attached += s.connected ? 1 : 0;
    const watching = collect(
      store.watch(prefixRange(prefix), first, { signal: stop.signal, onState }),
      (seen) => seen.flatMap((s) => s.events).length >= 5,
    );
    await wait("the watch to attach", () => attached);
    await put(store, `${prefix.slice(0, -1)}-elsewhere`, "not watched");
    await remove(store, a);
    const last = await put(store, a, "3");
    const events = await watching;
    stop.abort();
    assert.deepEqual(
      events.map((e) => [e.key.at(-1), e.value, Number(e.revision - first), Number(e.created - first)]),
      [
        ["a", "1", 0, 0],
        ["a", "2", 1, 0],
        ["b", "1", 1, 1],
        ["a", undefined, 3, Number(-first)],
        ["a", "3", Number(last - first), Number(last - first)],
      ],
    );
  },

  async "a batch never ends in the middle of a revision"({ store }, { key, prefix }) {
    const from = await put(store, key("x"), "first");
    for (let i = 0; i < 20; i++) {
      const write = Array.from({ length: 100 }, (_, n) => ({ put: key(`k${n}`), value: `${i}`.repeat(2_000) }));
      await store.txn({ compare: [], write });
    }
    const last = (await store.status()).revision;
    const seen: WatchBatch[] = [];
    for await (const batch of store.watch(prefixRange(prefix), from, { signal: new AbortController().signal })) {
      seen.push(batch);
      if (batch.revision >= last) break;
    }
    assert.equal(seen.flatMap((b) => b.events).length, 2_001);
    for (const [i, { events, revision }] of seen.entries()) {
      assert.equal(events.at(-1)?.revision, revision);
      const next = seen[i + 1]?.events[0];
      assert.ok(!next || next.revision > revision);
    }
  },

  async "a watch from a compacted revision throws Compacted, from the next one it works"({ store, compact }, names) {
    const first = await put(store, names.key("a"), "1");
    const last = await remove(store, names.key("a"));
    await compact(last);
    const watch = (from: bigint, signal = new AbortController().signal) =>
      store.watch(prefixRange(names.prefix), from, { signal });
    await assert.rejects(collect(watch(first), () => false), Compacted);
    // From the compacted revision itself etcd 3.4 would watch, and keep the delete of that revision to itself.
    await assert.rejects(collect(watch(last), () => false), Compacted);
    const news = collect(watch(last + 1n), (seen) => seen.length > 0);
    await put(store, names.key("b"), "1");
    assert.deepEqual((await news).map((e) => e.value), ["1"]);
  },

  async "a watch that is attached is not hurt by compaction"({ store, compact }, { key, prefix }) {
    const { revision } = await store.status();
    let attached = false;
    const onState = () => attached = true;
    const signal = new AbortController().signal;
    const watching = collect(
      store.watch(prefixRange(prefix), revision + 1n, { signal, onState }),
      (s) => s.flatMap((b) => b.events).length >= 10,
    );
    await wait("the watch to attach", () => attached);
    for (let i = 0; i < 10; i++) await compact(await put(store, key("a"), `${i}`));
    assert.deepEqual((await watching).map((e) => e.value), Array.from({ length: 10 }, (_, i) => `${i}`));
  },

  async "a watch from beyond the next revision means a restored server"({ store }, { prefix }) {
    const { revision } = await store.status();
    const signal = new AbortController().signal;
    await assert.rejects(collect(store.watch(prefixRange(prefix), revision + 100n, { signal }), () => false), Restored);
  },

  async "a watch ends when it is aborted, idle or not"({ store }, { key, prefix }) {
    const { revision } = await store.status();
    for (const busy of [false, true]) {
      const stop = new AbortController();
      const options = { signal: stop.signal, onState: () => busy || stop.abort() };
      const watching = collect(store.watch(prefixRange(prefix), revision + 1n, options), () => {
        stop.abort();
        return false;
      });
      if (busy) await put(store, key(), "v");
      assert.equal((await watching).length, busy ? 1 : 0);
    }
  },

  async "a lease's keys vanish when it is disposed, with events"({ store }, { key, prefix }) {
    const k = key();
    const lease = await store.lease(60);
    const { revision } = await store.txn({ compare: [], write: [{ put: k, value: "here", lease: lease.id }] });
    assert.equal((await store.get(k))?.value, "here");
    await lease[Symbol.asyncDispose]();
    await wait("the key to vanish", async () => await store.get(k) === undefined);
    const signal = new AbortController().signal;
    const events = await collect(store.watch(prefixRange(prefix), revision + 1n, { signal }), (s) => s.length > 0);
    assert.deepEqual(events.map((e) => [e.key, e.value]), [[k, undefined]]);
    assert.equal(lease.lost.aborted, false);
  },

  async "a lease that is kept alive outlives its time"({ store }, { key }) {
    const k = key();
    await using lease = await store.lease(1);
    const { revision } = await store.txn({ compare: [], write: [{ put: k, value: "here", lease: lease.id }] });
    await systemClock.sleep(2_500); // the time that is claimed to be outlived, not a wait for something
    assert.equal((await store.get(k))?.revision, revision);
    assert.equal(lease.lost.aborted, false);
  },

  async "a lease that nobody attends outlives its closing and ends after its time"({ store }, { key }) {
    const k = key();
    const lease = await store.lease(2, { unattended: true });
    await store.txn({ compare: [], write: [{ put: k, value: "here", lease: lease.id }] });
    await lease[Symbol.asyncDispose]();
    assert.equal((await store.get(k))?.value, "here");
    await wait("the key to vanish", async () => await store.get(k) === undefined, { deadlineMs: 20_000 });
  },

  async "a put with an unknown lease is refused"({ store }, { key }) {
    const put = store.txn({ compare: [], write: [{ put: key(), value: "", lease: "123456789" }] });
    await assert.rejects(put, (e) => isProblem(e, "not-found"));
  },

  async "a call that is aborted rejects with the reason"({ store }, { key }) {
    const stop = new AbortController();
    stop.abort(new Error("no longer wanted"));
    await assert.rejects(store.get(key(), { signal: stop.signal }), /no longer wanted/);
  },

  async "requests are counted"({ store }, { key }) {
    const before = { ...store.requests };
    await store.get(key());
    await put(store, key(), "");
    assert.equal((store.requests["range"] ?? 0) - (before["range"] ?? 0), 1);
    assert.equal((store.requests["txn"] ?? 0) - (before["txn"] ?? 0), 1);
  },
};
