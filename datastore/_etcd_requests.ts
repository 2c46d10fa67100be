import { Buffer } from "node:buffer";
import type { Compare, Event, KeyValue, Range, Txn } from "./store.ts";

// Requests as etcd3's protobuf loader takes them: snake_case members, bytes as Buffer, 64-bit integers as text. Enums are
// given by number, because a name that is spelled wrong silently becomes 0, and a compare with it then holds when it must not.

const comparesEqual = 0;
const comparesLess = 2;
const targetMod = 2;

/** One value on the wire. Integers are text. */
export interface WireValue {
  key: Buffer;
  value: Buffer;
  mod_revision: string;
  create_revision: string;
}

/** A range request: one key without `range_end`. */
export interface WireRange {
  key: Buffer;
  range_end?: Buffer;
  limit?: number;
  revision?: string;
}

const bytes = (text: string): Buffer => Buffer.from(text, "utf8");

/** Asks for one key or a range, at `at` (default the newest revision), at most `limit` values, in key order. */
export function rangeRequest(what: string | Range, options: { at?: bigint; limit?: number } = {}): WireRange {
  const revision = options.at === undefined ? undefined : String(options.at);
  const more = { ...(options.limit ? { limit: options.limit } : {}), ...(revision ? { revision } : {}) };
  if (typeof what === "string") return { key: bytes(what), ...more };
  return { key: bytes(what.start), range_end: bytes(what.end), ...more };
}

/** One condition. The only place where a compare is built. */
export function compareRequest(c: Compare): Record<string, unknown> {
  if ("key" in c) {
    return { key: bytes(c.key), target: targetMod, result: comparesEqual, mod_revision: String(c.revision) };
  }
  return {
    key: bytes(c.range.start),
    range_end: bytes(c.range.end),
    target: targetMod,
    result: comparesLess,
    mod_revision: String(c.unchangedSince + 1n),
  };
}

/** A whole transaction; on conflict it reads what `onConflict` says, by default the compared keys. */
export function txnRequest(txn: Txn): Record<string, unknown> {
  const asked = txn.onConflict ?? txn.compare.flatMap((c) => ("key" in c ? [c.key] : []));
  return {
    compare: txn.compare.map(compareRequest),
    success: txn.write.map((w) =>
      "put" in w
        ? { request_put: { key: bytes(w.put), value: bytes(w.value), ...(w.lease ? { lease: w.lease } : {}) } }
        : { request_delete_range: { key: bytes(w.delete) } }
    ),
    failure: [...new Set(asked)].map((what) => ({ request_range: rangeRequest(what) })),
  };
}

/** A transaction that only reads, so that everything is of one revision. */
export function readRequest(what: (string | Range)[], at?: bigint): Record<string, unknown> {
  return { compare: [], success: what.map((w) => ({ request_range: rangeRequest(w, { at }) })), failure: [] };
}

/** A watch of `range` from revision `from` on, with fragments and progress messages. */
export function watchRequest(range: Range, from: bigint): Record<string, unknown> {
  return {
    create_request: {
      key: bytes(range.start),
      range_end: bytes(range.end),
      start_revision: String(from),
      progress_notify: true,
      fragment: true,
    },
  };
}

/** A value off the wire. A value that was never changed shares one bigint for both revisions. */
export function keyValueOf(kv: WireValue): KeyValue {
  const revision = BigInt(kv.mod_revision);
  const created = kv.create_revision === kv.mod_revision ? revision : BigInt(kv.create_revision);
  return { key: kv.key.toString("utf8"), value: kv.value.toString("utf8"), revision, created };
}

/** An event off the wire. */
export function eventOf(event: { type: string; kv: WireValue }): Event {
  const { key, value, revision, created } = keyValueOf(event.kv);
  return { key, value: event.type === "Delete" ? undefined : value, revision, created };
}
