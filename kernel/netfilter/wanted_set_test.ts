import assert from "node:assert/strict";
import fc from "fast-check";
import { SetState } from "./wanted_set.ts";

const name = "cali40s:a";
const member = fc.nat(12).map((n) => `10.0.0.${n}`);
const members = fc.uniqueArray(member, { maxLength: 8 });
type Step =
  | { do: "want"; members: string[] }
  | { do: "change"; add: string[]; remove: string[] }
  | { do: "found"; members: string[] | undefined }
  | { do: "write"; part: number };
const step: fc.Arbitrary<Step> = fc.oneof(
  members.map((m): Step => ({ do: "want", members: m })),
  fc.tuple(members, members).map(([add, remove]): Step => ({ do: "change", add, remove })),
  fc.option(members, { nil: undefined }).map((m): Step => ({ do: "found", members: m })),
  fc.nat(5).map((part): Step => ({ do: "write", part })),
);
const header = () => ({ name, type: "hash:net", family: 4 as const, maxelem: 100, elements: 0, references: 0 });

Deno.test("SetState holds the difference between wish and kernel through any changes of both", () => {
  fc.assert(fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
    const state = new SetState(name, 4);
    state.wantAll({ type: "hash:net", maxelem: 100, members: [] });
    const want = new Set<string>();
    let kernel = new Set<string>();
    for (const s of steps) {
      if (s.do === "want") {
        state.wantAll({ type: "hash:net", maxelem: 100, members: s.members });
        want.clear();
        s.members.forEach((m) => want.add(m));
      } else if (s.do === "change") {
        state.change(s.add, s.remove);
        s.remove.forEach((m) => want.delete(m));
        s.add.forEach((m) => want.add(m));
      } else if (s.do === "found") {
        kernel = new Set(s.members);
        state.found(s.members && header(), s.members && kernel);
      } else if (state.have) {
        for (const m of [...state.add].slice(0, s.part)) kernel.add(m) && state.added(m);
        for (const m of [...state.remove].slice(0, s.part)) kernel.delete(m) && state.removed(m);
      }
      assert.deepEqual(new Set(state.add), new Set([...want].filter((m) => !kernel.has(m))));
      assert.deepEqual(new Set(state.remove), new Set([...kernel].filter((m) => !want.has(m))));
      if (state.have) assert.equal(state.have.elements, kernel.size);
      assert.equal(state.isMadeOf(kernel), true);
    }
  }));
});

Deno.test("SetState plans the least that leads to the wish", () => {
  const state = new SetState(name, 4);
  assert.deepEqual(state.plan(), { do: "nothing" });
  const want = (maxelem: number, members: string[]) => state.wantAll({ type: "hash:net", maxelem, members });
  want(3, ["10.0.0.1"]);
  assert.deepEqual(state.plan(), { do: "create", destroyFirst: false });
  state.made({ type: "hash:net", maxelem: 3, members: new Set(["10.0.0.1"]) });
  assert.deepEqual(state.plan(), { do: "nothing" });
  want(3, ["10.0.0.1", "10.0.0.2"]);
  assert.deepEqual(state.plan(), { do: "change" });
  want(3, ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
  assert.deepEqual(state.plan(), { do: "replace" }, "no room for the new before the old are gone");
  want(4, ["10.0.0.1"]);
  assert.deepEqual(state.plan(), { do: "replace" });
  want(1, ["10.0.0.1", "10.0.0.2"]);
  assert.equal(state.plan().do, "refuse");
  state.wantAll({ type: "hash:ip", maxelem: 4, members: [] });
  assert.deepEqual(state.plan(), { do: "create", destroyFirst: true });
});

Deno.test("SetState notices that a member wanted no more was written meanwhile", () => {
  const state = new SetState(name, 4);
  state.wantAll({ type: "hash:net", maxelem: 9, members: [] });
  state.found(header(), new Set());
  state.change(["10.0.0.1"], []);
  state.change([], ["10.0.0.1"]);
  state.added("10.0.0.1");
  assert.deepEqual([...state.remove], ["10.0.0.1"]);
});
