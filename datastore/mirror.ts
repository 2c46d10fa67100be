import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf, Problem } from "../lib/problem.ts";
import { Feed, orRejected } from "./_feed.ts";
import { Folders } from "./_folders.ts";
import { type Change, Replica } from "./_replica.ts";
import { readSnapshot, writeSnapshot } from "./snapshot_file.ts";
import { Compacted, type Event, type KeyValue, type Range, Restored, type Store, type WatchState } from "./store.ts";

/** All resources and IPAM in one contiguous range, so in one revision order. */
export const mirroredRange: Range = { start: "/calico/ipam/v2/", end: "/calico/resources/v3/projectcalico.org0" };

/** What a mirror is made of. */
export interface MirrorOptions {
  store: Store;
  /** Default: mirroredRange. */
  range?: Range;
  /** Where the snapshot file lies; without it every start lists. */
  snapshotFile?: string;
  /**
   * True when the snapshot's state may be given out before the datastore has confirmed it, while that does not answer: it
   * is not in sync then, and what has changed since is told as soon as it is known. Default: never.
   */
  mayBeOld?: () => Promise<boolean>;
  /** Time between two writes of the snapshot file. Default 5 minutes. */
  snapshotEveryMs?: number;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter; default Math.random. */
  random?: () => number;
}

/** One step of a consumer: `set` and `deleted` are disjoint, each key once; `set` of the first batch is sorted by key. */
export interface Changes {
  /** The mirror was complete up to here when the batch was made; own commits that it learned may be newer. */
  revision: bigint;
  set: KeyValue[];
  deleted: string[];
  /** The first batch of a consumer, which holds everything, or a batch with the difference found by a new list. */
  resync: boolean;
}

/** Whether the mirror can be trusted. */
export interface MirrorState {
  /** It held everything at one revision and no new list is outstanding. */
  inSync: boolean;
  /** Why it is not in sync, or not connected. */
  why?: string;
  /** The watch stands. False with inSync = what is held may be old, nothing is forgotten. */
  connected: boolean;
}

/** Every key there can be; for catching up, where the last revision may be of a key outside the range. */
const everything: Range = { start: "\0", end: "\u{10ffff}" };

/** So long after the start the snapshot file is written for the first time. */
const firstSnapshotMs = 20_000;

/** A snapshot that is further behind is not caught up by its events: a list costs less. */
const mostToCatchUp = 100_000n;

/**
 * An in-memory copy of a range of the datastore: a list at one revision, then a watch. Nothing is forgotten while the
 * datastore is away. After a compaction or a restore it lists again and tells the difference, deletes too.
 */
export class Mirror implements AsyncDisposable {
  readonly #store: Store;
  readonly #options: MirrorOptions;
  readonly #range: Range;
  readonly #replica = new Replica();
  readonly #feeds = new Set<Feed>();
  readonly #stop = new AbortController();
  readonly #backoff: Backoff;
  #ready = Promise.withResolvers<void>();
  #state: MirrorState = { inSync: false, why: "starting", connected: false };
  #clusterId: string | undefined;
  #restored = false;
  #wasLost = false;
  #writtenRevision = 0n;
  #lists = 0;
  #listsBegun = 0;
  #ended: Promise<unknown> = Promise.resolve();

  private constructor(options: MirrorOptions) {
    const { clock, random } = options;
    this.#options = options;
    this.#store = options.store;
    this.#range = options.range ?? mirroredRange;
    this.#backoff = new Backoff({ firstMs: 50, maxMs: 30_000, clock, random });
    this.#ready.promise.catch(() => {}); // who waits is told; who does not, need not
  }

  /** Starts listing and watching in the background; returns at once. */
  static start(options: MirrorOptions): Mirror {
    const mirror = new Mirror(options);
    mirror.#ended = Promise.all([mirror.#run(), mirror.#writeSnapshots()]).catch((bug) => mirror.#crash(bug));
    return mirror;
  }

