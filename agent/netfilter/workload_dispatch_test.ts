import assert from "node:assert/strict";
import fc from "fast-check";
import { workloadDispatch } from "./dispatch_chains.ts";
import { defaultSettings } from "./model.ts";
import { WorkloadDispatch } from "./workload_dispatch.ts";

const settings = defaultSettings(4);
const byName = (chains: { name: string }[]) => chains.toSorted((a, b) => (a.name < b.name ? -1 : 1));
/** Names that share beginnings, are beginnings of others, and are few. */
const name = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 4 }).map((parts) => `cali${parts.join("")}`);

Deno.test("the dispatch that is kept up to date is the one made anew, after any interfaces that come and go", () => {
  const step = fc.record({ name, isThere: fc.boolean(), look: fc.boolean() });
  fc.assert(
    fc.property(fc.uniqueArray(name, { maxLength: 5 }), fc.array(step, { maxLength: 30 }), (first, steps) => {
      const dispatch = new WorkloadDispatch(settings, first), names = new Set(first);
      const end = [...first, ...steps.map((s) => s.name)].map((name) => ({ name, isThere: false, look: true }));
      for (const { name, isThere, look } of [...steps, { name: "cali", isThere: true, look: true }, ...end]) {
        dispatch.set(name, isThere);
        if (isThere) names.add(name);
        else names.delete(name);
        if (look) assert.deepEqual(byName(dispatch.chains()), byName(workloadDispatch(names, settings)));
      }
    }),
  );
});

Deno.test("an interface that comes leaves the chains of other interfaces the same objects", () => {
  const dispatch = new WorkloadDispatch(settings, ["calia1", "calia2", "calib1", "calib2"]);
  const before = new Set(dispatch.chains());
  dispatch.set("calib3", true);
  const changed = dispatch.chains().filter((chain) => !before.has(chain)).map((chain) => chain.name);
  assert.deepEqual(changed, ["cali-from-wl-dispatch-b", "cali-to-wl-dispatch-b"]);
});
