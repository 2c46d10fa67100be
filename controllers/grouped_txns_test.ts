import { deepEqual, equal, rejects } from "node:assert/strict";
import { MemoryStore } from "../datastore/memory.ts";
import type { Txn } from "../datastore/store.ts";
import { Problem } from "../lib/problem.ts";
import { groupedTxns } from "./grouped_txns.ts";

const put = (key: string, revision = 0n): Txn => ({ compare: [{ key, revision }], write: [{ put: key, value: key }] });
const txnsOf = (store: MemoryStore) => store.requests.txn ?? 0;

Deno.test("the first goes at once, those that come meanwhile go together", async () => {
  const store = new MemoryStore(), txn = groupedTxns(store);
  const results = await Promise.all(Array.from({ length: 33 }, (_, i) => txn(put(`/k${i}`))));
  deepEqual(results.map(({ committed }) => committed), Array(33).fill(true));
  equal(txnsOf(store), 2);
  equal((await txn(put("/alone"))).committed, true);
});

Deno.test("who conflicts is told so alone, with what its key holds", async () => {
  const store = new MemoryStore(), txn = groupedTxns(store);
  await store.txn({ compare: [], write: [{ put: "/b", value: "older" }] });
  const [, a, b, c] = await Promise.all([txn(put("/first")), txn(put("/a")), txn(put("/b")), txn(put("/c"))]);
  deepEqual([a!.committed, b!.committed, c!.committed], [true, false, true]);
  equal(b!.committed === false && b!.current.get("/b")?.value, "older");
});

Deno.test("two writes of one key are two transactions, in their order", async () => {
  const store = new MemoryStore(), txn = groupedTxns(store);
  const [, first, second] = await Promise.all([txn(put("/x")), txn(put("/k")), txn(put("/k"))]);
  deepEqual([first!.committed, second!.committed], [true, false]);
});

Deno.test("a store that is away is told to everybody in the group", async () => {
  const store = new MemoryStore(), txn = groupedTxns(store);
  store.failNext(10, () => new Problem({ code: "unavailable", what: "etcd is away" }));
  const all = [txn(put("/a")), txn(put("/b")), txn(put("/c"))];
  for (const one of all) await rejects(one, /etcd is away/);
});
