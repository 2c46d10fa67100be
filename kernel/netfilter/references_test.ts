import assert from "node:assert/strict";
import fc from "fast-check";
import { References } from "./_references.ts";

const names = ["a", "b", "c", "d", "e", "f"];
/** A chain leads only to later ones: the kernel takes no circles. */
const step = fc.oneof(
  fc.tuple(fc.nat(4), fc.subarray(names)).map(([i, refs]) => ({
    chain: names[i]!,
    refs: refs.filter((r) => r > names[i]!),
  })),
  fc.subarray(names).map((roots) => ({ roots })),
);

Deno.test("References knows at each time what the roots lead to, and tells what came and went", () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
    const references = new References();
    const refs = new Map<string, string[]>();
    let roots: string[] = [], before = new Set<string>();
    for (const s of steps) {
      const touched = "chain" in s ? references.set(s.chain, s.refs) : references.setRoots(s.roots, roots);
      if ("chain" in s) refs.set(s.chain, s.refs);
      else roots = s.roots;
      const used = new Set<string>();
      const visit = (name: string) => {
        used.add(name);
        refs.get(name)?.forEach(visit);
      };
      roots.forEach(visit);
      assert.deepEqual(new Set(references.used()), used);
      for (const name of names) if (used.has(name) !== before.has(name)) assert.ok(touched.has(name), name);
      before = used;
    }
  }));
});
