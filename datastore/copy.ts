import { Problem } from "../lib/problem.ts";
import { historyPrefix } from "./history.ts";
import { maxRequestBytes, maxTxnOps } from "./_txn_limits.ts";
import { type KeyValue, prefixRange, type Store, type Write } from "./store.ts";

/** What a copy of a datastore did. */
export interface Copied {
  /** Keys that were written. */
  written: number;
  /** Keys that the target held already, with the same value. */
  same: number;
}

/** Everything that lasts: Calico's objects, IPAM's records, and our histories. */
const prefixes = ["/calico/", historyPrefix];
/** Reports of running agents, which end with their leases. */
const passing = /^\/calico\/felix\//;

/** Times the source is read until nothing of it has changed meanwhile. */
const rounds = 10;
/** Bytes of a transaction that are left for what is around the values. */
const spare = 64 * 1024;

/**
 * Copies all that lasts from one store to another, until the two are equal. Who calls has stopped those who write to the
 * source; what they still write is copied in the next round. It may be ended at any moment and begun again.
 * @param last a key that is left out, for the caller to write when all else is there.
 * @param overwrite what the target holds otherwise gives way; else nothing is written when there is such a key.
 * @param onWritten is told the keys written so far, and all of the round.
 * @throws Problem "exists" that names keys which the target has and the source has not, or otherwise.
 */
export async function copyStore(
  source: Store,
  target: Store,
  { last, overwrite = false, onWritten }: {
    last?: string;
    overwrite?: boolean;
    onWritten?: (done: number, all: number) => void;
  },
): Promise<Copied> {
  const own = new Set<string>();
  for (let left = rounds; left > 0; left--) {
    const [wanted, there] = await Promise.all([lasting(source, last), lasting(target, last)]);
    const foreign = [...there.values()].filter((kv) => !own.has(kv.key) && wanted.get(kv.key)?.value !== kv.value);
    if (foreign.length > 0 && !overwrite) throw notEmpty(foreign.map((kv) => kv.key));
    const missing = [...wanted.values()].filter((kv) => there.get(kv.key)?.value !== kv.value);
    const gone = [...own].filter((key) => !wanted.has(key) && there.has(key));
    if (missing.length + gone.length === 0) return { written: own.size, same: wanted.size - own.size };
    await write(target, there, [
      ...missing.map(({ key, value }) => ({ put: key, value })),
      ...gone.map((key) => ({ delete: key })),
    ], onWritten);
    for (const { key } of missing) own.add(key);
  }
  const todo = "Stop all agents, controllers and tools that write to it";
  throw new Problem({ code: "conflict", what: `the source goes on changing after ${rounds} copies`, todo });
}

async function lasting(store: Store, last: string | undefined): Promise<Map<string, KeyValue>> {
  const found = new Map<string, KeyValue>();
  for (const prefix of prefixes) {
    await store.list(prefixRange(prefix), (kvs) => {
      for (const kv of kvs) if (!passing.test(kv.key) && kv.key !== last) found.set(kv.key, kv);
    });
  }
  return found;
}

/** In as few transactions as fit; each compares what it writes over, so that a second writer is noticed. */
async function write(
  target: Store,
  there: ReadonlyMap<string, KeyValue>,
  writes: Write[],
  onWritten?: (done: number, all: number) => void,
): Promise<void> {
  const keyOf = (w: Write) => ("put" in w ? w.put : w.delete);
  for (let i = 0; i < writes.length;) {
    const batch: Write[] = [];
    for (let size = 0; i < writes.length && batch.length < maxTxnOps; i++) {
      const next = writes[i]!;
      // A character takes three bytes at most.
      size += 3 * (keyOf(next).length + ("put" in next ? next.value.length : 0));
      if (batch.length > 0 && size > maxRequestBytes - spare) break;
      batch.push(next);
    }
    const compare = batch.map((w) => ({ key: keyOf(w), revision: there.get(keyOf(w))?.revision ?? 0n }));
    const { committed } = await target.txn({ compare, write: batch, onConflict: [] });
    if (!committed) {
      throw new Problem({
        code: "conflict",
        what: "somebody else writes to the target",
        todo: "Stop it, then run the copy again: it goes on where it was",
      });
    }
    onWritten?.(i, writes.length);
  }
}

function notEmpty(keys: string[]): Problem {
  const more = keys.length > 3 ? ` and ${keys.length - 3} more` : "";
  return new Problem({
    code: "exists",
    what: `the target holds what the source does not: ${keys.slice(0, 3).join(", ")}${more}`,
    todo: "Nothing was written. Take an empty etcd, or say --overwrite: keys of the source then win, others stay",
  });
}
