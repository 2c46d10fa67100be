import assert from "node:assert/strict";
import type { Rule, SideMatch } from "../desired_policy.ts";
import { setName } from "./names.ts";
import { SetUses } from "./set_uses.ts";

const side = (parts: Partial<SideMatch> = {}): SideMatch => ({
  ...{ nets: [], notNets: [], ports: [], namedPortSets: [], notPorts: [], notNamedPortSets: [] },
  ...{ sets: [], notSets: [], serviceSets: [], ...parts },
});
const rule = (action: Rule["action"], source: Partial<SideMatch>): Rule => ({
  ...{ action, source: side(source), destination: side(), words: { source: {}, destination: {} } },
});
const lists = (...ingress: Rule[]) => ({ ingress, egress: [] });
const closes = (uses: SetUses, id: string) => [4, 6].map((v) => uses.closes(setName(id, v as 4 | 6)));

Deno.test("a set closes when rules only deny by it, or allow all but its members", () => {
  const uses = new SetUses();
  uses.replace(
    undefined,
    lists(
      rule("deny", { sets: ["s:bad"] }),
      rule("allow", { sets: ["s:good"], notSets: ["s:except"] }),
      rule("deny", { sets: ["s:both"] }),
      rule("pass", { sets: ["s:both"] }),
      rule("log", { sets: ["s:logged"] }),
      rule("deny", { notNamedPortSets: ["n:known"] }),
    ),
  );
  const all = ["s:bad", "s:good", "s:except", "s:both", "s:logged", "n:known", "s:none"];
  assert.deepEqual(all.filter((id) => closes(uses, id)[0]), ["s:bad", "s:except"]);
  assert.deepEqual(closes(uses, "s:bad"), [true, true]);
});

Deno.test("rules that were replaced count until they are forgotten", () => {
  const uses = new SetUses();
  const before = lists(rule("allow", { sets: ["s:a"] })), after = lists(rule("deny", { sets: ["s:a"] }));
  uses.replace(undefined, before);
  uses.replace(before, after);
  assert.deepEqual(closes(uses, "s:a"), [false, false]);
  uses.forgetOld();
  assert.deepEqual(closes(uses, "s:a"), [true, true]);
  uses.replace(after, undefined);
  uses.forgetOld();
  assert.deepEqual(closes(uses, "s:a"), [false, false]);
});
