import { runCtl } from "../../../ctl/main.ts";
import type { Surroundings } from "../../../ctl/surroundings.ts";
import { MemoryStore } from "../../../datastore/memory.ts";
import { systemClock } from "../../../lib/clock.ts";
import { type Json, parseJson, sameJson, writeJson } from "../../../lib/json64.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";

interface Step {
  args: string[];
  stdin?: string;
}

interface StepResult {
  exit: number;
  stdout: string;
  stderr?: string;
}

interface Input {
  datastore: Record<string, Json>;
  files?: Record<string, string>;
  env?: Record<string, string | null>;
  steps: Step[];
}

interface Expect {
  steps: StepResult[];
  changed?: Record<string, Json>;
}

const everything = { start: "/", end: "0" };

/** ctl.json: command lines with what they print, their exit code, and what they leave in the datastore. */
export const runner: CaseRunner = {
  async run(one: Case): Promise<Outcome> {
    const input = one.input as unknown as Input;
    const expect = one.expect as Expect;
    await using store = new MemoryStore();
    for (const [key, value] of Object.entries(input.datastore)) {
      await store.txn({ compare: [], write: [{ put: key, value: writeJson(value) }] });
    }
    const before = await valuesOf(store);
    const differences: string[] = [];
    for (const [i, step] of input.steps.entries()) {
      const got = await runStep(step, input, store);
      differences.push(...compareStep(step, expect.steps[i]!, got));
    }
    const changed = changes(before, await valuesOf(store));
    if (!sameJson(expect.changed ?? {}, changed)) {
      differences.push(`changed: expected ${writeJson(expect.changed ?? {}, 1)}\n got ${writeJson(changed, 1)}`);
    }
    return differences.length === 0 ? { is: "passed" } : { is: "failed", difference: differences.join("\n") };
  },
};

async function runStep(step: Step, input: Input, store: MemoryStore): Promise<StepResult> {
  let stdout = "", stderr = "";
  const env: Record<string, string | null> = {
    DATASTORE_TYPE: "etcdv3",
    ETCD_ENDPOINTS: "http://etcd:2379",
    ...input.env,
  };
  const files = new Map(
    Object.entries(input.files ?? {}).map(([k, v]) => [k, v.replaceAll("<etcd>", "http://etcd:2379")]),
  );
  const surroundings: Surroundings = {
    program: "calicoctl",
    out: (text) => stdout += text,
    err: (text) => stderr += text,
    stdin: () => Promise.resolve(step.stdin ?? ""),
    env: (name) => env[name] ?? undefined,
    readFile: (path) => Promise.resolve(files.get(path)),
    listFolder: (path) => Promise.resolve(listing(path, [...files.keys()])),
    openStore: () => shared(store),
    node: () => Promise.resolve({}),
    host: () => Promise.reject(new Error("no recorded command needs the machine")),
    clock: systemClock,
    uuid: () => crypto.randomUUID(),
    random: Math.random,
    version: "v3.33.0",
    calicoVersion: "v3.33.0",
    commit: "87c15906",
    screen: false,
    terminal: false,
  };
  const exit = await runCtl(step.args, surroundings);
  return { exit, stdout, stderr };
}

/** The store, which outlives the command that thinks it has opened it. */
function shared(store: MemoryStore): MemoryStore {
  return new Proxy(store, {
    get(target, member) {
      if (member === Symbol.asyncDispose) return () => Promise.resolve();
      const value = Reflect.get(target, member, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function listing(path: string, all: string[]): { files: string[]; folders: string[] } | undefined {
  const below = all.filter((file) => file.startsWith(`${path}/`)).map((file) => file.slice(path.length + 1));
  if (below.length === 0) return undefined;
  return {
    files: below.filter((file) => !file.includes("/")),
    folders: [...new Set(below.filter((file) => file.includes("/")).map((file) => file.split("/")[0]!))],
  };
}

async function valuesOf(store: MemoryStore): Promise<Map<string, Json>> {
  const values = new Map<string, Json>();
  await store.list(everything, (kvs) => kvs.forEach((kv) => values.set(kv.key, parseJson(kv.value))));
  return values;
}

type Members = Record<string, Json>;

/** Keys whose value differs, without what was made up during the run. */
function changes(before: Map<string, Json>, after: Map<string, Json>): Members {
  const keys = [...new Set([...before.keys(), ...after.keys()])].sort();
  const old = new Set([...before.values()].flatMap((v) => identityOf(v)));
  return Object.fromEntries(
    keys.filter((key) => !sameJson(before.get(key), after.get(key)))
      .map((key) => [key, after.has(key) ? anonymous(after.get(key)!, old, !before.has(key)) : null]),
  );
}

/** uid and creation time of an object. */
function identityOf(value: Json): Json[] {
  const metadata = (value as Members).metadata as Members | undefined;
  return metadata ? [metadata.uid!, metadata.creationTimestamp!] : [];
}

function anonymous(value: Json, old: ReadonlySet<Json>, isNew: boolean): Json {
  const object = structuredClone(value) as Members;
  const metadata = object.metadata as Members | undefined;
  for (const member of ["uid", "creationTimestamp"]) if (!old.has(metadata?.[member]!)) delete metadata?.[member];
  const spec = object.spec as Members | undefined;
  if (object.kind === "ClusterInformation" && isNew && spec?.clusterGUID) spec.clusterGUID = "<guid>";
  return object;
}

/** Outputs are compared to the letter, but for what the run itself made up. */
function compareStep(step: Step, expect: StepResult, got: StepResult): string[] {
  const line = `$ ${step.args.join(" ")}`;
  const differences: string[] = [];
  if (expect.exit !== got.exit) differences.push(`${line}: exit code ${expect.exit} expected, got ${got.exit}`);
  for (
    const [name, wanted, found] of [["stdout", expect.stdout, got.stdout], [
      "stderr",
      expect.stderr ?? "",
      got.stderr ?? "",
    ]]
  ) {
    if (pattern(wanted!).test(found!)) continue;
    differences.push(`${line}: ${name}\n  expected ${JSON.stringify(wanted)}\n  got      ${JSON.stringify(found)}`);
  }
  return differences;
}

/** The expected text with its placeholders as wildcards. */
function pattern(text: string): RegExp {
  const escaped = text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const wild = escaped.replaceAll("<rv>", "\\d+").replaceAll("<uid>", "[0-9a-f-]{36}")
    .replaceAll("<time>", "\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ").replaceAll("<guid>", "[0-9a-f]{32}");
  return new RegExp(`^${wild}$`);
}
