import { isProblem, Problem } from "../lib/problem.ts";
import { maxRequestBytes } from "./_txn_limits.ts";
import { type Author, historyKey, withChange } from "./history.ts";
import { resourcePrefix } from "./kind.ts";
import type { KeyChange, Rehearsal } from "./rehearsal.ts";
import type { Compare, KeyValue, Store, Write } from "./store.ts";

/** Most objects of one transaction: each takes two of its writes, for itself and for its history. */
export const mostObjects = 60;

/** Who changes something, and when (RFC 3339). */
export interface Signature {
  by: Author;
  at: string;
}

/** What goes into the same transaction. `witness`: a key among them whose new value tells, when the answer was lost, that it was written. */
export interface Beside {
  compare: Compare[];
  write: Write[];
  witness?: string;
}

/**
 * Writes what was rehearsed in one transaction, with a line in each object's history.
 * @returns its revision; undefined when something that the checks looked at has changed since: nothing was written.
 * @throws Problem "bad-input" for too much at once.
 */
export async function commitRehearsed(
  store: Store,
  rehearsal: Rehearsal,
  signature: Signature,
  beside: Beside = { compare: [], write: [] },
): Promise<bigint | undefined> {
  const changes = await rehearsal.changes();
  if (changes.length > mostObjects) {
    const what = `${changes.length} objects are too many to be written at once, ${mostObjects} are not`;
    throw new Problem({ code: "bad-input", what, todo: "Write them in parts" });
  }
  const lines = await historyLines(store, changes, signature);
  const txn = {
    compare: [...await rehearsal.compares(), ...beside.compare, ...lines.compare],
    write: withLines([...changes.map(writeOf), ...beside.write], lines.write),
    onConflict: [],
  };
  try {
    const result = await store.txn(txn);
    return result.committed ? result.revision : undefined;
  } catch (error) {
    const witness = beside.write.find((w): w is Put => "put" in w && w.put === beside.witness);
    const found = witness && isProblem(error, "unavailable") ? await store.get(witness.put) : undefined;
    if (found?.value !== witness?.value || !found) throw error;
    return found.revision;
  }
}

type Put = Extract<Write, { put: string }>;

/** The write that makes a change. */
export const writeOf = ({ key, after }: KeyChange): Write =>
  after === undefined ? { delete: key } : { put: key, value: after };

/** What changes leave in their objects' histories. */
export async function historyLines(
  store: Store,
  changes: readonly KeyChange[],
  { by, at }: Signature,
): Promise<{ compare: Compare[]; write: Write[] }> {
  const own = changes.filter((c) => c.key.startsWith(resourcePrefix));
  if (own.length === 0) return { compare: [], write: [] };
  const { values } = await store.read(own.map((c) => historyKey(c.key)));
  const known = (c: KeyChange): KeyValue | undefined => values.get(historyKey(c.key));
  return {
    compare: own.map((c) => ({ key: historyKey(c.key), revision: known(c)?.revision ?? 0n })),
    write: own.map((c) => ({
      put: historyKey(c.key),
      value: withChange(known(c), c.before, { at, by, value: c.after }),
    })),
  };
}

/** Histories that would make the transaction too large are left out: a gap in them is told as others' change. */
export function withLines(write: Write[], lines: Write[]): Write[] {
  const size = [...write, ...lines].reduce((sum, w) => sum + ("put" in w ? w.put.length + w.value.length : 100), 0);
  return size > maxRequestBytes * 0.9 ? write : [...write, ...lines];
}
