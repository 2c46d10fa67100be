import { Clock, systemClock, withDeadline } from "../lib/clock.ts";
import { Problem } from "../lib/problem.ts";
import { leftAlone } from "./_lease.ts";
import { checkTxn } from "./_txn_limits.ts";
import { VersionedMap } from "./_versioned_map.ts";
import {
  CallOptions,
  Compacted,
  Compare,
  Event,
  KeyValue,
  Lease,
  Range,
  Restored,
  Snapshot,
  Store,
  Txn,
  TxnResult,
  WatchBatch,
  WatchState,
} from "./store.ts";

/** How a MemoryStore is made. */
export interface MemoryStoreOptions {
  /** For deadlines and leases. Default: the machine's. */
  clock?: Clock;
  clusterId?: string;
  /** Deadline of a call that names none, while paused. Default 5,000. */
  deadlineMs?: number;
}

/** A watch that is attached: what was written since it was last asked. */
interface Watcher {
  range: Range;
  events: Event[];
  wake: () => void;
}

/** Content of a MemoryStore at one moment; see backup(). */
export interface MemoryBackup {
  readonly revision: bigint;
  readonly values: ReadonlyMap<string, KeyValue>;
}

const inRange = (range: Range, key: string): boolean => key >= range.start && key < range.end;

/**
 * The Store in memory, with revisions, compaction, watches and leases as etcd has them: for tests and dry runs.
 * What a test may do to it: failNext(), loseNextAnswer(), pause(), disconnect(), compact(), restore().
 */
export class MemoryStore implements Store {
  readonly requests: Record<string, number> = {};
  #data = new VersionedMap();
  #watchers = new Set<Watcher>();
  #leases = new Map<string, { keys: Set<string> }>();
  #nextLease = 1;
  #clusterId: string;
  #era = 0;
  #failures: { left: number; make: () => Error }[] = [];
  #lostAnswers = 0;
  #resumed: PromiseWithResolvers<void> | undefined;
  #reconnected: PromiseWithResolvers<void> | undefined;
  #refuseCalls = false;
  #closed = new AbortController();
  readonly #clock: Clock;
  readonly #deadlineMs: number;

  constructor(options: MemoryStoreOptions = {}) {
    this.#clock = options.clock ?? systemClock;
    this.#clusterId = options.clusterId ?? "memory-1";
    this.#deadlineMs = options.deadlineMs ?? 5_000;
  }

  async get(key: string, options?: CallOptions): Promise<KeyValue | undefined> {
    await this.#call("range", options);
    return this.#data.get(key);
  }

