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
  const stages: [string, () => Promise<Count>][] = files.length > 0
    ? []
    : house.map((s) => [s.name, () => runStage(s)]);
  stages.push(["tests of real systems", async () => runSystems(files.length > 0 ? files : await testFiles("tests"))]);
  for (const [name, run] of stages) {
    const count = await run();
    total.passed += count.passed;
    total.failed += count.failed;
    total.ignored += count.ignored;
    if (count.failed > 0) failed.push(name);
  }
  if (total.ignored > 0) console.log(`${total.ignored} ignored (their reasons are above)`);
  if (failed.length > 0) console.log(`failed: ${failed.join(", ")}`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed > 0 ? 1 : 0;
}

/** Files that run at once: most of them wait for timers and other programs, and each makes all that it needs. */
const lanes = 2;

/** Each file is a process of its own, told whole when it is through; so none suffers from what another left behind. */
async function runSystems(files: string[]): Promise<Count> {
  const start = performance.now();
  console.log("--- tests of real systems");
  const total: Count = { passed: 0, failed: 0, ignored: 0 };
  if (Deno.uid() !== 0) {
    console.log("not run: they make network namespaces and need root");
    return { ...total, failed: 1 };
  }
  const waiting = files.sort((a, b) => Number(isLong(b)) - Number(isLong(a)));
  const lane = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const { code, text } = await runFile(file);
      console.log(text.trimEnd());
      // Types were a stage of their own. Without a count the file did not even begin, or ended in the middle.
      const count = summary(text) ?? { passed: 0, failed: 1, ignored: 0 };
      if (code !== 0 && count.failed === 0) count.failed = 1;
      total.passed += count.passed;
      total.failed += count.failed;
      total.ignored += count.ignored;
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  console.log(`    tests of real systems: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  return total;
}

/** What takes a minute begins first, so that no lane waits for it at the end. */
const isLong = (file: string): boolean =>
  /\/(systemd|wireguard|crash|neighbours|protect|doctor|render_packets|flood|bird|ipip|kubernetes|etcd_auth|boot)_/
    .test(file);

async function runFile(file: string): Promise<{ code: number; text: string }> {
  const start = performance.now();
  // Not --quiet: that swallows what a test prints, and with it the seed of a random run.
  const args = ["test", "-A", "--no-check", file];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = new TextDecoder().decode(stdout) + (code === 0 ? "" : new TextDecoder().decode(stderr));
  return { code, text: `${text.trimEnd()}\n    ${file}: ${((performance.now() - start) / 1000).toFixed(1)} s` };
}

/** All test files below a folder, in alphabetical order. */
async function testFiles(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(`${root}${folder}`)) {
    if (isDirectory) found.push(...await testFiles(`${folder}/${name}`));
    else if (name.endsWith("_test.ts")) found.push(`${folder}/${name}`);
  }
  return found.sort();
}

async function runStage(stage: Stage): Promise<Count> {
  const start = performance.now();
  console.log(`--- ${stage.name}`);
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
