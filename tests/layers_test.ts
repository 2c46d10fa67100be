import assert from "node:assert/strict";
import { runOk } from "../lib/process.ts";
import { Code, Edge, House, violations, withoutCommentsAndStrings } from "./layers.ts";

const root = new URL("..", import.meta.url).pathname;
const folders = [
  "lib",
  "kernel",
  "datastore",
  "ipam",
  "agent",
  "routing",
  "cni",
  "ctl",
  "controllers",
  "api",
  "store",
  "node",
];

Deno.test("imports go down, packages stay in their rows, pure folders stay pure", async () => {
  const house = { packages: packagesOf(await Deno.readTextFile(`${root}docs/dependencies.md`)) };
  assert.deepEqual(violations(await codeOf(root), house), []);
});

/** A small repository in which each file breaks one rule, and the words that must be said about it. */
const broken: [file: string, text: string, said: string][] = [
  ["lib/up.ts", 'import "../kernel/fine.ts";', "lib/up.ts imports kernel/fine.ts: not below it"],
  ["agent/sideways.ts", 'import "../routing/fine.ts";', "agent/sideways.ts imports routing/fine.ts: not below it"],
  [
    "kernel/types.ts",
    'import type { A } from "../ipam/fine.ts"; export type B = A;',
    "kernel/types.ts imports ipam/fine.ts: not below it",
  ],
  ["ipam/lazy.ts", 'await import("../cni/fine.ts");', "ipam/lazy.ts imports cni/fine.ts: not below it"],
  [
    "agent/calc/up.ts",
    'import "../dataplane/fine.ts";',
    "agent/calc/up.ts imports agent/dataplane/fine.ts: not below it",
  ],
  [
    "agent/network/side.ts",
    'import "../netfilter/fine.ts";',
    "agent/network/side.ts imports agent/netfilter/fine.ts: not below it",
  ],
  ["agent/desired.ts", 'import "./calc/fine.ts";', "agent/desired.ts imports agent/calc/fine.ts: not below it"],
  ["routing/_own.ts", "export const a = 1;", "node/nosy.ts imports routing/_own.ts: private to routing/"],
  ["node/nosy.ts", 'import "../routing/_own.ts";', ""],
  [
    "main.ts",
    'import "./node/fine.ts";',
    "main.ts imports node/fine.ts statically: a subcommand costs nothing until it is asked for",
  ],
  ["ctl/a.ts", 'import "./b.ts";', "import cycle: ctl/a.ts -> ctl/b.ts -> ctl/a.ts"],
  ["ctl/b.ts", 'import "./a.ts";', ""],
  [
    "cni/plugin.ts",
    'import "../lib/unix_http.ts"; import "./config.ts";',
    "cni/plugin.ts loads cni/config.ts: every CNI call would pay for it",
  ],
  ["cni/config.ts", 'import "../lib/log.ts";', "cni/plugin.ts loads lib/log.ts: every CNI call would pay for it"],
  ["lib/unix_http.ts", "", ""],
  ["lib/log.ts", "console.log(Date.now());", ""],
  ["api/page.ts", 'import "etcd3";', "api/page.ts imports etcd3: only datastore/ may"],
  ["api/left.ts", 'import "left-pad";', "api/left.ts imports left-pad, which has no row in docs/dependencies.md"],
  ["ipam/clock.ts", "export const now = Date.now();", "ipam/clock.ts is pure and says Date"],
  ["ipam/commit.ts", "export const now = Date.now();", ""],
  ["routing/file.ts", 'Deno.readTextFileSync("x");', "routing/file.ts is pure and says Deno"],
  ["routing/bird.ts", 'Deno.readTextFileSync("x");', ""],
  [
    "agent/calc/chance.ts",
    "export const one = () => Math.random();",
    "agent/calc/chance.ts is pure and says Math.random",
  ],
  ["datastore/selector/wait.ts", "setTimeout(() => {}, 1);", "datastore/selector/wait.ts is pure and says setTimeout"],
  ["agent/matches/talk.ts", 'console.log("x");', "agent/matches/talk.ts is pure and says console"],
  ["ipam/words.ts", '// Date, Deno\nexport const a = "console, Date";', ""],
];

