/** Watches and mirrors against a real etcd that is cut off, killed, frozen, compacted and restored while somebody writes. */
import assert from "node:assert/strict";
import { openEtcd } from "../../datastore/etcd.ts";
import { type Changes, Mirror } from "../../datastore/mirror.ts";
import { Compacted, type Event, prefixRange, Restored, type Store, type WatchState } from "../../datastore/store.ts";
import { systemClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { isProblem } from "../../lib/problem.ts";
import { runOk } from "../../lib/process.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { wait } from "../lab/wait.ts";

const prefix = "/h1/";
const range = prefixRange(prefix);
const deps = { clock: systemClock, log: silentLog };
const open = (endpoint: string) => openEtcd({ endpoints: [endpoint], deadlineMs: 3_000 }, deps);

/** grpc-js lets the timer of its next attempt run out (1 s) after a channel is closed that could not connect. */
const withLateTimer = { sanitizeOps: false, sanitizeResources: false };

Deno.test(
  "6,000 revisions arrive once and in order over a connection that is cut while they are caught up",
  withLateTimer,
  async () => {
    await using etcd = await startEtcd();
    await using direct = open(etcd.endpoint);
    const { revision } = await direct.status();
    for (let i = 0; i < 6_000; i += 50) {
      await Promise.all(
        Array.from({ length: 50 }, (_, j) => put(direct, `${prefix}${(i + j) % 300}`, "x".repeat(200))),
      );
    }
    using proxy = new CuttableProxy(etcd.port);
    proxy.cutAfterBytes = 400_000; // etcd sends 1,000 revisions a message here, about 250,000 bytes
    await using store = open(proxy.endpoint);
    const seen: Event[] = [], stop = new AbortController(), states: WatchState[] = [];
    const onState = (s: WatchState) => void states.push(s);
    for await (const batch of store.watch(range, revision + 1n, { signal: stop.signal, onState })) {
      seen.push(...batch.events);
      if (seen.length >= 6_000) break;
    }
    stop.abort();
    assert.ok(proxy.cuts >= 3, `${proxy.cuts} cuts`);
    assert.deepEqual(seen.map((e) => e.revision), Array.from({ length: 6_000 }, (_, i) => revision + 1n + BigInt(i)));
    assert.ok(states.some((s) => !s.connected));
  },
);

Deno.test(
  "whatever happens to etcd, every watcher and mirror ends with its content, each event once and in order",
  withLateTimer,
  async () => {
    let failed: unknown;
    const random = generator(Number(Deno.env.get("SEED") ?? 20261121));
    await using etcd = await startEtcd();
    using proxy = new CuttableProxy(etcd.port);
    await using writerStore = open(etcd.endpoint), direct = open(etcd.endpoint), cut = open(proxy.endpoint);
    const stop = new AbortController();
    const watchers = [new Watcher(direct), new Watcher(cut), new Watcher(cut)];
    const watching = Promise.all(watchers.map((w) => w.run(stop.signal)));
    watching.catch((error) => failed = error);
    await using mirrors = new AsyncDisposableStack();
    const told = [direct, cut].map((store) => {
      const mirror = mirrors.use(Mirror.start({ store, range, ...deps }));
      return new Told(mirror, stop.signal);
    });
    const writer = new Writer(writerStore, random), total = 5_000;
    const counts = { compaction: 0, kill: 0, freeze: 0, cut: 0, "cut and compaction": 0 };
    const faults: Record<keyof typeof counts, () => Promise<void>> = {
      compaction: () => compactNow(etcd),
      async kill() {
        await etcd.kill();
        await systemClock.sleep(random(400));
        await etcd.restart();
      },
      async freeze() {
        etcd.stop();
        await systemClock.sleep(200 + random(1_500));
        etcd.cont();
      },
      cut: () => Promise.resolve(proxy.cut()),
      async "cut and compaction"() {
        proxy.blocked = true;
        proxy.cut();
        const { written } = writer;
        await wait("more to be written", () => writer.written > written + 20 || writer.written === total);
        await compactNow(etcd);
        proxy.blocked = false;
      },
    };
    const writing = writer.run(total);
    writing.catch((error) => failed = error);
    const names = Object.keys(counts) as (keyof typeof counts)[];
    for (let i = 0; writer.written < total && failed === undefined; i++) {
      await systemClock.sleep(random(500));
      const name = names[i % names.length]!;
      await faults[name]();
      counts[name]++;
    }
    if (failed !== undefined) throw failed;
    await writing;
    const last = writer.truth.at(-1)!.revision;
    await wait("the watchers to see the last revision", () => watchers.every((w) => w.revision >= last), {
      deadlineMs: 30_000,
    });
    await wait("the mirrors to see it", () => told.every((t) => t.mirror.revision >= last && t.isUpToDate()), {
      deadlineMs: 30_000,
    });
    stop.abort();
    await watching;
    for (const t of told) await t.ended;

    const content = await etcd.dump(prefix);
    assert.deepEqual(writer.content(), content, "the writer knows what it wrote");
    for (const [i, w] of watchers.entries()) {
      w.check(writer.truth, i);
      assert.deepEqual(w.content(), content, `watcher ${i}`);
    }
    for (const [i, t] of told.entries()) {
      assert.deepEqual(new Map(t.mirror.list("").map((kv) => [kv.key, kv.value])), content, `mirror ${i}`);
      assert.deepEqual(t.content(), content, `consumer of mirror ${i}`);
    }
    console.log(
      `  ${writer.truth.length} events in ${writer.written} transactions, ${writer.unknown} with unknown outcome; faults:`,
      JSON.stringify(counts),
    );
    for (const w of watchers) console.log(`  watcher: ${w.summary(writer.truth)}`);
    for (const t of told) console.log(`  mirror: ${t.batches} batches, ${t.resyncs} of them after a new list`);
    assert.ok(Object.values(counts).every((n) => n >= 2), JSON.stringify(counts));
    assert.ok(watchers[1]!.relists + watchers[2]!.relists >= 2, "compaction was met");
  },
);

Deno.test("a frozen etcd is noticed within 20 s, and the watch goes on when it thaws", withLateTimer, async () => {
  await using etcd = await startEtcd();
  await using store = open(etcd.endpoint);
  const first = await put(store, `${prefix}a`, "1");
  const seen: Event[] = [], states: WatchState[] = [], stop = new AbortController();
  const watching = (async () => {
    const onState = (s: WatchState) => void states.push(s);
    for await (const b of store.watch(range, first, { signal: stop.signal, onState })) seen.push(...b.events);
  })();
  await wait("the watch", () => seen.length === 1);
  etcd.stop();
  await wait("the frozen server to be noticed", () => states.some((s) => !s.connected), { deadlineMs: 20_000 });
  etcd.cont();
  await wait("a write", () => put(store, `${prefix}a`, "2").catch(() => undefined));
  await wait("the event", () => seen.some((e) => e.value === "2"));
  stop.abort();
  await watching;
});

Deno.test("an etcd that was put back to an older state is noticed by its revision", withLateTimer, async () => {
  await restoredTest(async (store) => void await put(store, `${prefix}after`, "1"));
});

Deno.test(
  "an etcd that was put back and has passed our revision since is noticed by its history",
  withLateTimer,
  async () => {
    await restoredTest(async (store) => {
      for (let i = 0; i < 50; i++) await put(store, `${prefix}after`, `${i}`);
    });
  },
);

/** Puts etcd back to a copy of its data of before, with `afterwards` written to it before the watch comes back. */
async function restoredTest(afterwards: (store: Store) => Promise<void>): Promise<void> {
  await using etcd = await startEtcd();
  using proxy = new CuttableProxy(etcd.port);
  await using store = open(etcd.endpoint), cut = open(proxy.endpoint);
  for (const k of ["a", "b"]) await put(store, prefix + k, "old");
  await etcd.kill();
  await runOk("cp", ["-r", `${etcd.dataDir}/member`, `${etcd.dataDir}/backup`]);
  await etcd.restart();
  const stop = new AbortController();
  let thrown: unknown, seen = 0;
  const watching = (async () => {
    for await (const b of cut.watch(range, 1n, { signal: stop.signal })) seen += b.events.length;
  })().catch((error) => thrown = error);
  await using mirror = Mirror.start({ store: cut, range, ...deps });
  for (let i = 0; i < 10; i++) await wait("a write", () => put(store, `${prefix}lost${i}`, "1").catch(() => undefined));
  await wait("watch and mirror to see it", () => seen === 12 && mirror.size === 12);
  proxy.blocked = true;
  proxy.cut();
  await etcd.kill();
  await Deno.remove(`${etcd.dataDir}/member`, { recursive: true });
  await Deno.rename(`${etcd.dataDir}/backup`, `${etcd.dataDir}/member`);
  await etcd.restart();
  await wait("etcd to be written to", () => afterwards(store).then(() => true));
  proxy.blocked = false;
  await wait("the watch to say so", () => thrown);
  assert.ok(thrown instanceof Restored, String(thrown));
  await watching;
  const content = await etcd.dump(prefix);
  await wait("the mirror to hold the older state", () => {
    assert.deepEqual(new Map(mirror.list("").map((kv) => [kv.key, kv.value])), content);
    return true;
  });
  stop.abort();
}

/** A linear congruential generator: random(n) is 0 to n - 1. */
function generator(seed: number): (n: number) => number {
  console.log(`  SEED=${seed}`);
  let state = seed;
  return (n) => {
    state = (state * 1103515245 + 12345) % 2147483648; // its low bits repeat soon
    return Math.floor(state / 65536) % n;
  };
}

async function put(store: Store, key: string, value: string): Promise<bigint> {
  return (await store.txn({ compare: [], write: [{ put: key, value }] })).revision;
}

async function compactNow(etcd: Etcd): Promise<void> {
  await wait("a compaction", () => etcd.compact().then(() => true), { deadlineMs: 20_000 });
}

/** A way to etcd that can be cut: at once, or after so many bytes of answers. */
class CuttableProxy implements Disposable {
  readonly endpoint: string;
  blocked = false;
  cuts = 0;
  cutAfterBytes = Infinity;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #open = new Set<Deno.Conn>();

  constructor(private readonly port: number) {
    this.endpoint = `http://127.0.0.1:${(this.#listener.addr as Deno.NetAddr).port}`;
    void this.#accept();
  }

  /** Ends every connection, without a goodbye of HTTP/2. */
  cut(): void {
    this.cuts++;
    for (const conn of this.#open) close(conn);
    this.#open.clear();
  }

  [Symbol.dispose](): void {
    this.cut();
    this.#listener.close();
  }

  async #accept(): Promise<void> {
    for await (const client of this.#listener) {
      if (this.blocked) close(client);
      else void this.#serve(client);
    }
  }

  async #serve(client: Deno.Conn): Promise<void> {
    let server: Deno.Conn;
    try {
      server = await Deno.connect({ hostname: "127.0.0.1", port: this.port });
    } catch {
      return close(client); // etcd is down: so are we
    }
    this.#open.add(client).add(server);
    await Promise.all([this.#pump(client, server, false), this.#pump(server, client, true)]);
  }

  async #pump(from: Deno.Conn, to: Deno.Conn, counted: boolean): Promise<void> {
    const buffer = new Uint8Array(16_384);
    try {
      for (let passed = 0;;) {
        const n = await from.read(buffer);
        if (n === null) break;
        for (let i = 0; i < n;) i += await to.write(buffer.subarray(i, n));
        if (counted && (passed += n) > this.cutAfterBytes) return this.cut();
      }
    } catch (error) {
      if (!(error instanceof Error)) throw error; // cut from either side
    }
    for (const conn of [from, to]) {
      this.#open.delete(conn);
      close(conn);
    }
  }
}

function close(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // closed by the other pump
  }
}

