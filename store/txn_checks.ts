/** What etcd refuses in a request before it looks at any key (etcd's server/etcdserver/api/v3rpc/key.go). Pure. */
import { refusal } from "./errors.ts";
import type { DeleteRangeRequest, PutRequest, RequestOp, TxnRequest } from "./messages.ts";
import { includes, isOpenEnd, type Keys } from "./rows.ts";
import { keysOf } from "./ranges.ts";

/** etcd's default of --max-txn-ops; what lies inside of a transaction inside counts as well. */
export const maxTxnOps = 128;

/** @throws Refusal when the key is empty. */
export function checkKey(r: { key: Uint8Array }): void {
  if (r.key.length === 0) throw refusal("emptyKey");
}

/** @throws Refusal */
export function checkPut(r: PutRequest): void {
  checkKey(r);
  if (r.ignore_value && r.value.length > 0) throw refusal("valueProvided");
  if (r.ignore_lease && r.lease !== 0n) throw refusal("leaseProvided");
}

/** @throws Refusal for too many operations, empty keys and keys that are written twice. */
export function checkTxn(r: TxnRequest): void {
  checkOps(r, maxTxnOps);
  writesOf(r.success);
  writesOf(r.failure);
}

function checkOps(r: TxnRequest, most: number): void {
  const count = Math.max(r.compare.length, r.success.length, r.failure.length);
  if (count > most) throw refusal("tooManyOps");
  for (const c of r.compare) checkKey(c);
  for (const op of [...r.success, ...r.failure]) {
    if (op.request_range) checkKey(op.request_range);
    else if (op.request_put) checkPut(op.request_put);
    else if (op.request_delete_range) checkKey(op.request_delete_range);
    else if (op.request_txn) checkOps(op.request_txn, most - count);
    else throw refusal("keyNotFound");
  }
}

/** Keys that operations put (by their bytes as text), and ranges that they delete. */
interface Writes {
  puts: Map<string, PutRequest>;
  deletes: Keys[];
}

/** What operations write. @throws Refusal when two of them that can both happen write one key. */
function writesOf(ops: RequestOp[]): Writes {
  const deletes = ops.flatMap((op) => op.request_delete_range ? [keysOf(op.request_delete_range)] : []);
  const puts = new Map<string, PutRequest>();
  const take = (put: PutRequest, unless?: Map<string, PutRequest>) => {
    const text = String.fromCharCode(...put.key);
    if (puts.has(text) && !unless?.has(text)) throw refusal("duplicateKey");
    if (deletes.some((keys) => clashes(keys, put))) throw refusal("duplicateKey");
    puts.set(text, put);
  };
  for (const { request_txn } of ops) {
    if (!request_txn) continue;
    const [then, otherwise] = [writesOf(request_txn.success), writesOf(request_txn.failure)];
    for (const put of then.puts.values()) take(put);
    // Only one of the two branches happens, so both may put a key.
    for (const put of otherwise.puts.values()) take(put, then.puts);
    deletes.push(...then.deletes, ...otherwise.deletes);
  }
  for (const { request_put } of ops) if (request_put) take(request_put);
  return { puts, deletes };
}

/**
 * As etcd: a delete of "all keys from one on" is not seen here; its puts are done behind or before it, as the order says.
 * DIFFERS: but for a put that keeps what the delete takes away: it ends etcd 3.4 (a panic), and is refused here.
 */
const clashes = (keys: Keys, put: PutRequest) =>
  includes(keys, put.key) && (!isOpenEnd(keys.end) || put.ignore_value || put.ignore_lease);

/** True when no branch of the transaction writes. */
export function isReadOnly(r: TxnRequest): boolean {
  return [...r.success, ...r.failure].every((op) =>
    op.request_txn ? isReadOnly(op.request_txn) : op.request_range !== undefined
  );
}

/** A delete without any keys, for leases. */
export const deleteOf = (key: Uint8Array): DeleteRangeRequest => ({
  key,
  range_end: new Uint8Array(0),
  prev_kv: false,
});
