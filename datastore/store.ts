/** One value of etcd. `revision` is its mod revision, `created` its create revision. */
export interface KeyValue {
  key: string;
  value: string;
  revision: bigint;
  created: bigint;
}

/** Keys from `start` up to, not including, `end`. */
export interface Range {
  start: string;
  end: string;
}

/** The range of all keys that begin with `prefix`. */
export function prefixRange(prefix: string): Range {
  const last = prefix.charCodeAt(prefix.length - 1);
  return { start: prefix, end: prefix.slice(0, -1) + String.fromCharCode(last + 1) };
}

/** One change: a new value, or `value` undefined for a delete. */
export interface Event {
  key: string;
  value: string | undefined;
  revision: bigint;
  created: bigint;
}

/** What must hold for a transaction to commit. */
export type Compare =
  /** The key's mod revision; 0n = the key does not exist. */
  | { key: string; revision: bigint }
  /** No key of the range was created or changed after `revision` (a delete is not noticed). */
  | { range: Range; unchangedSince: bigint };

/** A write. `lease` is the id of a lease() of the same store. */
export type Write =
  | { put: string; value: string; lease?: string }
  | { delete: string };

/**
 * A transaction: when all compares hold the writes are done at one revision; else nothing is written and the current
 * values of `onConflict` come back. etcd's limits: 128 operations, each key once among the writes, 1.5 MiB.
 */
export interface Txn {
  compare: Compare[];
  write: Write[];
  /** Keys and ranges to read when a compare fails; default: the compared keys. */
  onConflict?: (string | Range)[];
}

/** Outcome of a transaction. `current` maps every key that was asked for and exists. */
export type TxnResult =
  | { committed: true; revision: bigint }
  | { committed: false; revision: bigint; current: Map<string, KeyValue> };

/** All values of some ranges at one revision. */
export interface Snapshot {
  revision: bigint;
  values: Map<string, KeyValue>;
}

/** What a watch yields: events of one or more whole revisions in order (possibly none), complete up to `revision`. */
export interface WatchBatch {
  events: Event[];
  revision: bigint;
}

/**
 * The start revision of a watch or list is compacted: list again and diff.
 * `compactRevision` is 0n when the server did not say it.
 */
export class Compacted extends Error {
  constructor(readonly compactRevision: bigint) {
    super(compactRevision === 0n ? "revision is compacted" : `revision is compacted, oldest is ${compactRevision}`);
    this.name = "Compacted";
  }
}

/** A lease that is kept alive until it is closed; keys put with its `id` vanish when the process is gone for `ttlS`. */
export interface Lease extends AsyncDisposable {
  readonly id: string;
  /** Aborted when the lease was lost (expired while etcd was away): take a new one and put its keys again. */
  readonly lost: AbortSignal;
}

/** Options of a call. Every call has a deadline. */
export interface CallOptions {
  /** Default: the store's (5 s). */
  deadlineMs?: number;
  signal?: AbortSignal;
}

/**
 * The datastore: etcd v3's model (revisions, transactions, watches), behind which stand real etcd, memory and SQLite.
 * Failures of the server are Problems: "unavailable" (deadline, refused, no leader), "unauthorized". A write is never
 * retried by the store: after "unavailable" its outcome is unknown and the caller reads back what it wanted to write.
 */
export interface Store extends AsyncDisposable {
  /** One value; undefined when the key does not exist. */
  get(key: string, options?: CallOptions): Promise<KeyValue | undefined>;
  /** Several keys and ranges in one round trip, at one revision. */
  read(what: (string | Range)[], options?: CallOptions): Promise<Snapshot>;
  /** A range in pages of one revision (`at`, default the newest). Calls `page` per page; returns the revision.
   * @throws Compacted */
  list(
    range: Range,
    page: (kvs: KeyValue[]) => void,
    options?: CallOptions & { at?: bigint; pageSize?: number },
  ): Promise<bigint>;
  txn(txn: Txn, options?: CallOptions): Promise<TxnResult>;
  /**
   * Changes from revision `from` (inclusive) on, without loss or doubling over reconnects. Ends when `signal` is
   * aborted. Connection losses are retried inside, with back-off and jitter; `onState` tells of them.
   * @throws Compacted when `from` is compacted; Problem "unauthorized". `Restored` when the cluster's id changed or its
   * revision went backwards (etcd restored from a backup).
   */
  watch(
    range: Range,
    from: bigint,
    options: { signal: AbortSignal; onState?: (s: WatchState) => void },
  ): AsyncGenerator<WatchBatch>;
  /** @param options.unattended nobody renews it: it ends after `ttlS` whatever becomes of us, and closing leaves it. */
  lease(ttlS: number, options?: CallOptions & { unattended?: boolean }): Promise<Lease>;
  /** Cluster id, newest revision, and the server's version text. */
  status(options?: CallOptions): Promise<{ clusterId: string; revision: bigint; version: string }>;
  /** Round trips made so far, by kind ("range", "txn", …); for tests and the bench. */
  readonly requests: Readonly<Record<string, number>>;
}

/** State of a watch's connection. */
export type WatchState = { connected: true } | { connected: false; why: string; attempt: number };

/** etcd was restored from a backup or replaced: what we hold is not an earlier state of what it holds now. */
export class Restored extends Error {
  constructor(readonly why: string) {
    super(`etcd is not the one we knew: ${why}`);
    this.name = "Restored";
  }
}
