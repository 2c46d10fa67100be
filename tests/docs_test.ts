import assert from "node:assert/strict";
import { parameterOf } from "../agent/settings.ts";
import { checkTable } from "../ctl/doctor/examination_text.ts";
import { checks } from "../ctl/doctor/checks/index.ts";
import { felixFields } from "../datastore/kinds/felix_configuration.ts";
import { runOk } from "../lib/process.ts";
import { idleParameters } from "../node/idle_parameters.ts";

const root = new URL("..", import.meta.url).pathname;

/** All files but what is made, as paths from the root. */
const listed = walk("");

Deno.test("docs/doctor.md has the table of all checks of `ctl doctor`", async () => {
  const path = `${root}docs/doctor.md`, text = await Deno.readTextFile(path);
  const whole = text.replace(
    /(<!-- checks: [^\n]*\n)[^]*(?=<!-- end of checks -->)/,
    `$1${checkTable(checks).replaceAll("$", "$$$$")}\n`,
  );
  if (Deno.env.has("UPDATE_GOLDEN")) await Deno.writeTextFile(path, whole);
  else assert.equal(text, whole);
});

Deno.test("every export says what it is", async () => {
  const files = listed.filter((f) => f.endsWith(".ts") && !/_test\.ts$|^tests\/cases\/runners\//.test(f));
  const undocumented: string[] = [];
  for (let i = 0; i < files.length; i += 100) {
    const paths = files.slice(i, i + 100).map((f) => root + f);
    const text = await runOk(Deno.execPath(), ["doc", "--json", "--no-lock", ...paths], { maxOutputBytes: 1 << 28 });
    undocumented.push(...undocumentedIn(JSON.parse(text) as Docs));
  }
  assert.deepEqual(undocumented, []);
});

interface Docs {
  nodes: Record<string, { symbols: { name: string; declarations: Declaration[] }[] }>;
}

interface Declaration {
  declarationKind: string;
  kind: string;
  jsDoc?: { doc?: string; tags?: unknown[] };
  location: { filename: string; line: number };
}

function undocumentedIn(docs: Docs): string[] {
  return Object.entries(docs.nodes).flatMap(([file, { symbols }]) =>
    symbols.flatMap((symbol) => {
      const own = symbol.declarations.filter((d) =>
        d.location.filename === file && d.declarationKind === "export" && d.kind !== "reference"
      );
      if (own.length === 0 || own.some((d) => d.jsDoc?.doc || d.jsDoc?.tags)) return [];
      return [`${file.slice(`file://${root}`.length)}:${own[0]!.location.line + 1} ${symbol.name}`];
    })
  );
}

Deno.test("every folder of code has a README of at most 60 lines", () => {
  const files = listed;
  const folders = new Set(files.filter((f) => f.endsWith(".ts") && f.includes("/")).map(folderOf));
  const wrong: string[] = [];
  for (const folder of [...folders].sort()) {
    // A folder of tests' data or of one file's parts is explained by the one above it.
    if (/^\.ci$|^tests\/(cases\/runners|system|bench|demo)$/.test(folder)) continue;
    if (!files.includes(`${folder}/README.md`)) wrong.push(`${folder}: no README.md`);
    else if (linesOf(`${folder}/README.md`) > 60) wrong.push(`${folder}/README.md: more than 60 lines`);
  }
  assert.deepEqual(wrong, []);
});

Deno.test("no page has a dead link", () => {
  const files = listed;
  const dead: string[] = [];
  for (const page of files.filter((f) => f.endsWith(".md"))) {
    const text = Deno.readTextFileSync(root + page).replace(/```[\s\S]*?```/g, "");
    for (const [, target] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:|^#/.test(target!)) continue;
      const path = new URL(target!.split("#")[0]!, `file:///${page}`).pathname.slice(1).replace(/\/$/, "");
      if (!files.includes(path) && !files.some((f) => f.startsWith(`${path}/`))) dead.push(`${page}: ${target}`);
    }
  }
  assert.deepEqual(dead, []);
});

Deno.test("the commands that pages show exist", () => {
  const tasks = Object.keys(JSON.parse(Deno.readTextFileSync(`${root}deno.json`)).tasks);
  const main = Deno.readTextFileSync(`${root}main.ts`);
  const wrong: string[] = [];
  for (const page of listed.filter((f) => f.endsWith(".md") && !f.startsWith("docs/decisions/"))) {
    const text = Deno.readTextFileSync(root + page);
    for (const [said, task] of text.matchAll(/(?:\.\/dev|deno task) ([a-z][a-z:]*)/g)) {
      if (!tasks.includes(task!)) wrong.push(`${page}: ${said}`);
    }
    for (const [said, word] of text.matchAll(/`tortie ([a-z]+)/g)) {
      if (!new RegExp(`(^|[^a-z])${word}([^a-z]|$)`, "m").test(main)) wrong.push(`${page}: ${said}\``);
    }
  }
  assert.deepEqual(wrong, []);
});

const folderOf = (file: string) => file.slice(0, file.lastIndexOf("/"));

const linesOf = (file: string) => Deno.readTextFileSync(root + file).trimEnd().split("\n").length;

function walk(folder: string): string[] {
  return [...Deno.readDirSync(root + folder)].flatMap((e) => {
    const path = folder === "" ? e.name : `${folder}/${e.name}`;
    if (!e.isDirectory) return [path];
    return /^(\.git|\.cache|build|dist|node_modules)$/.test(e.name) ? [] : walk(path);
  });
}

Deno.test("every parameter of Felix has one row in docs/felix_parameters.md, and those that do nothing say why in the code, too", async () => {
  const page = await Deno.readTextFile(`${root}docs/felix_parameters.md`);
  const rows = [...page.matchAll(/^\| (\w+) \| (.*?) \|/gm)].filter((r) => r[1] !== "parameter");
  const documented = rows.map((r) => r[1]!.toLowerCase());
  assert.deepEqual(documented.filter((name, i) => documented.indexOf(name) !== i), []);
  const fields = felixFields.filter((f) => !/^(bpf|nodeSelector$)/.test(f)).map((f) => parameterOf(f).toLowerCase());
  assert.deepEqual(fields.filter((name) => !documented.includes(name)), []);
  const idle = rows.filter((r) => r[2] === "–").map((r) => r[1]);
  assert.deepEqual(idle, Object.keys(idleParameters));
});
