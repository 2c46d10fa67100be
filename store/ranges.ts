import { Refusal, refusal, Status } from "./errors.ts";
import type { Header, KeyValue, RangeRequest, RangeResponse } from "./messages.ts";
import { compareBytes, type Keys, type Rows } from "./rows.ts";

/** What a read sees: the newest revision (with what a transaction has written), and the compacted one. */
export interface View {
  rows: Rows;
  revision: bigint;
  compacted: bigint;
}

/** A header that tells a revision only, as in the answers inside of a transaction. */
export const revisionHeader = (revision: bigint): Header => ({
  cluster_id: 0n,
  member_id: 0n,
  revision,
  raft_term: 0n,
});

const comparisons: ((a: KeyValue, b: KeyValue) => number)[] = [
  (a, b) => compareBytes(a.key, b.key),
  (a, b) => sign(a.version - b.version),
  (a, b) => sign(a.create_revision - b.create_revision),
  (a, b) => sign(a.mod_revision - b.mod_revision),
  (a, b) => compareBytes(a.value, b.value),
];

/** -1, 0 or 1. */
export const sign = (n: bigint): number => n < 0n ? -1 : n > 0n ? 1 : 0;

/** The keys of a request. */
export const keysOf = (r: { key: Uint8Array; range_end: Uint8Array }): Keys => ({ start: r.key, end: r.range_end });

/**
 * Reads a range as etcd does: first the filters by revision, then the order, then the limit; `count` knows none of them.
 * @throws Refusal when the revision is compacted or not yet there, or the order is unknown.
 */
export function range(view: View, r: RangeRequest): RangeResponse {
  checkOrder(r);
  const at = revisionOf(view, r.revision);
  const keys = keysOf(r);
  const count = at === undefined ? view.rows.countLive(keys) : view.rows.countAt(keys, at);
  const header = revisionHeader(view.revision);
  if (r.count_only) return { header, kvs: [], more: false, count };
  const sorted = r.sort_order !== 0 || r.sort_target !== 0;
  const filters = filtersOf(r);
  // As etcd: an order without direction is ascending, but then only of the first keys that the limit lets through.
  const all = r.sort_order !== 0 || filters.length > 0 || r.limit <= 0n;
  const limit = all ? -1n : r.limit + 1n;
  let kvs = at === undefined ? view.rows.live(keys, limit) : view.rows.at(keys, at, limit);
  if (filters.length > 0) kvs = kvs.filter((kv) => filters.every((keeps) => keeps(kv)));
  if (sorted) {
    const compare = comparisons[r.sort_target]!;
    kvs.sort(r.sort_order === 2 ? (a, b) => compare(b, a) : compare);
  }
  const more = r.limit > 0n && BigInt(kvs.length) > r.limit;
  if (more) kvs.length = Number(r.limit);
  if (r.keys_only) { for (const kv of kvs) kv.value = new Uint8Array(0); }
  return { header, kvs, more, count };
}

function checkOrder({ sort_order, sort_target }: RangeRequest): void {
  if (sort_order >= 0 && sort_order <= 2 && comparisons[sort_target]) return;
  throw new Refusal(Status.invalidArgument, "etcdserver: invalid sort option");
}

/** The older revision that is asked for; undefined = the newest. @throws Refusal */
function revisionOf(view: View, asked: bigint): bigint | undefined {
  if (asked <= 0n) return undefined;
  if (asked > view.revision) throw refusal("futureRevision");
  if (asked < view.compacted) throw refusal("compacted");
  return asked === view.revision ? undefined : asked;
}

function filtersOf(r: RangeRequest): ((kv: KeyValue) => boolean)[] {
  const filters: ((kv: KeyValue) => boolean)[] = [];
  if (r.max_mod_revision !== 0n) filters.push((kv) => kv.mod_revision <= r.max_mod_revision);
  if (r.min_mod_revision !== 0n) filters.push((kv) => kv.mod_revision >= r.min_mod_revision);
  if (r.max_create_revision !== 0n) filters.push((kv) => kv.create_revision <= r.max_create_revision);
  if (r.min_create_revision !== 0n) filters.push((kv) => kv.create_revision >= r.min_create_revision);
  return filters;
}
