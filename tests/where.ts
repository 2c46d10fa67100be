/**
 * `deno task where --shape`: the size of the code, beside what the house aims at and what others have. Figures of others:
 * hand-written, non-test files, August 2026.
 */
import { table } from "./bench/table.ts";
import { quantile, shapeOf } from "./shape.ts";

const root = new URL("..", import.meta.url).pathname;

/** Files, median and 90th percentile of lines, longest function. */
const others: [string, string, string, string, string][] = [
  ["Cilium", "1941", "92", "412", "822"],
  ["Tailscale", "1447", "103", "-", "-"],
  ["CNI plugins", "73", "182", "-", "228"],
  ["Calico felix", "366", "166", "760", "1183"],
  ["hono", "190", "70", "319", "-"],
  ["Deno std", "670", "66", "-", "1384"],
];

function main(args: string[]): number {
  if (args[0] !== "--shape") {
    console.error("usage: deno task where --shape");
    return 2;
  }
  const code = new Map<string, string>(), tests = new Map<string, string>();
  walk("", code, tests);
  const shape = shapeOf(code);
  const lines = shape.files.map((f) => f.lines), functions = shape.functions.map((f) => f.lines);
  const text = (n: number) => String(n);
  console.log(table([
    ["", "files", "median lines", "p90", "longest function"],
    [
      "tortie",
      text(lines.length),
      text(quantile(lines, 0.5)),
      text(quantile(lines, 0.9)),
      text(Math.max(...functions)),
    ],
    ["our aim", "", "120-180", "300", "100"],
    ...others,
  ]));
  const sum = (texts: Map<string, string>) => [...texts.values()].reduce((n, t) => n + t.split("\n").length - 1, 0);
  console.log(
    `\nfunctions: ${functions.length}, median ${quantile(functions, 0.5)}, p90 ${quantile(functions, 0.9)} lines`,
  );
  console.log(
    `code ${sum(code)} lines, tests ${sum(tests)} lines: ${(sum(tests) / sum(code)).toFixed(2)} a line of code`,
  );
  const most = [...shape.folders].sort(([, a], [, b]) => b - a).slice(0, 5);
  console.log(`largest folders: ${most.map(([f, n]) => `${f} ${n} files`).join(", ")}`);
  const long = [...shape.functions].sort((a, b) => b.lines - a.lines).slice(0, 5);
  console.log(`longest functions: ${long.map((f) => `${f.file}:${f.line} ${f.name} ${f.lines}`).join(", ")}`);
  return 0;
}

/** Splits the sources into code and tests; everything in tests/ is test. */
function walk(folder: string, code: Map<string, string>, tests: Map<string, string>): void {
  for (const e of Deno.readDirSync(root + folder)) {
    const path = folder === "" ? e.name : `${folder}/${e.name}`;
    if (e.isDirectory) {
      if (!/^(\..*|build|dist|node_modules)$/.test(e.name)) walk(path, code, tests);
    } else if (e.name.endsWith(".ts")) {
      (/^tests\/|_test\.ts$/.test(path) ? tests : code).set(path, Deno.readTextFileSync(root + path));
    }
  }
}

if (import.meta.main) Deno.exit(main(Deno.args));