  /** Complete up to this revision. */
  get revision(): bigint {
    return this.#replica.revision;
  }

  /** Number of keys. */
  get size(): number {
    return this.#replica.values.size;
  }

  /** Whether it is in sync and connected, and why not. */
  state(): MirrorState {
    return { ...this.#state };
  }

  /** How often it began to list everything. */
  get listsBegun(): number {
    return this.#listsBegun;
  }

  /**
   * Resolves when there is a state to work with: in sync for the first time, or old (MirrorOptions.mayBeOld). Rejects when
   * `signal` is aborted or the mirror ends.
   */
  async ready(signal?: AbortSignal): Promise<void> {
    await orRejected(this.#ready.promise, signal);
  }

  /** The value of a key, as far as the mirror knows; see state(). */
  get(key: string): KeyValue | undefined {
    return this.#replica.values.get(key);
  }

  /** Everything that begins with `prefix`, sorted by key. Costs what it returns, not what the mirror holds. */
  list(prefix: string): KeyValue[] {
    return this.#replica.values.list(prefix);
  }

  /**
   * A consumer of its own, any number at a time. The first batch, when the mirror is ready(), holds everything; each later
   * one the last state of every key that changed since, at once when the consumer was idle, else 10 ms after its last.
   * Ends when `signal` is aborted or the mirror is disposed.
   */
  async *changes(signal: AbortSignal): AsyncGenerator<Changes> {
    const until = AbortSignal.any([signal, this.#stop.signal]);
    const feed = new Feed(this.#options.clock);
    try {
      await this.ready(until);
      this.#feeds.add(feed);
      yield { revision: this.revision, set: this.list(""), deleted: [], resync: true };
      for (;;) {
        const batch = await feed.take(until);
        yield { revision: this.revision, ...batch };
      }
    } catch (error) {
      if (!until.aborted || until.reason !== error) throw error;
      if (!signal.aborted && this.#stop.signal.reason !== disposed) throw error;
    } finally {
      this.#feeds.delete(feed);
    }
  }

  /** Takes over what we committed ourselves, at once; the echo from the watch is recognised by its revision. */
  learn(events: Event[]): void {
    const { start, end } = this.#range;
    this.#tell(this.#replica.learn(events.filter((e) => e.key >= start && e.key < end)), false);
  }

  /** Stops watching, ends the consumers and writes the snapshot file. The content stays readable. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(disposed);
    this.#ready.reject(disposed);
    await this.#ended;
    await this.#writeSnapshot();
  }

  /** From nothing, or from the snapshot, to following the watch; over every failure, until stopped. */
  async #run(): Promise<void> {
    await this.#untilStopped(() => this.#loadSnapshot());
    while (!this.#stop.signal.aborted) {
      await this.#untilStopped(async () => {
        if (!this.#state.inSync) await this.#list();
        await this.#follow(this.#range);
      });
    }
  }

  /** Does `work`; what ends it is said, and what can be is repaired by the next round. Other errors are bugs. */
  async #untilStopped(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      if (error instanceof Compacted) this.#outOfSync("history is compacted, listing again", error);
      else if (error instanceof Restored) {
        this.#restored = true;
        this.#outOfSync("the datastore was restored or replaced, listing again", error);
      } else if (isProblem(error)) this.#lost(error);
      else throw error;
      await this.#backoff.wait(this.#stop.signal).catch(() => {}); // stopped: the loop looks for that
    }
  }

  /** Lists at one revision and tells the difference. */
  async #list(): Promise<void> {
    const { clock, log, snapshotFile } = this.#options;
    const began = clock.monotonicMs();
    const signal = this.#stop.signal;
    const listed = new Folders();
    const take = (kvs: KeyValue[]) => kvs.forEach((kv) => listed.set(this.#replica.share(kv)));
    if (snapshotFile !== undefined) this.#clusterId = (await this.#store.status({ signal })).clusterId;
    // Larger pages after a failure: the shorter it takes, the less can a compaction come in between.
    this.#listsBegun++;
    const pageSize = this.#lists++ === 0 ? 500 : 2_000;
    const revision = await this.#store.list(this.#range, take, { signal, pageSize });
    const changes = this.#replica.replace(listed, revision, this.#restored);
    this.#restored = false;
    this.#lists = 0;
    const ms = Math.round(clock.monotonicMs() - began);
    log.info("mirror in sync", { revision, keys: this.size, changed: changes.length, ms });
    this.#inSync();
    this.#tell(changes, true);
  }

  /** Follows the watch of `range` from our revision on, up to revision `to` or for good. */
  async #follow(range: Range, to?: bigint): Promise<void> {
    const { start, end } = this.#range;
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#stop.signal]);
    const onState = (s: WatchState) => this.#connection(s);
    for await (const { events, revision } of this.#store.watch(range, this.revision + 1n, { signal, onState })) {
      const mine = range === this.#range ? events : events.filter((e) => e.key >= start && e.key < end);
      this.#tell(this.#replica.follow(mine, revision), false);
      if (to !== undefined && revision >= to) return;
    }
    if (!this.#stop.signal.aborted) throw new Error("the store was closed under the mirror");
  }

  /** Begins with the snapshot file, if it can be used, and catches up with what happened since. */
  async #loadSnapshot(): Promise<void> {
    const { snapshotFile, log, clock } = this.#options;
    if (snapshotFile === undefined) return;
    const began = clock.monotonicMs();
    const values = new Folders();
    let newest: KeyValue | undefined;
    const take = (kv: KeyValue) => {
      values.set(kv);
      if (!newest || kv.revision > newest.revision) newest = kv;
    };
    try {
      const head = await readSnapshot(snapshotFile, this.#range, take);
      if (!head) return;
      let isOld = false;
      const to = await this.#sameHistory(head, newest, async () => {
        if (!isOld && await this.#options.mayBeOld?.()) isOld = this.#useOld(values, head.revision);
      });
      if (to === undefined) {
        this.#restored = isOld;
        return;
      }
      this.#clusterId = head.clusterId;
      if (!isOld) this.#replica.replace(values, head.revision, false);
      if (to > head.revision) await this.#follow(everything, to);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      if (error instanceof Restored) this.#restored = true;
      else if (!(error instanceof Compacted) && !isProblem(error)) throw error;
      log.info("snapshot file is not enough, listing", { file: snapshotFile, why: messageOf(error) });
      return;
    }
    if (this.#stop.signal.aborted) return;
    const ms = Math.round(clock.monotonicMs() - began);
    log.info("mirror in sync from its snapshot file", { revision: this.revision, keys: this.size, ms });
    this.#writtenRevision = this.revision;
    this.#inSync();
  }

  /** Gives out a state that the datastore has not confirmed. */
  #useOld(values: Folders, revision: bigint): true {
    this.#replica.replace(values, revision, false);
    const why = `the datastore does not answer; what was known at revision ${revision} is in force`;
    this.#options.log.warn("datastore does not answer, the last known state is in force", {
      revision,
      keys: this.size,
    });
    this.#state = { inSync: false, why, connected: false };
    this.#ready.resolve();
    return true;
  }

