import { Problem } from "../lib/problem.ts";
import { World } from "../agent/why/world.ts";
import { kindPrefix } from "../datastore/keys.ts";
import { type KeyValue, prefixRange, type Store, type Txn } from "../datastore/store.ts";
import { storeWith } from "../datastore/store_with.ts";
import { type Cut, cutsOf, decidesOnHosts, type Lifelines } from "./cut.ts";
import { storedResources } from "../datastore/resources.ts";

/** The refusal of a change that cuts something. @param todo what else can be done than to change the change. */
export function cutRefused(cuts: readonly Cut[], todo: string): Problem {
  const lines = cuts.map(({ what, why }) => `this would cut ${what}: ${why}`);
  return new Problem({ code: "unsupported", what: `${lines.join("\n")}\nNothing was written`, todo });
}

/**
 * A store that refuses a write of one object that would cut a lifeline. Many objects at once are judged by `apply`, as a
 * whole.
 */
export function guardedStore(store: Store, lifelines: () => Promise<Lifelines>): Store {
  return storeWith(store, {
    async txn(txn, options) {
      const keys = txn.write.map((w) => ("put" in w ? w.put : w.delete));
      const lines = await endangered(store, keys, lifelines);
      if (lines) await refuse(store, txn, lines);
      return await store.txn(txn, options);
    },
  });
}

/** The lifelines that writing some keys may cut; undefined when there are none, as on every cluster without host endpoints. */
export async function endangered(
  store: Store,
  keys: readonly string[],
  lifelines: () => Promise<Lifelines>,
): Promise<Lifelines | undefined> {
  if (!keys.some(decidesOnHosts)) return undefined;
  const endpoints = kindPrefix("HostEndpoint"), isWritten = keys.some((key) => key.startsWith(endpoints));
  if (!isWritten && (await store.read([prefixRange(endpoints)])).values.size === 0) return undefined;
  const lines = await lifelines();
  return lines.session || lines.datastore.length > 0 ? lines : undefined;
}

async function refuse(store: Store, txn: Txn, lines: Lifelines): Promise<void> {
  const before = await storedResources(store);
  const cuts = cutsOf(new World(before), new World(written(before, txn)), lines);
  if (cuts.length > 0) throw cutRefused(cuts, "Use `apply` with --confirm 60s to have it undone by itself, or --force");
}

/** What is stored after a transaction. */
function written(before: readonly KeyValue[], txn: Txn): KeyValue[] {
  const after = new Map(before.map((kv) => [kv.key, kv]));
  for (const w of txn.write) {
    if ("delete" in w) after.delete(w.delete);
    else after.set(w.put, { key: w.put, value: w.value, revision: 1n, created: 1n });
  }
  return [...after.values()];
}