  async read(what: (string | Range)[], options?: CallOptions): Promise<Snapshot> {
    await this.#call("txn", options);
    return { revision: this.#data.revision, values: this.#valuesOf(what) };
  }

  async list(
    range: Range,
    page: (kvs: KeyValue[]) => void,
    options: CallOptions & { at?: bigint; pageSize?: number } = {},
  ): Promise<bigint> {
    const { at, pageSize = 500 } = options;
    await this.#call("range", options);
    const revision = at ?? this.#data.revision;
    for (let start = range.start;;) {
      if (revision > this.#data.revision) throw new Restored(`revision ${revision} lies in its future`);
      if (revision < this.#data.compacted) throw new Compacted(this.#data.compacted);
      const kvs = this.#data.at({ start, end: range.end }, revision, pageSize + 1);
      page(kvs.slice(0, pageSize));
      if (kvs.length <= pageSize) return revision;
      start = kvs[pageSize - 1]!.key + "\0";
      await this.#call("range", options);
    }
  }

  async txn(txn: Txn, options?: CallOptions): Promise<TxnResult> {
    checkTxn(txn);
    await this.#call("txn", options);
    const result = this.#commit(txn);
    if (this.#lostAnswers > 0) {
      this.#lostAnswers--;
      throw away("the answer was lost");
    }
    return result;
  }

  async *watch(
    range: Range,
    from: bigint,
    options: { signal: AbortSignal; onState?: (s: WatchState) => void },
  ): AsyncGenerator<WatchBatch> {
    const signal = AbortSignal.any([options.signal, this.#closed.signal]);
    const era = this.#era;
    this.#count("watch");
    for (let next = from, attempt = 0; !signal.aborted;) {
      if (!await orAborted(this.#reconnected?.promise, signal)) return;
      if (era !== this.#era) throw new Restored("the store was restored");
      if (next > this.#data.revision + 1n) throw new Restored(`revision ${next - 1n} lies in its future`);
      if (next <= this.#data.compacted) throw new Compacted(this.#data.compacted);
      const watcher: Watcher = {
        range,
        events: this.#data.since(next).filter((e) => inRange(range, e.key)),
        wake() {},
      };
      this.#watchers.add(watcher);
      options.onState?.({ connected: true });
      try {
        for await (const batch of this.#batches(watcher, signal)) {
          next = batch.revision + 1n;
          yield batch;
        }
      } finally {
        this.#watchers.delete(watcher);
      }
      if (!signal.aborted) options.onState?.({ connected: false, why: "disconnected", attempt: ++attempt });
    }
  }

  async lease(ttlS: number, options: CallOptions & { unattended?: boolean } = {}): Promise<Lease> {
    await this.#call("leaseGrant", options);
    const id = String(this.#nextLease++);
    this.#leases.set(id, { keys: new Set() });
    if (options.unattended) {
      const over = this.#clock.sleep(ttlS * 1000, this.#closed.signal);
      over.then(() => this.#dropLease(id), () => {}); // a closed store forgets its leases
      return leftAlone(id);
    }
    const lost = new AbortController();
    const stop = new AbortController();
    const loop = this.#keepAlive(id, ttlS * 1000, lost, AbortSignal.any([stop.signal, this.#closed.signal]));
    return {
      id,
      lost: lost.signal,
      [Symbol.asyncDispose]: async () => {
        stop.abort();
        await loop;
        this.#dropLease(id);
      },
    };
  }

  async status(options?: CallOptions): Promise<{ clusterId: string; revision: bigint; version: string }> {
    await this.#call("status", options);
    return { clusterId: this.#clusterId, revision: this.#data.revision, version: "memory" };
  }

  /** Ends the watches and leases; the content stays readable by contents(). */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new Error("store is closed"));
    return Promise.resolve();
  }

  // What a test may look at and do.

  /** Newest revision, without counting as a request. */
  get revision(): bigint {
    return this.#data.revision;
  }

  /** Every key and value now, sorted by key; not counted as a request. */
  contents(): Map<string, string> {
    return new Map(this.#data.now({ start: "", end: "\uffff" }).map((kv) => [kv.key, kv.value]));
  }

  /** The next `times` calls fail before they do anything. Default: one, as if etcd were away. */
  failNext(times = 1, make: () => Error = () => away("failNext() was called")): void {
    this.#failures.push({ left: times, make });
  }

  /** The next `times` transactions are carried out and then answered by "unavailable": their outcome is unknown. */
  loseNextAnswer(times = 1): void {
    this.#lostAnswers += times;
  }

  /** Calls wait (until their deadline), watches and leases stand still: a frozen server. */
  pause(): void {
    this.#resumed ??= Promise.withResolvers();
  }

  /** Ends pause(). */
  resume(): void {
    this.#resumed?.resolve();
    this.#resumed = undefined;
  }

  /** Watches are cut, and calls fail at once unless only the watches are: a server that is down. */
  disconnect(what: "all" | "watches" = "all"): void {
    this.#refuseCalls = what === "all";
    this.#reconnected ??= Promise.withResolvers();
    for (const w of this.#cut()) w.wake();
  }

  /** Ends disconnect(): watches attach again where they were. */
  reconnect(): void {
    this.#refuseCalls = false;
    this.#reconnected?.resolve();
    this.#reconnected = undefined;
  }

  /** Forgets history before `revision` (default: all of it). Watches that are attached lose nothing. */
  compact(revision: bigint = this.#data.revision): void {
    this.#data.compact(revision);
  }

  /** Content for restore(). */
  backup(): MemoryBackup {
    const values = this.#data.now({ start: "", end: "\uffff" });
    return { revision: this.#data.revision, values: new Map(values.map((kv) => [kv.key, kv])) };
  }

  /** Replaces everything by a backup: revisions go backwards, history is gone, watches throw Restored. */
  restore(backup: MemoryBackup, clusterId: string = this.#clusterId): void {
    this.#data = VersionedMap.from(backup.revision, backup.values.values());
    this.#clusterId = clusterId;
    this.#era++;
    for (const w of this.#cut()) w.wake();
  }

  #count(kind: string): void {
    this.requests[kind] = (this.requests[kind] ?? 0) + 1;
  }

  /** What every call goes through: counting, faults, deadline. */
  async #call(kind: string, options: CallOptions = {}): Promise<void> {
    this.#count(kind);
    options.signal?.throwIfAborted();
    if (this.#closed.signal.aborted) throw away("the store is closed");
    if (this.#resumed) {
      const ms = options.deadlineMs ?? this.#deadlineMs;
      const late = () => away(`no answer within ${ms} ms`);
      const resumed = this.#resumed.promise;
      await withDeadline(ms, () => orAborted(resumed, options.signal), late, this.#clock);
      options.signal?.throwIfAborted();
    }
    const failure = this.#failures[0];
    if (failure) {
      if (--failure.left <= 0) this.#failures.shift();
      throw failure.make();
    }
    if (this.#refuseCalls) throw away("disconnected");
    await Promise.resolve();
  }

  #valuesOf(what: (string | Range)[]): Map<string, KeyValue> {
    const values = new Map<string, KeyValue>();
    for (const w of what) {
      const found = typeof w === "string" ? [this.#data.get(w)] : this.#data.now(w);
      for (const kv of found) if (kv) values.set(kv.key, kv);
    }
    return values;
  }

  #holds(c: Compare): boolean {
    if ("key" in c) return (this.#data.get(c.key)?.revision ?? 0n) === c.revision;
    return this.#data.now(c.range).every((kv) => kv.revision <= c.unchangedSince);
  }

  #commit(txn: Txn): TxnResult {
    if (!txn.compare.every((c) => this.#holds(c))) {
      const asked = txn.onConflict ?? txn.compare.flatMap((c) => ("key" in c ? [c.key] : []));
      return { committed: false, revision: this.#data.revision, current: this.#valuesOf(asked) };
    }
    for (const w of txn.write) {
      if ("put" in w && w.lease !== undefined && !this.#leases.has(w.lease)) {
        throw new Problem({ code: "not-found", what: "lease is gone", where: w.lease, todo: "Take a new lease" });
      }
    }
    const events = this.#data.write(txn.write.map((w) => "put" in w ? [w.put, w.value] : [w.delete, undefined]));
    for (const w of txn.write) {
      for (const lease of this.#leases.values()) lease.keys.delete("put" in w ? w.put : w.delete);
      if ("put" in w && w.lease !== undefined) this.#leases.get(w.lease)!.keys.add(w.put);
    }
    this.#tell(events);
    return { committed: true, revision: this.#data.revision };
  }

  #tell(events: Event[]): void {
    for (const w of this.#watchers) {
      const mine = events.filter((e) => inRange(w.range, e.key));
      if (mine.length === 0) continue;
      w.events.push(...mine);
      w.wake();
    }
  }

  /** Takes all watchers off, so that their generators attach anew. */
  #cut(): Watcher[] {
    const cut = [...this.#watchers];
    this.#watchers.clear();
    return cut;
  }

  /** What an attached watcher is told, until it is cut or aborted. */
  async *#batches(watcher: Watcher, signal: AbortSignal): AsyncGenerator<WatchBatch> {
    while (!signal.aborted && this.#watchers.has(watcher)) {
      if (!await orAborted(this.#resumed?.promise, signal)) return;
      if (watcher.events.length > 0) {
        const events = watcher.events;
        watcher.events = [];
        yield { events, revision: events[events.length - 1]!.revision };
        continue;
      }
      const woken = Promise.withResolvers<void>();
      watcher.wake = () => woken.resolve();
      if (this.#watchers.has(watcher)) await orAborted(woken.promise, signal);
    }
  }

  /** Renews a lease every third of its life; it ends when that was impossible for all of it, which is seen afterwards. */
  async #keepAlive(id: string, ttlMs: number, lost: AbortController, signal: AbortSignal): Promise<void> {
    let renewed = this.#clock.monotonicMs();
    for (;;) {
      if (!await orAborted(this.#clock.sleep(ttlMs / 3, signal).catch(() => {}), signal)) return;
      const now = this.#clock.monotonicMs();
      if (this.#resumed || this.#refuseCalls) {
        if (now - renewed >= ttlMs) this.#dropLease(id);
      } else if (this.#leases.has(id)) renewed = now;
      else return lost.abort(new Error("lease expired"));
    }
  }

  #dropLease(id: string): void {
    const lease = this.#leases.get(id);
    this.#leases.delete(id);
    if (lease) this.#tell(this.#data.write([...lease.keys].sort().map((key) => [key, undefined])));
  }
}

function away(why: string): Problem {
  return new Problem({ code: "unavailable", what: `memory store: ${why}`, todo: "Try again" });
}

/** Waits for `promise` (if any); false when `signal` was aborted first. */
async function orAborted(promise: Promise<unknown> | undefined, signal?: AbortSignal): Promise<boolean> {
  if (signal?.aborted) return false;
  if (!promise) return true;
  if (!signal) {
    await promise;
    return true;
  }
  const aborted = Promise.withResolvers<void>();
  const stop = () => aborted.resolve();
  signal.addEventListener("abort", stop, { once: true });
  await Promise.race([promise, aborted.promise]);
  signal.removeEventListener("abort", stop);
  return !signal.aborted;
}
