import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { createLog } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { apiVersion } from "../datastore/kind.ts";
import { resourceKey } from "../datastore/keys.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { commitPending, guardKey, lastUndoneKey } from "../datastore/pending.ts";
import { Rehearsal } from "../datastore/rehearsal.ts";
import { storeWith } from "../datastore/store_with.ts";
import { guardPending } from "./pending_guard.ts";

/** A store with a change that waits for 60 s, and nodes that guard it as long as the world lives. */
async function makeWorld(...nodes: string[]) {
  const clock = new FakeClock(), store = new MemoryStore({ clock });
  const stop = new AbortController(), lines: string[] = [];
  const log = createLog("test", { write: (line) => void lines.push(line) });
  const guard = (node: string, over = store as Parameters<typeof guardPending>[0]["store"]) =>
    guardPending({ store: over, node, clock, log, signal: stop.signal });
  const guards = nodes.map((node) => guard(node));
  const settle = async () => {
    for (let i = 0; i < 500; i++) await Promise.resolve();
  };
  await settle();
  if (nodes.length === 0) await store.txn({ compare: [], write: [{ put: guardKey("gone"), value: "" }] });
  const rehearsal = await Rehearsal.of(store, {});
  await rehearsal.resources.apply({ kind: "GlobalNetworkSet", apiVersion, metadata: { name: "a" }, spec: {} });
  const by = { user: "ann", host: "n1" };
  await commitPending(store, rehearsal, { id: "x", at: "2026-01-02T03:04:05Z", by, seconds: 60 });
  const isThere = () => store.contents().has(resourceKey("GlobalNetworkSet", "a"));
  const pass = async (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      await clock.advance(1_000);
      await settle();
    }
  };
  const end = async () => {
    stop.abort(new Error("over"));
    await settle();
    await clock.advance(60_000);
    await Promise.all(guards);
  };
  return { clock, store, lines, guard, guards, settle, pass, isThere, end };
}

Deno.test("what nobody confirms is undone once, however many nodes look after it", async () => {
  const { store, lines, pass, isThere, end } = await makeWorld("n1", "n2", "n3");
  await pass(59);
  assert.equal(isThere(), true);
  await pass(2);
  assert.equal(isThere(), false);
  assert.match(store.contents().get(lastUndoneKey)!, /GlobalNetworkSet\(a\)/);
  assert.equal(lines.filter((l) => /change undone/.test(l)).length, 1);
  await end();
  assert.equal(store.contents().has(guardKey("n1")), false, "who ends guards no longer");
});

Deno.test("a node that starts after the time was over undoes it, and one that lost the datastore does when it is back", async () => {
  for (const cut of [false, true]) {
    const { store, guard, guards, pass, isThere, end } = await makeWorld(...(cut ? ["n1"] : []));
    if (cut) store.disconnect();
    await pass(120);
    assert.equal(isThere(), true);
    if (cut) store.reconnect();
    else guards.push(guard("n1"));
    await pass(20);
    assert.equal(isThere(), false);
    await end();
  }
});

Deno.test("a node without the right to look says so once and goes on without", async () => {
  const { store, lines, guard, end } = await makeWorld("n1");
  const refuse = () => Promise.reject(new Problem({ code: "unauthorized", what: "permission denied" }));
  await guard("n2", storeWith(store, { txn: refuse }));
  assert.equal(lines.filter((l) => /undoes no unconfirmed changes/.test(l)).length, 1);
  await end();
});
