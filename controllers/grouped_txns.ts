import type { CallOptions, Store, Txn, TxnResult } from "../datastore/store.ts";

/** A transaction that waits, and who waits for it. */
interface Waiting {
  txn: Txn;
  done: PromiseWithResolvers<TxnResult>;
}

/** Of one transaction in etcd, with room to its limits of 128 operations and 1.5 MiB. */
const maxTxns = 32, maxOperations = 100, maxBytes = 500_000;

/**
 * Joins transactions that come while one is under way: the first goes at once, those that came meanwhile go together. A
 * group that meets a conflict is done one by one, so nobody fails for his neighbour. What a request costs etcd and us
 * is mostly the request.
 */
export function groupedTxns(store: Pick<Store, "txn">): Store["txn"] {
  const queue: Waiting[] = [];
  let isUnderWay = false;
  const run = async () => {
    isUnderWay = true;
    for (let group = takeGroup(queue); group.length > 0; group = takeGroup(queue)) await commit(store, group);
    isUnderWay = false;
  };
  return (txn: Txn, options?: CallOptions): Promise<TxnResult> => {
    if (options || !isSimple(txn)) return store.txn(txn, options);
    const done = Promise.withResolvers<TxnResult>();
    queue.push({ txn, done });
    if (!isUnderWay) run();
    return done.promise;
  };
}

/** One that says nothing about ranges, which others' writes could touch. */
const isSimple = ({ compare, onConflict = [] }: Txn): boolean =>
  compare.every((one) => "key" in one) && onConflict.every((what) => typeof what === "string");

/** As many from the front as fit together, no key twice. */
function takeGroup(queue: Waiting[]): Waiting[] {
  const keys = new Set<string>();
  let operations = 0, bytes = 0, count = 0;
  for (const { txn: { compare, write } } of queue) {
    const own = write.map((one) => "put" in one ? one.put : one.delete);
    operations += Math.max(compare.length, write.length);
    bytes += write.reduce((sum, one) => sum + ("put" in one ? one.value.length : 0), 0);
    const fits = operations <= maxOperations && bytes <= maxBytes && !own.some((key) => keys.has(key));
    if (count > 0 && (!fits || count >= maxTxns)) break;
    for (const key of own) keys.add(key);
    count++;
  }
  return queue.splice(0, count);
}

async function commit(store: Pick<Store, "txn">, group: Waiting[]): Promise<void> {
  if (group.length > 1) {
    const [compare, write] = [group.flatMap(({ txn }) => txn.compare), group.flatMap(({ txn }) => txn.write)];
    // What a conflict is about, each finds out by itself.
    const whole: Txn = { compare, write, onConflict: [] };
    try {
      const result = await store.txn(whole);
      if (result.committed) return group.forEach(({ done }) => done.resolve(result));
    } catch (error) {
      return group.forEach(({ done }) => done.reject(error));
    }
  }
  await Promise.all(group.map(({ txn, done }) => store.txn(txn).then(done.resolve, done.reject)));
}
