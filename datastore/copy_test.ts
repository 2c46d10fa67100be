import assert from "node:assert/strict";
import fc from "fast-check";
import { isProblem } from "../lib/problem.ts";
import { copyStore } from "./copy.ts";
import { MemoryStore } from "./memory.ts";
import { storeWith } from "./store_with.ts";
import { prefixRange, type Store } from "./store.ts";

async function put(store: Store, values: Record<string, string>): Promise<void> {
  for (const [key, value] of Object.entries(values)) await store.txn({ compare: [], write: [{ put: key, value }] });
}

async function all(store: Store): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  await store.list(prefixRange("/"), (kvs) => kvs.forEach((kv) => void (found[kv.key] = kv.value)));
  return found;
}

Deno.test("everything that lasts is copied, what agents report and other programs' keys are not", async () => {
  const source = new MemoryStore(), target = new MemoryStore();
  await put(source, { "/calico/a": "1", "/tortie/history/x": "2", "/calico/felix/v2/s": "3", "/other": "4" });
  assert.deepEqual(await copyStore(source, target, {}), { written: 2, same: 0 });
  assert.deepEqual(await all(target), { "/calico/a": "1", "/tortie/history/x": "2" });
  assert.deepEqual(await copyStore(source, target, {}), { written: 0, same: 2 }, "a second copy writes nothing");
});

Deno.test("a target that holds something else is left as it is, unless it may be overwritten", async () => {
  const source = new MemoryStore(), target = new MemoryStore();
  await put(source, { "/calico/a": "1", "/calico/b": "1" });
  await put(target, { "/calico/b": "2", "/calico/c": "3" });
  await assert.rejects(
    copyStore(source, target, {}),
    (e) => isProblem(e, "exists") && /\/calico\/b, \/calico\/c/.test(e.message),
  );
  assert.deepEqual(await all(target), { "/calico/b": "2", "/calico/c": "3" });
  await copyStore(source, target, { overwrite: true });
  assert.deepEqual(await all(target), { "/calico/a": "1", "/calico/b": "1", "/calico/c": "3" });
});

Deno.test("what is written to the source while it is copied comes along; a copy that was cut off goes on", async () => {
  const values = fc.dictionary(fc.constantFrom(..."abcdefgh").map((c) => `/calico/${c}`), fc.string(), {
    noNullPrototype: true,
  });
  await fc.assert(fc.asyncProperty(values, values, fc.nat(3), async (before, during, cutAt) => {
    const source = new MemoryStore(), target = new MemoryStore();
    await put(source, before);
    let txns = 0;
    const watched = storeWith(target, {
      async txn(txn, options) {
        if (txns++ === 0) await put(source, during);
        if (txns === cutAt) throw new Error("cut off");
        return await target.txn(txn, options);
      },
    });
    try {
      await copyStore(source, watched, {});
    } catch (error) {
      if (!(error instanceof Error && error.message === "cut off")) throw error;
      // What the first run wrote is the source's older state.
      await copyStore(source, watched, { overwrite: true });
    }
    assert.deepEqual(await all(target), await all(source));
  }));
});

Deno.test("values are written in transactions that etcd takes", async () => {
  const source = new MemoryStore(), target = new MemoryStore();
  const large = "x".repeat(400_000);
  await put(source, Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`/calico/${i}`, i < 6 ? large : "y"])));
  const told: number[] = [];
  const { written } = await copyStore(source, target, { onWritten: (done) => void told.push(done) });
  assert.equal(written, 300);
  assert.ok(told.length >= 6, "six large values, each alone, then the small ones");
  assert.deepEqual(await all(target), await all(source));
});

Deno.test("somebody else who writes to the target is noticed", async () => {
  const source = new MemoryStore(), target = new MemoryStore();
  await put(source, { "/calico/a": "1" });
  const raced = storeWith(target, {
    async txn(txn, options) {
      await put(target, { "/calico/a": "of another" });
      return await target.txn(txn, options);
    },
  });
  await assert.rejects(copyStore(source, raced, {}), (e) => isProblem(e, "conflict"));
  assert.deepEqual(await all(target), { "/calico/a": "of another" });
});
