import assert from "node:assert/strict";
import { caseNames, knownDifferences, runFile, runnerNames, summaryLine } from "./case_files.ts";

const dir = new URL(".", import.meta.url).pathname.replace(/\/$/, "");

/** Files that have a runner. One that vanishes from here, or from runners/, makes this test fail. */
const mapped = [
  ...[
    "bird",
    "calc",
    "cni",
    "conversion",
    "ctl",
    "decisions",
    "ipam",
    "names",
    "render",
    "selectors",
    "storage",
    "validation",
  ],
];

Deno.test("every mapped case file has its runner, and every runner is mapped", () => {
  assert.deepEqual(runnerNames(), [...mapped].sort());
  for (const name of mapped) assert.ok(caseNames(dir).includes(name), `${name}.json is gone`);
});

Deno.test("every known difference gives a reason and belongs to a mapped file", () => {
  for (const [name, entries] of Object.entries(knownDifferences(dir))) {
    assert.ok(mapped.includes(name), `known_differences.json: ${name} is not mapped`);
    for (const [id, reason] of Object.entries(entries)) assert.ok(reason.length > 20, `${name} ${id}: no reason given`);
  }
});

for (const name of caseNames(dir)) {
  Deno.test({ name: `cases of ${name}.json pass`, ignore: !mapped.includes(name) }, async () => {
    const result = await runFile(dir, name);
    console.log(summaryLine(result));
    const text = result.failures.map((f) => `--- ${f.id}: ${f.what}\n${f.text}`).join("\n\n");
    assert.equal(result.failures.length, 0, `${summaryLine(result)}\n${text}`);
    assert.deepEqual(result.stale, [], "known_differences.json lists cases that pass or do not exist");
  });
}

for (const name of caseNames(dir).filter((n) => !mapped.includes(n))) console.log(`${name}: not run`);
