import assert from "node:assert/strict";
import fc from "fast-check";
import type { Json } from "./json64.ts";
import { conflicts, merge, patchBetween } from "./json_merge.ts";

/** Objects without null members, which a patch cannot say. */
const anyObject = fc.letrec((tie) => ({
  value: fc.oneof({ maxDepth: 3 }, fc.integer(), fc.string(), fc.array(fc.integer(), { maxLength: 2 }), tie("object")),
  object: fc.dictionary(fc.constantFrom("a", "b", "c", "d"), tie("value"), { maxKeys: 4, noNullPrototype: true }),
})).object as fc.Arbitrary<Json>;

Deno.test("the patch between two objects turns the one into the other", () => {
  fc.assert(fc.property(anyObject, anyObject, (before, after) => {
    const patch = patchBetween(before, after);
    assert.deepEqual(patch === undefined ? before : merge(before, patch), after);
  }));
});

Deno.test("changes of two people are both kept unless they touch the same member", () => {
  const before = { spec: { order: 1, selector: "all()", types: ["Ingress"] } };
  const ours = patchBetween(before, { spec: { ...before.spec, order: 2 } })!;
  const theirs = patchBetween(before, { spec: { ...before.spec, selector: "has(x)" } })!;
  assert.deepEqual(conflicts(ours, theirs), []);
  assert.deepEqual(merge(merge(before, theirs), ours), { spec: { order: 2, selector: "has(x)", types: ["Ingress"] } });
  assert.deepEqual(conflicts(ours, patchBetween(before, { spec: { ...before.spec, order: 3 } })!), ["spec.order"]);
  assert.deepEqual(conflicts(ours, null as unknown as Json), [""]);
});
