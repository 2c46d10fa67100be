import type { KeyValue } from "./messages.ts";

/** Keys as etcd names them: `end` empty = the one key, one zero byte = all from `start` on, else up to `end`, without it. */
export interface Keys {
  start: Uint8Array;
  end: Uint8Array;
}

/** One change: a value, or a delete, whose create revision and version are 0. */
export interface Change {
  deleted: boolean;
  kv: KeyValue;
}

/** What lasts beside the keys. */
export interface Numbers {
  clusterId: bigint;
  memberId: bigint;
  /** The newest revision. */
  revision: bigint;
  /** The revision that was compacted; -1n = none. */
  compacted: bigint;
}

/**
 * The seam to what lasts: rows of changes in order of revision, and which of them is each key's newest. A thin layer, without
 * any meaning; all meaning is in the model. Everything throws what the storage throws.
 */
export interface Rows extends Disposable {
  numbers(): Numbers;
  /** Opens a transaction; what is read from now on includes what is written in it. */
  begin(): void;
  /** Returns when the transaction is on the disk. */
  commit(numbers: Numbers): void;
  rollback(): void;

  /** Newest values, sorted by key, at most `limit` (-1n = all). */
  live(keys: Keys, limit: bigint): KeyValue[];
  countLive(keys: Keys): bigint;
  /** The same as of an older revision. */
  at(keys: Keys, revision: bigint, limit: bigint): KeyValue[];
  countAt(keys: Keys, revision: bigint): bigint;
  /** Changes of revisions `from` to `to` (both inclusive) in order, at most `limit`. */
  history(keys: Keys, from: bigint, to: bigint, limit: bigint): Change[];

  /** Adds a change. @param place its place within the revision, from 0 on. */
  add(change: Change, place: number): void;
  /** Drops what no revision from `revision` on can see. @returns how many changes went. */
  compact(revision: bigint): bigint;

  leases(): { id: bigint; ttlS: bigint }[];
  leasedKeys(): { key: Uint8Array; lease: bigint }[];
  addLease(id: bigint, ttlS: bigint): void;
  removeLease(id: bigint): void;

  /** Bytes of the file, and how many of them are in use. */
  size(): { bytes: bigint; used: bigint };
  /** Gives free pages back to the file system. */
  shrink(): void;
}

/** True when `key` is one of `keys`. */
export function includes({ start, end }: Keys, key: Uint8Array): boolean {
  const order = compareBytes(key, start);
  if (end.length === 0) return order === 0;
  return order >= 0 && (isOpenEnd(end) || compareBytes(key, end) < 0);
}

/** True for the end that means "all keys from the start on". */
export const isOpenEnd = (end: Uint8Array): boolean => end.length === 1 && end[0] === 0;

/** Order of byte strings: below, at or above 0. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}
