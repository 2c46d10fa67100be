/**
 * `deno task cases [DIR] [name…]`: runs the case files of a folder (default `tests/cases`) against our functions.
 * A name is a file without `.json`, or `name:id` for one case. `--all` prints every difference, not the first three;
 * `--differ` also prints the reasons of the cases that differ on purpose.
 * Exit code: 0 nothing failed, 1 a case failed, 2 wrong arguments.
 */
import { caseNames, FileResult, runFile, summaryLine } from "./case_files.ts";

const defaultDir = new URL(".", import.meta.url).pathname.replace(/\/$/, "");

async function main(args: string[]): Promise<number> {
  const all = args.includes("--all"), differ = args.includes("--differ");
  const words = args.filter((a) => a !== "--all" && a !== "--differ");
  // A folder without case files is a name: the repository's own folders are called as some files are.
  const isDir = words[0] !== undefined && isFolder(words[0]) && caseNames(words[0]).length > 0;
  const dir = isDir ? words.shift()! : defaultDir;
  const known = caseNames(dir);
  const strange = words.filter((w) => !known.includes(w.split(":")[0]!));
  if (strange.length > 0 || known.length === 0) {
    console.error(`cases: no ${strange.map((s) => s + ".json").join(", ") || "case files"} in ${dir}`);
    return 2;
  }
  let passed = 0, failed = 0;
  for (const word of words.length > 0 ? words : known) {
    const [name, id] = word.split(":") as [string, string | undefined];
    const result = await runFile(dir, name, id);
    passed += result.counts?.passed ?? 0;
    failed += result.counts?.failed ?? 0;
    print(result, all ? Infinity : 3, differ);
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed > 0 ? 1 : 0;
}

function print(result: FileResult, most: number, differ: boolean): void {
  for (const f of result.failures.slice(0, most)) console.log(`--- ${f.id}: ${f.what}\n${f.text}\n`);
  if (result.failures.length > most) {
    console.log(`--- ${result.failures.length - most} more failed (--all shows them)\n`);
  }
  if (differ) { for (const d of result.differences) console.log(`~~~ ${d.id}: ${d.what}\n${d.text}\n`); }
  for (const id of result.stale) console.log(`known_differences.json: ${result.name} ${id} is not needed any more`);
  console.log(summaryLine(result));
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
