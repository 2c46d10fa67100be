/** One import of a file. `to` is a path in the repository, or a package name after `npm:`. */
export interface Edge {
  from: string;
  to: string;
  dynamic: boolean;
  /** Only types: gone at run time. */
  typeOnly: boolean;
}

/** The files of a repository: their imports and their texts, by path from its root. */
export interface Code {
  edges: Edge[];
  texts: Map<string, string>;
}

/** What the rules are checked against. */
export interface House {
  /** Package name to the folders that may import it; a folder ends with "/". */
  packages: Map<string, string[]>;
}

/** Folders from bottom to top. Equal ranks do not import each other. */
const ranks: Record<string, number> = {
  "main.ts": 9,
  node: 8,
  ...{ cni: 7, ctl: 7, controllers: 7, api: 7, store: 7 },
  ...{ agent: 6, routing: 6 },
  ipam: 5,
  datastore: 4,
  kernel: 2,
  lib: 1,
};

/** The same inside agent/: folders, and the files that everybody there reads. Other files of agent/ stand above all. */
const agentRanks: Record<string, number> = {
  ...{ endpoints: 5, status: 5, drops: 5, dataplane: 4, why: 4, netfilter: 3, network: 3, calc: 2, matches: 1 },
  ...{ "desired.ts": 1, "desired_policy.ts": 1, "settings.ts": 1, "felix_sources.ts": 1.5, "refusals.ts": 1 },
};

/** What the CNI plugin may load before it has spoken with the agent. */
const pluginMayLoad = ["lib/unix_http.ts", "lib/problem.ts", "lib/json64.ts"];

/** Folders whose files do no I/O and take time and chance as arguments, and their files that are thin edges. */
const pure = /^(datastore\/selector|ipam|agent\/(calc|matches|netfilter|network|why)|routing)\//;
const edges = [
  "ipam/commit.ts",
  ...["routing", "bird", "bird_control", "calico_sockets", "surroundings"].map((name) => `routing/${name}.ts`),
];
const impure = /\b(Date|setTimeout|setInterval|Deno|console|performance)\b(?!:)|\bMath\.random\b|\bcrypto\.random/;

/** Every breach of the layer rules, one sentence each, sorted. Empty = the house is in order. */
export function violations(code: Code, house: House): string[] {
  const own = code.edges.filter((e) => !/_test\.ts$/.test(e.from));
  return [
    ...own.flatMap((e) => edgeViolations(e, house)),
    ...cycles(own).map((c) => `import cycle: ${c.join(" -> ")}`),
    ...pluginViolations(own),
    ...[...code.texts].flatMap(([file, text]) => wordViolations(file, text)),
  ].sort();
}

function edgeViolations(edge: Edge, house: House): string[] {
  const { from, to } = edge;
  if (to.startsWith("npm:")) {
    const name = to.slice(4), folders = house.packages.get(name);
    if (!folders) return [`${from} imports ${name}, which has no row in docs/dependencies.md`];
    return folders.some((f) => from.startsWith(f)) ? [] : [`${from} imports ${name}: only ${folders.join(", ")} may`];
  }
  const found: string[] = [];
  if (goesUp(from, to)) found.push(`${from} imports ${to}: not below it`);
  const folder = to.slice(0, to.lastIndexOf("/") + 1);
  if (to.slice(folder.length).startsWith("_") && !from.startsWith(folder)) {
    found.push(`${from} imports ${to}: private to ${folder}`);
  }
  if (from === "main.ts" && !edge.dynamic && !to.startsWith("lib/")) {
    found.push(`main.ts imports ${to} statically: a subcommand costs nothing until it is asked for`);
  }
  return found;
}

/** True when `to` is neither in the folder of `from` nor below it. */
function goesUp(from: string, to: string): boolean {
  const [a, b] = [from.split("/"), to.split("/")] as [[string, ...string[]], [string, ...string[]]];
  if (a[0] !== b[0]) return (ranks[b[0]] ?? 99) >= (ranks[a[0]] ?? 0);
  if (a[0] !== "agent" || a[1] === b[1]) return false;
  return (agentRanks[b[1]!] ?? 9) >= (agentRanks[a[1]!] ?? 9) && !(isTop(a) && isTop(b));
}

/** A file directly in agent/ that is none of those below all. */
const isTop = (path: string[]) => path.length === 2 && agentRanks[path[1]!] === undefined;

/** Groups of files that import each other in a circle, each group once. Dynamic imports count: they bind as well. */
function cycles(edges: Edge[]): string[][] {
  const next = new Map<string, string[]>();
  for (const { from, to } of edges) next.set(from, [...next.get(from) ?? [], to]);
  const found: string[][] = [], done = new Set<string>(), path: string[] = [];
  const visit = (file: string) => {
    const at = path.indexOf(file);
    if (at >= 0) return void found.push([...path.slice(at), file]);
    if (done.has(file)) return;
    path.push(file);
    for (const to of next.get(file) ?? []) visit(to);
    path.pop();
    done.add(file);
  };
  for (const file of [...next.keys()].sort()) visit(file);
  return found;
}

function pluginViolations(edges: Edge[]): string[] {
  const loads = new Set<string>(), queue = ["cni/plugin.ts"];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    for (const e of edges) {
      if (e.from !== file || e.dynamic || e.typeOnly || loads.has(e.to)) continue;
      loads.add(e.to);
      queue.push(e.to);
    }
  }
  return [...loads].filter((f) => !pluginMayLoad.includes(f))
    .map((f) => `cni/plugin.ts loads ${f}: every CNI call would pay for it`);
}

function wordViolations(file: string, text: string): string[] {
  if (!pure.test(file) || edges.includes(file) || /_test\.ts$/.test(file)) return [];
  const word = impure.exec(withoutCommentsAndStrings(text));
  return word ? [`${file} is pure and says ${word[0]}`] : [];
}

/** The code alone: comments and the contents of string literals become spaces; `${…}` of templates stays. */
export function withoutCommentsAndStrings(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\/|(^|[^:"'`\\])\/\/[^\n]*/g, "$1 ")
    .replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, '""')
    .replace(/`(?:[^`\\$]|\\.|\$(?!\{))*`/g, "``");
}
