import type { KeyValue, Store } from "../datastore/store.ts";

/**
 * A picture of etcd at one revision: the mirror, or a snapshot. Complete up to `revision` for the IPAM keys, pools,
 * reservations, nodes and the ClusterInformation.
 */
export interface Reader {
  readonly revision: bigint;
  get(key: string): KeyValue | undefined;
  /** All values whose key begins with `prefix`, in key order. */
  list(prefix: string): KeyValue[];
}

/**
 * Reads in one request what decisions about `node` need, for callers without a mirror.
 * @throws Problem "unavailable".
 */
export function coldReader(_store: Store, _node: string): Promise<Reader> {
  throw new Error("not built yet");
}