/** One event that happened for sure. */
interface Truth {
  key: string;
  value: string | undefined;
  revision: bigint;
}

/**
 * Writes numbered transactions and knows exactly what was committed: each is made on condition of the one before, so one
 * whose outcome is unknown is read back, and made again only if it cannot come late any more.
 */
class Writer {
  readonly truth: Truth[] = [];
  written = 0;
  unknown = 0;
  #values = new Map<string, string>();

  constructor(private readonly store: Store, private readonly random: (n: number) => number) {}

  content(): Map<string, string> {
    return new Map([...this.#values].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  async run(count: number): Promise<void> {
    for (let after = 0n; this.written < count; this.written++) {
      const writes = new Map<string, string | undefined>([[`${prefix}number`, `${this.written}`]]);
      for (let i = this.random(4); i > 0; i--) {
        const key = `${prefix}k${this.random(150)}`;
        writes.set(key, this.random(4) === 0 ? undefined : `${this.written}`);
      }
      after = await this.#commit(writes, after);
      for (const [key, value] of writes) {
        if (value === undefined && !this.#values.has(key)) continue;
        if (value === undefined) this.#values.delete(key);
        else this.#values.set(key, value);
        this.truth.push({ key, value, revision: after });
      }
    }
  }

  async #commit(writes: Map<string, string | undefined>, after: bigint): Promise<bigint> {
    const number = `${prefix}number`;
    const write = [...writes].map(([k, v]) => (v === undefined ? { delete: k } : { put: k, value: v }));
    for (;;) {
      try {
        const result = await this.store.txn({ compare: [{ key: number, revision: after }], write });
        if (result.committed) return result.revision;
        const now = result.current.get(number);
        assert.equal(now?.value, writes.get(number), "nobody else writes");
        return now!.revision;
      } catch (error) {
        if (!isProblem(error, "unavailable")) throw error;
        this.unknown++;
        await systemClock.sleep(20);
      }
    }
  }
}

/** Follows by list and watch and keeps everything that it was told. */
class Watcher {
  /** Events of each watch, with where it began. */
  readonly segments: { from: bigint; events: Event[]; to: bigint }[] = [];
  relists = -1;
  #values = new Map<string, string>();

  constructor(private readonly store: Store) {}

  get revision(): bigint {
    return this.segments.at(-1)?.to ?? 0n;
  }

  content(): Map<string, string> {
    return new Map([...this.#values].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const listed = new Map<string, string>();
        const from = await this.store.list(range, (kvs) => kvs.forEach((kv) => listed.set(kv.key, kv.value)), {
          signal,
        });
        this.#values = listed;
        this.relists++;
        const segment = { from, events: [] as Event[], to: from };
        this.segments.push(segment);
        for await (const batch of this.store.watch(range, from + 1n, { signal })) {
          for (const e of batch.events) this.#take(segment.events, e);
          segment.to = batch.revision;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Compacted) continue;
        if (!isProblem(error, "unavailable")) throw error;
        await systemClock.sleep(50);
      }
    }
  }

  /** Every segment holds exactly what happened in its revisions. */
  check(truth: Truth[], watcher: number): void {
    for (const { from, to, events } of this.segments) {
      const happened = truth.filter((t) => t.revision > from && t.revision <= to);
      const order = (list: Truth[]) => list.map((e) => `${e.revision} ${e.key} ${e.value}`);
      // Within one revision etcd orders events as the transaction did.
      assert.deepEqual(order(events), order(happened), `watcher ${watcher}, revisions ${from} to ${to}`);
    }
  }

  summary(truth: Truth[]): string {
    const seen = this.segments.reduce((n, s) => n + s.events.length, 0);
    return `${seen} of ${truth.length} events in ${this.segments.length} watches, the rest by ${this.relists} new lists`;
  }

  #take(into: Event[], e: Event): void {
    into.push(e);
    if (e.value === undefined) this.#values.delete(e.key);
    else this.#values.set(e.key, e.value);
  }
}

/** A mirror's consumer: what it was told, each state of a key at most once and never backwards. */
class Told {
  batches = 0;
  resyncs = -1;
  readonly ended: Promise<void>;
  #values = new Map<string, string>();
  #newest = new Map<string, bigint>();

  constructor(readonly mirror: Mirror, signal: AbortSignal) {
    this.ended = (async () => {
      for await (const batch of mirror.changes(signal)) this.#take(batch);
    })();
    this.ended.catch(() => {}); // awaited at the end
  }

  content(): Map<string, string> {
    return new Map([...this.#values].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  isUpToDate(): boolean {
    return this.mirror.list("").every((kv) => this.#values.get(kv.key) === kv.value) &&
      this.#values.size === this.mirror.size;
  }

  #take(batch: Changes): void {
    this.batches++;
    if (batch.resync) this.resyncs++;
    for (const kv of batch.set) {
      const before = this.#newest.get(kv.key) ?? 0n;
      assert.ok(kv.revision > before, `${kv.key} at ${kv.revision} after ${before}`);
      this.#newest.set(kv.key, kv.revision);
      this.#values.set(kv.key, kv.value);
    }
    for (const key of batch.deleted) this.#values.delete(key);
  }
}
