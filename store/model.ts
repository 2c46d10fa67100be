/**
 * etcd's model of revisions, over rows: what each request means. Nothing here knows of connections, of time, or of when
 * something is on the disk.
 */
import { refusal } from "./errors.ts";
import type { Leases } from "./leases.ts";
import type {
  Compare,
  DeleteRangeRequest,
  DeleteRangeResponse,
  KeyValue,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  RequestOp,
  ResponseOp,
  TxnRequest,
  TxnResponse,
} from "./messages.ts";
import { keysOf, range, revisionHeader, sign } from "./ranges.ts";
import { type Change, compareBytes, type Numbers, type Rows } from "./rows.ts";
import { deleteOf, isReadOnly } from "./txn_checks.ts";

const nothing = new Uint8Array(0);

/** The store's state at a moment. Every method but the reads must be called inside of a transaction of the rows. */
export class Model {
  /** Changes since takeChanges(). */
  #changes: Change[] = [];

  constructor(readonly rows: Rows, readonly leases: Leases, readonly numbers: Numbers) {}

  /** @throws Refusal */
  range(r: RangeRequest): RangeResponse {
    return range({ rows: this.rows, ...this.numbers }, r);
  }

  /** @throws Refusal when the lease is unknown, or a value to keep does not exist. */
  put(r: PutRequest): PutResponse {
    if (r.lease !== 0n && !this.leases.has(r.lease)) throw refusal("leaseNotFound");
    this.#checkKept(r);
    return this.#write((writing) => writing.put(r));
  }

  deleteRange(r: DeleteRangeRequest): DeleteRangeResponse {
    return this.#write((writing) => writing.deleteRange(r));
  }

  /** All compares, those of inner transactions too, look at what was before. @throws Refusal */
  txn(r: TxnRequest): TxnResponse {
    const path = this.#decide(r);
    // As etcd: what would fail half way is found before anything is written, puts first.
    if (!isReadOnly(r)) this.#eachOp(r, [...path], (op) => this.#checkPutOp(op));
    this.#eachOp(r, [...path], (op) => this.#checkRangeOp(op));
    return this.#write((writing) => {
      const answer = writing.txn(r, [...path]);
      answer.header = revisionHeader(writing.view().revision);
      return answer;
    });
  }

  /** Forgets what only older revisions can see. @throws Refusal */
  compact(revision: bigint): void {
    if (revision <= this.numbers.compacted) throw refusal("compacted");
    if (revision > this.numbers.revision) throw refusal("futureRevision");
    this.rows.compact(revision);
    this.numbers.compacted = revision;
  }

  /** Ends a lease and deletes its keys, at one revision. @throws Refusal */
  revoke(id: bigint): void {
    const lease = this.leases.look(id, 0);
    if (!lease) throw refusal("leaseNotFound");
    this.#write((writing) => {
      for (const key of lease.keys) writing.deleteRange(deleteOf(key));
    });
    this.leases.remove(this.rows, id);
  }

  /** The changes since the last call, in order. */
  takeChanges(): Change[] {
    const changes = this.#changes;
    this.#changes = [];
    return changes;
  }

  #write<T>(work: (writing: Writing) => T): T {
    const writing = new Writing(this.rows, this.leases, this.numbers);
    const answer = work(writing);
    this.numbers.revision = writing.view().revision;
    this.#changes.push(...writing.changes);
    return answer;
  }

  /** Which branch each transaction takes: the outer one, then the inner ones of that branch, depth first. */
  #decide(r: TxnRequest): boolean[] {
    const holds = r.compare.every((c) => this.#holds(c));
    const inner = (holds ? r.success : r.failure).flatMap((op) => op.request_txn ? this.#decide(op.request_txn) : []);
    return [holds, ...inner];
  }

  #holds(c: Compare): boolean {
    const found = this.rows.live(keysOf(c), -1n);
    if (found.length > 0) return found.every((kv) => comparesTo(c, kv));
    // A value that does not exist equals nothing, not even the empty value.
    return c.target !== 3 && comparesTo(c, missing);
  }

  /** Visits the operations that will be done. @param path is used up. */
  #eachOp(r: TxnRequest, path: boolean[], visit: (op: RequestOp) => void): void {
    for (const op of path.shift() ? r.success : r.failure) {
      if (op.request_txn) this.#eachOp(op.request_txn, path, visit);
      else visit(op);
    }
  }

  #checkPutOp({ request_put }: RequestOp): void {
    if (!request_put) return;
    this.#checkKept(request_put);
    if (request_put.lease !== 0n && !this.leases.has(request_put.lease)) throw refusal("leaseNotFound");
  }

  #checkKept(r: PutRequest): void {
    if (!r.ignore_value && !r.ignore_lease) return;
    if (this.rows.live({ start: r.key, end: nothing }, 1n).length === 0) throw refusal("keyNotFound");
  }

  #checkRangeOp({ request_range }: RequestOp): void {
    if (!request_range || request_range.revision === 0n) return;
    if (request_range.revision > this.numbers.revision) throw refusal("futureRevision");
    if (request_range.revision < this.numbers.compacted) throw refusal("compacted");
  }
}

