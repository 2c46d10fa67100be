import { groupedTxns } from "./grouped_txns.ts";
import type { Mirror } from "../datastore/mirror.ts";
import type { CallOptions, KeyValue, Range, Snapshot, Store } from "../datastore/store.ts";

/**
 * The store, but single values are answered by the mirror: what is decided by the mirror's copy is written on top of it. An
 * old copy costs a conflict, never a lost change, as every write names the revision that it replaces. Ranges are read anew,
 * and transactions go in groups.
 */
export function warmStore(store: Store, mirror: Pick<Mirror, "get" | "revision">): Store {
  const get = (key: string): Promise<KeyValue | undefined> => Promise.resolve(mirror.get(key));
  const read = (what: (string | Range)[], options?: CallOptions): Promise<Snapshot> => {
    const keys = what.filter((one) => typeof one === "string");
    if (keys.length < what.length) return store.read(what, options);
    const values = new Map(keys.flatMap((key) => {
      const kv = mirror.get(key);
      return kv ? [[key, kv] as const] : [];
    }));
    return Promise.resolve({ revision: mirror.revision, values });
  };
  return {
    get,
    read,
    list: (...call) => store.list(...call),
    txn: groupedTxns(store),
    watch: (...call) => store.watch(...call),
    lease: (...call) => store.lease(...call),
    status: (...call) => store.status(...call),
    get requests() {
      return store.requests;
    },
    [Symbol.asyncDispose]: () => Promise.resolve(), // whoever made the store closes it
  };
}
