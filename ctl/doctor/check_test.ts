import assert from "node:assert/strict";
import { type Check, check, examine, exitCode, type LookedFacts } from "./check.ts";
import { checks } from "./checks/index.ts";
import { checkTable, examinationJson, examinationText } from "./examination_text.ts";
import { paintOf } from "../paint.ts";

const plain = paintOf({ screen: false, env: () => undefined });

/** Facts of which only the number of flows is known, or none. */
const flows = (count: number | undefined, elsewhere = false): LookedFacts => {
  const unseen = { unseen: "nobody may", elsewhere };
  const known = count === undefined ? unseen : { seen: { count, max: 10 } };
  return new Proxy({ flows: known } as unknown as LookedFacts, {
    get: (target, name) => Reflect.get(target, name) ?? unseen,
  });
};

const full: Check = check({
  id: "full",
  about: "there is room",
  looksAt: ["flows"],
  fault: "{count} of {max} are used",
  cure: "Make room for {count}.",
  find: ({ flows: { count, max } }) => (count >= max ? [{ count, max }] : []),
});
const away: Check = check({ ...full, id: "away", looksAt: ["flows", "disks"], find: () => [{}] });

Deno.test("a fault is told with its cure, both filled in; without one the doctor is content", () => {
  const sick = examine([full], flows(10));
  assert.deepEqual(sick.faults, [
    { id: "full", what: "10 of 10 are used", cure: "Make room for 10.", detail: { count: 10, max: 10 } },
  ]);
  assert.equal(exitCode(sick), 1);
  assert.match(
    examinationText(sick, plain),
    /^FAULT 10 of 10 are used\n {6}cure: Make room for 10\.\n[^]*\n1 fault\(s\) found: 1 checks made\n$/,
  );
  const well = examine([full], flows(3));
  assert.deepEqual([well.faults, well.made, exitCode(well)], [[], ["full"], 0]);
  assert.equal(examinationText(well, plain), "healthy: 1 checks made\n");
});

Deno.test("what could not be looked at is told, and counts as a failure only where it should have been", () => {
  const blind = examine([full, away], flows(undefined));
  assert.equal(exitCode(blind), 2);
  assert.match(
    examinationText(blind, plain),
    /^NOT LOOKED AT full, away\n {6}because nobody may\n\nno fault found, and not/,
  );
  const elsewhere = examine([full, away], flows(undefined, true));
  assert.equal(exitCode(elsewhere), 0);
  assert.match(
    examinationText(elsewhere, plain),
    /^not for here: 2 checks, because nobody may\nhealthy: 0 checks made\n$/,
  );
  assert.equal((examinationJson(elsewhere) as { healthy: boolean }).healthy, true);
});

Deno.test("a check that lacks one of its facts is not made, and one fault is enough for exit code 1", () => {
  const both = examine([full, away], flows(10));
  assert.deepEqual([both.made, both.unlooked.map((u) => u.id), exitCode(both)], [["full"], ["away"], 1]);
});

Deno.test("every declared check has an id of its own, whole sentences, and words that its table can hold", () => {
  const ids = checks.map((c) => c.id);
  assert.equal(new Set(ids).size, ids.length);
  for (const { id, about, fault, cure } of checks) {
    assert.match(id, /^[a-z]+(-[a-z]+)*$/);
    assert.match(cure, /[.)]$/, id);
    assert.doesNotMatch(about + fault, /\.$/, id);
  }
  assert.equal(checkTable(checks).split("\n").length, checks.length + 2);
});

Deno.test("colours are for terminals that have them and for users who want them", () => {
  const red = (screen: boolean, env: Record<string, string | undefined>) =>
    paintOf({ screen, env: (name) => env[name] }).red("x");
  assert.equal(red(true, {}), "\x1b[31mx\x1b[39m");
  for (const env of [{ NO_COLOR: "1" }, { TERM: "dumb" }]) assert.equal(red(true, env), "x");
  assert.equal(red(true, { NO_COLOR: "" }), "\x1b[31mx\x1b[39m");
  assert.equal(red(false, {}), "x");
});