  /**
   * The datastore's newest revision, when the snapshot is an earlier state of it and near enough; else undefined.
   * @param onAway called each time that the datastore does not answer.
   */
  async #sameHistory(
    head: { clusterId: string; revision: bigint },
    newest: KeyValue | undefined,
    onAway: () => Promise<void>,
  ): Promise<bigint | undefined> {
    const { log, snapshotFile } = this.#options;
    const signal = this.#stop.signal;
    const status = await this.#whenThere(() => this.#store.status({ signal }), onAway);
    const not = (why: string) => log.warn("snapshot file ignored", { file: snapshotFile, why });
    if (status.clusterId !== head.clusterId) return void not("it is of another cluster");
    if (status.revision < head.revision) return void not("the datastore was restored to an older state");
    if (status.revision - head.revision > mostToCatchUp) return void not("it is too old");
    if (!newest) return status.revision;
    let then: KeyValue | undefined;
    const one = { start: newest.key, end: newest.key + "\0" };
    const at = newest.revision > head.revision ? newest.revision : head.revision;
    await this.#whenThere(() => this.#store.list(one, ([kv]) => then = kv, { at, signal }), onAway);
    if (then?.revision !== newest.revision || then.value !== newest.value) {
      return void not("the datastore's history differs");
    }
    return status.revision;
  }

  /** Repeats a read until the datastore answers. */
  async #whenThere<T>(read: () => Promise<T>, onAway: () => Promise<void>): Promise<T> {
    for (;;) {
      try {
        return await read();
      } catch (error) {
        if (!isProblem(error)) throw error;
        this.#lost(error);
        await onAway();
        await this.#backoff.wait(this.#stop.signal);
      }
    }
  }

  #inSync(): void {
    this.#state = { inSync: true, why: "connecting", connected: false };
    this.#ready.resolve();
  }

  #outOfSync(msg: string, error: Error): void {
    this.#options.log.warn(msg, { why: error.message, revision: this.revision });
    this.#state = { inSync: false, why: `${msg}: ${error.message}`, connected: false };
  }

  #lost(error: Problem): void {
    this.#options.log.warn("datastore cannot be read, what is held stays", { why: error.message });
    this.#state = { ...this.#state, why: error.message, connected: false };
  }

  #connection(s: WatchState): void {
    const { log } = this.#options;
    if (s.connected) {
      if (this.#wasLost) log.info("watch stands again", { revision: this.revision });
      this.#wasLost = false;
      this.#backoff.reset();
      this.#state = { inSync: this.#state.inSync, connected: true };
    } else {
      log.warn("watch lost, what is held stays", { why: s.why, attempt: s.attempt });
      this.#wasLost = true;
      this.#state = { ...this.#state, why: s.why, connected: false };
    }
  }

  #tell(changes: Change[], resync: boolean): void {
    if (changes.length > 0) { for (const feed of this.#feeds) feed.push(changes, resync); }
  }

  /** Something that should not happen did: everybody who waits for us is told. */
  #crash(bug: unknown): void {
    this.#options.log.error("mirror ended by a bug", { why: messageOf(bug) });
    this.#state = { inSync: false, why: messageOf(bug), connected: false };
    this.#ready.reject(bug);
    this.#stop.abort(bug);
  }

  async #writeSnapshots(): Promise<void> {
    const { clock, snapshotFile, snapshotEveryMs = 300_000 } = this.#options;
    if (snapshotFile === undefined) return;
    // The first one soon: a power cut must not find a new host without.
    for (
      let waitMs = Math.min(firstSnapshotMs, snapshotEveryMs);
      !this.#stop.signal.aborted;
      waitMs = snapshotEveryMs
    ) {
      await clock.sleep(waitMs, this.#stop.signal).catch(() => {}); // stopped: the last write is dispose's
      if (!this.#stop.signal.aborted) await this.#writeSnapshot();
    }
  }

  /** Writes the file when there is something new; a failure costs the next start a list, no more. */
  async #writeSnapshot(): Promise<void> {
    const { snapshotFile, log } = this.#options;
    const revision = this.revision;
    if (snapshotFile === undefined || this.#clusterId === undefined) return;
    if (!this.#state.inSync || revision === this.#writtenRevision) return;
    // Values are never changed in place, so this is the state of now however long the writing takes.
    const values = [...this.#replica.values];
    try {
      await writeSnapshot(snapshotFile, { clusterId: this.#clusterId, revision, range: this.#range }, values);
      this.#writtenRevision = revision;
    } catch (error) {
      if (!isProblem(error)) throw error;
      log.warn("snapshot file cannot be written", { file: snapshotFile, why: error.message });
    }
  }
}

/** Reason of an orderly end. */
const disposed = new Error("the mirror is disposed");