Deno.test("each rule finds the file that breaks it, and nothing else", async () => {
  const dir = await Deno.makeTempDir({ prefix: "layers-" });
  const fine = ["kernel", "routing", "ipam", "cni", "node", "agent/dataplane", "agent/netfilter", "agent/calc"];
  for (const [file, text] of [...broken, ...fine.map((f) => [`${f}/fine.ts`, "export type A = 1;"])] as string[][]) {
    await Deno.mkdir(`${dir}/${file!.split("/").slice(0, -1).join("/")}`, { recursive: true });
    await Deno.writeTextFile(`${dir}/${file}`, text!);
  }
  await Deno.writeTextFile(`${dir}/deno.json`, '{"imports":{"etcd3":"npm:etcd3@1.1.2","left-pad":"npm:etcd3@1.1.2"}}');
  const house: House = { packages: new Map([["etcd3", ["datastore/"]]]) };
  const code = await codeOf(`${dir}/`);
  // The registry need not be asked for a package that must not be there.
  const found = violations(
    { ...code, edges: code.edges.map((e) => e.from === "api/left.ts" ? { ...e, to: "npm:left-pad" } : e) },
    house,
  );
  assert.deepEqual(found, broken.map(([, , said]) => said).filter((said) => said !== "").sort());
  await Deno.remove(dir, { recursive: true });
});

Deno.test("withoutCommentsAndStrings() keeps code and drops what is only said", () => {
  const text = 'a("Date"); // Date\n/* Deno */ const u = "http://x"; `Date ${b}`; `Date`;';
  const left = withoutCommentsAndStrings(text);
  assert.ok(!/Deno/.test(left) && /const u/.test(left) && /\$\{b\}/.test(left), left);
});

/** All edges and texts of the folders below `dir`, from `deno info`. */
async function codeOf(dir: string): Promise<Code> {
  const files = [...folders.flatMap((f) => walk(dir, f)), "main.ts"].filter((f) => !/_test\.ts$/.test(f));
  const all = `${dir}_all_${crypto.randomUUID()}.ts`;
  await Deno.writeTextFile(all, files.map((f) => `import ${JSON.stringify(`./${f}`)};`).join("\n"));
  try {
    const graph = JSON.parse(
      await runOk(Deno.execPath(), ["info", "--json", "--no-lock", all], { cwd: dir, maxOutputBytes: 1 << 28 }),
    );
    const texts = new Map(files.map((f) => [f, Deno.readTextFileSync(dir + f)]));
    return { edges: edgesOf(graph as Graph, dir), texts };
  } finally {
    await Deno.remove(all);
  }
}

interface Graph {
  modules: {
    specifier: string;
    dependencies?: { specifier: string; code?: Target; type?: Target; isDynamic?: boolean }[];
  }[];
}

interface Target {
  specifier?: string;
}

function edgesOf(graph: Graph, dir: string): Edge[] {
  const base = `file://${dir}`;
  const edges: Edge[] = [];
  for (const module of graph.modules) {
    if (!module.specifier.startsWith(base) || module.specifier.startsWith(`${base}_all_`)) continue;
    for (const d of module.dependencies ?? []) {
      const to = d.code?.specifier ?? d.type?.specifier ?? d.specifier;
      const name = to.startsWith(base) ? to.slice(base.length) : to.replace(/^npm:\/?(@?[^@]+)@.*$/, "npm:$1");
      if (name.startsWith("node:")) continue;
      edges.push({
        ...{ from: module.specifier.slice(base.length), to: name },
        ...{ dynamic: d.isDynamic === true, typeOnly: d.code === undefined },
      });
    }
  }
  return edges;
}

function walk(dir: string, folder: string): string[] {
  try {
    return [...Deno.readDirSync(dir + folder)].flatMap((e) =>
      e.isDirectory ? walk(dir, `${folder}/${e.name}`) : e.name.endsWith(".ts") ? [`${folder}/${e.name}`] : []
    );
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** The table of docs/dependencies.md: package to folders. */
function packagesOf(page: string): Map<string, string[]> {
  const rows = [...page.matchAll(/^\| `([^`]+)` \| ([^|]+) \|/gm)];
  return new Map(rows.map(([, name, where]) => [name!, [...where!.matchAll(/`([^`*]+\/)`/g)].map((m) => m[1]!)]));
}
