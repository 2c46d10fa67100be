import { Problem } from "../lib/problem.ts";
import { World } from "../agent/why/world.ts";
import type { KeyValue, Store, Txn } from "../datastore/store.ts";
import { storeWith } from "../datastore/store_with.ts";
import { type Cut, cutsOf, decidesOnHosts, type Lifelines } from "./cut.ts";
import { storedResources } from "./preview.ts";

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
      if (txn.write.some((w) => decidesOnHosts("put" in w ? w.put : w.delete))) {
        const lines = await lifelines();
        if (lines.session || lines.datastore.length > 0) await refuse(store, txn, lines);
      }
      return await store.txn(txn, options);
    },
  });
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
