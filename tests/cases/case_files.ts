import { withDeadline } from "../../lib/clock.ts";
import { parseJson } from "../../lib/json64.ts";
import type { Case, CaseRunner, Outcome } from "./case_runner.ts";

/** One case that did not pass: which, and why. */
export interface Remark {
  id: string;
  what: string;
  text: string;
}

/** What became of the cases of one file. */
export interface FileResult {
  name: string;
  /** Undefined when no runner exists for the file's name: nothing was run. */
  counts: { passed: number; failed: number; differs: number } | undefined;
  failures: Remark[];
  differences: Remark[];
  /** Ids listed as known differences that pass, or that the file does not have. */
  stale: string[];
  ms: number;
}

/** Reasons by file name and case id: cases where we differ from what was recorded, on purpose or not yet. */
export type KnownDifferences = Record<string, Record<string, string>>;

/** Names of the case files of a folder, sorted, without `.json`. `known_differences.json` is none of them. */
export function caseNames(dir: string): string[] {
  return [...Deno.readDirSync(dir)]
    .filter((e) => !e.isDirectory && e.name.endsWith(".json") && e.name !== "known_differences.json")
    .map((e) => e.name.slice(0, -5)).sort();
}

/** The folder's `known_differences.json`; empty when there is none. */
export function knownDifferences(dir: string): KnownDifferences {
  try {
    return JSON.parse(Deno.readTextFileSync(`${dir}/known_differences.json`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
}

/** Names for which `tests/cases/runners/` has a runner, sorted. */
export function runnerNames(): string[] {
  return [...Deno.readDirSync(new URL("./runners", import.meta.url))]
    .filter((e) => e.name.endsWith(".ts") && !e.name.startsWith("_") && !e.name.endsWith("_test.ts"))
    .map((e) => e.name.slice(0, -3)).sort();
}

/**
 * Runs the cases of `<dir>/<name>.json` by the runner of that name, one after the other.
 * A case that throws, or takes longer than two minutes, failed.
 * @param only run just the case of this id.
 * @throws when the file cannot be read or is not of the shape `{shape, cases: [{id, what, input, expect}]}`.
 */
export async function runFile(dir: string, name: string, only?: string): Promise<FileResult> {
  const start = performance.now();
  const result: FileResult = { name, counts: undefined, failures: [], differences: [], stale: [], ms: 0 };
  const cases = readCases(`${dir}/${name}.json`).filter((c) => only === undefined || c.id === only);
  if (!runnerNames().includes(name)) return result;
  const { runner } = await import(`./runners/${name}.ts`) as { runner: CaseRunner };
  const known = knownDifferences(dir)[name] ?? {};
  result.counts = { passed: 0, failed: 0, differs: 0 };
  const world = await runner.start?.();
  try {
    for (const one of cases) count(result, one, await outcomeOf(runner, one), known[one.id]);
  } finally {
    await world?.[Symbol.asyncDispose]();
  }
  if (only === undefined) result.stale.push(...Object.keys(known).filter((id) => !cases.some((c) => c.id === id)));
  result.ms = Math.round(performance.now() - start);
  return result;
}

/** Counts one outcome. A failure that is known is a difference; a known difference that passes is stale. */
function count(result: FileResult, one: Case, outcome: Outcome, known: string | undefined): void {
  const counts = result.counts!;
  if (outcome.is === "passed") {
    counts.passed++;
    if (known !== undefined) result.stale.push(one.id);
    return;
  }
  const text = outcome.is === "differs" ? outcome.reason : known ?? outcome.difference;
  const differs = outcome.is === "differs" || known !== undefined;
  if (differs) counts.differs++;
  else counts.failed++;
  (differs ? result.differences : result.failures).push({ id: one.id, what: one.what, text });
}

function readCases(path: string): Case[] {
  const file = parseJson(Deno.readTextFileSync(path)) as unknown as { cases?: Case[] };
  if (!Array.isArray(file?.cases)) throw new Error(`${path}: no list "cases"`);
  return file.cases;
}

async function outcomeOf(runner: CaseRunner, one: Case): Promise<Outcome> {
  try {
    return await withDeadline(
      120_000,
      () => Promise.resolve(runner.run(one)),
      () => new Error("more than two minutes"),
    );
  } catch (error) {
    return { is: "failed", difference: `threw ${error instanceof Error ? error.stack : error}` };
  }
}

/** `name: 5 passed, 1 failed, 2 differ`, or `NAME: not run`. */
export function summaryLine(result: FileResult): string {
  if (!result.counts) return `${result.name}: not run`;
  const { passed, failed, differs } = result.counts;
  return `${result.name}: ${passed} passed, ${failed} failed${differs ? `, ${differs} differ` : ""}`;
}
