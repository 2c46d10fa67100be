/**
 * `deno task test [FILE…]`: everything, or only the given test files of tests/. In order: format, lint, types, the pure
 * tests without permissions, the binary, then what crosses a boundary (cases, house rules, real systems; as root).
 * The last line is `N passed, N failed`; a stage without a count of its own counts as one. Exit code 1 when one failed.
 */

interface Count {
  passed: number;
  failed: number;
  ignored: number;
}

interface Stage {
  name: string;
  args: string[];
  /** The stage prints deno test's summary. */
  counts?: boolean;
}

const root = new URL("..", import.meta.url).pathname;

const house: Stage[] = [
  { name: "format", args: ["fmt", "--check"] },
  { name: "lint", args: ["lint", "--quiet"] },
  { name: "types", args: ["check", "--quiet", "."] },
  { name: "pure tests", args: ["task", "--quiet", "test:pure"], counts: true },
  { name: "build", args: ["task", "--quiet", "build"] },
];

async function main(files: string[]): Promise<number> {
  const total: Count = { passed: 0, failed: 0, ignored: 0 };
  const failed: string[] = [];
  const stages = files.length > 0 ? [system(files)] : [...house, system(["tests"])];
  for (const stage of stages) {
    const count = await runStage(stage);
    total.passed += count.passed;
    total.failed += count.failed;
    total.ignored += count.ignored;
    if (count.failed > 0) failed.push(stage.name);
  }
  if (total.ignored > 0) console.log(`${total.ignored} ignored (their reasons are above)`);
  if (failed.length > 0) console.log(`failed: ${failed.join(", ")}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed > 0 ? 1 : 0;
}

const system = (files: string[]): Stage => ({
  name: "tests of real systems",
  // Not --quiet: that swallows what a test prints, and with it the seed of a random run.
  args: ["test", "-A", ...files],
  counts: true,
});

async function runStage(stage: Stage): Promise<Count> {
  const start = performance.now();
  console.log(`--- ${stage.name}`);
  if (stage.counts && stage.args[0] === "test" && Deno.uid() !== 0) {
    console.log("not run: they make network namespaces and need root");
    return { passed: 0, failed: 1, ignored: 0 };
  }
  const child = new Deno.Command(Deno.execPath(), {
    args: stage.args,
    cwd: root,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const [out, , status] = await Promise.all([tee(child.stdout), tee(child.stderr), child.status]);
  const count = stage.counts ? summary(out) : undefined;
  console.log(`    ${stage.name}: ${((performance.now() - start) / 1000).toFixed(1)} s, exit code ${status.code}`);
  if (!count) return status.success ? { passed: 1, failed: 0, ignored: 0 } : { passed: 0, failed: 1, ignored: 0 };
  // A leak, or an error outside of any test, fails the run without failing a test.
  if (!status.success && count.failed === 0) count.failed = 1;
  return count;
}

/** Shows a stream as it comes, and keeps it. */
async function tee(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let kept = "";
  for await (const part of stream) {
    Deno.stdout.writeSync(part);
    kept += decoder.decode(part, { stream: true });
  }
  return kept;
}

/** Counts of deno test's last summary: `ok | 3 passed (2 steps) | 0 failed | 1 ignored (5s)`. */
export function summary(text: string): Count | undefined {
  const lines = text.split("\n").filter((l) => /^(ok|FAILED) \| \d+ passed/.test(l));
  const line = lines.at(-1);
  if (line === undefined) return undefined;
  const number = (word: string) => Number(new RegExp(`(\\d+) ${word}`).exec(line)?.[1] ?? 0);
  return { passed: number("passed"), failed: number("failed"), ignored: number("ignored") };
}

if (import.meta.main) Deno.exit(await main(Deno.args));