const missing: KeyValue = {
  ...{ key: nothing, value: nothing },
  ...{ create_revision: 0n, mod_revision: 0n, version: 0n, lease: 0n },
};

function comparesTo(c: Compare, kv: KeyValue): boolean {
  const order = [
    () => sign(kv.version - c.version),
    () => sign(kv.create_revision - c.create_revision),
    () => sign(kv.mod_revision - c.mod_revision),
    () => compareBytes(kv.value, c.value),
    () => sign(kv.lease - c.lease),
  ][c.target]?.() ?? 0;
  return [order === 0, order > 0, order < 0, order !== 0][c.result] ?? true;
}

/** One request's writes: all at one revision, the next one. */
class Writing {
  readonly changes: Change[] = [];

  constructor(readonly rows: Rows, readonly leases: Leases, readonly before: Numbers) {}

  /** What a read in the middle of it sees. */
  view() {
    const revision = this.before.revision + (this.changes.length > 0 ? 1n : 0n);
    return { rows: this.rows, revision, compacted: this.before.compacted };
  }

  put(r: PutRequest): PutResponse {
    const revision = this.before.revision + 1n;
    const [old] = this.rows.live({ start: r.key, end: nothing }, 1n);
    const kv: KeyValue = {
      key: r.key,
      create_revision: old?.create_revision ?? revision,
      mod_revision: revision,
      version: (old?.version ?? 0n) + 1n,
      value: r.ignore_value ? old?.value ?? nothing : r.value,
      lease: r.ignore_lease ? old?.lease ?? 0n : r.lease,
    };
    this.#add({ deleted: false, kv });
    return { header: revisionHeader(revision), prev_kv: r.prev_kv ? old : undefined };
  }

  deleteRange(r: DeleteRangeRequest): DeleteRangeResponse {
    const found = this.rows.live(keysOf(r), -1n);
    const mod_revision = this.before.revision + 1n;
    for (const { key } of found) this.#add({ deleted: true, kv: { ...missing, key, mod_revision } });
    return {
      header: revisionHeader(this.view().revision),
      deleted: BigInt(found.length),
      prev_kvs: r.prev_kv ? found : [],
    };
  }

  /** @param path which branches are taken; is used up. */
  txn(r: TxnRequest, path: boolean[]): TxnResponse {
    const succeeded = path.shift()!;
    const responses = (succeeded ? r.success : r.failure).map((op): ResponseOp => {
      if (op.request_range) return { response_range: range(this.view(), op.request_range) };
      if (op.request_put) return { response_put: this.put(op.request_put) };
      if (op.request_delete_range) return { response_delete_range: this.deleteRange(op.request_delete_range) };
      return { response_txn: this.txn(op.request_txn!, path) };
    });
    return { header: revisionHeader(0n), succeeded, responses };
  }

  #add(change: Change): void {
    this.rows.add(change, this.changes.length);
    this.changes.push(change);
    this.leases.attach(change.kv.key, change.kv.lease);
  }
}
