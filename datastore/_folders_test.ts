import assert from "node:assert/strict";
import fc from "fast-check";
import { Folders } from "./_folders.ts";

const part = fc.constantFrom("a", "b", "ab", "c-1", "");
const key = fc.array(part, { minLength: 1, maxLength: 4 }).map((parts) => "/" + parts.join("/")).filter((k) =>
  !k.endsWith("/")
);
const kv = (k: string, revision: bigint) => ({ key: k, value: "v", revision, created: revision });

Deno.test("any mix of set and delete lists like a sorted array filtered by prefix", () => {
  const step = fc.record({ key, remove: fc.boolean() });
  const prefixes = fc.array(fc.oneof(key, key.map((k) => k + "/"), fc.constantFrom("", "/", "/a", "/zz/")));
  fc.assert(fc.property(fc.array(step), prefixes, (steps, asked) => {
    const folders = new Folders(), model = new Map<string, bigint>();
    for (const [i, s] of steps.entries()) {
      if (s.remove) {
        folders.delete(s.key);
        model.delete(s.key);
      } else {
        folders.set(kv(s.key, BigInt(i)));
        model.set(s.key, BigInt(i));
      }
    }
    assert.equal(folders.size, model.size);
    for (const prefix of ["", ...asked]) {
      const want = [...model].filter(([k]) => k.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
      assert.deepEqual(folders.list(prefix).map((v) => [v.key, v.revision]), want);
    }
    assert.deepEqual([...folders].map((v) => v.key).sort(), [...model.keys()].sort());
    for (const s of steps) assert.equal(folders.get(s.key)?.revision, model.get(s.key));
  }));
});
