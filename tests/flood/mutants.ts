import { run } from "../../lib/process.ts";
import { tortie } from "../lab/agent_world.ts";

/** A fault in the agent that the flood has to notice. */
export interface Mutant {
  name: string;
  file: string;
  /** Texts that stand in the file once each, and what stands there instead. */
  changes: [string, string][];
  /** Groups of transitions that are run. */
  only: string;
  /** What the test must say of it. */
  says: RegExp;
}

const leak = / passed, over|passed after the first was denied/, loss = /were lost|packets lost after/;

/** What must not happen, done on purpose. */
export const mutants: Mutant[] = [
  {
    name: "a jump is left out",
    file: "agent/netfilter/static_chains.ts",
    changes: [[`...s.interfacePrefixes.map((p) => line([fromWorkload(p)], goTo("cali-wl-to-host"))),`, ""]],
    only: "policy",
    says: /before any transition these are not as policy says: -a>host$/m,
  },
  {
    name: "deletions first: a chain that changes is emptied in a transaction of its own",
    file: "kernel/netfilter/iptables.ts",
    changes: [[
      "const result = await this.#restore(text);",
      `const gone = chains.filter((c) => c.from && c.to);
       const lines = ["*" + table, ...gone.map((c) => ":" + c.name + " - -"), "COMMIT", ""].join("\\n");
       const entries = -gone.reduce((n, c) => n + c.from!.hashes.length, 0);
       if (gone.length > 0) await this.#restore({ ...text, text: lines, entries });
       const result = await this.#restore(restoreText(table, tools.variant, chains.map((c) =>
         c.from && c.to ? { ...c, from: { hashes: [], refs: [] } } : c), hooks));`,
    ]],
    only: "policy",
    says: leak,
  },
  {
    name: "sets are emptied before the rules that look into them are gone",
    file: "kernel/netfilter/ipset.ts",
    changes: [[
      `if (phase === undefined || phase === "break")`,
      `if (phase !== "break") for (const s of due) if (!s.want && s.have) await run("ipset", ["flush", s.name]);
       if (phase === undefined || phase === "break")`,
    ]],
    only: "policy",
    says: loss,
  },
  {
    name: "sets allow more before the rules have changed",
    file: "agent/dataplane/filter.ts",
    changes: [[`? "close" : "make"`, `? "make" : "make"`]],
    only: "endpoints",
    says: leak,
  },
  {
    name: "ready before chains: interfaces are raised and ADDs answered without them",
    file: "node/agent_part.ts",
    changes: [
      ["dataplane: appliedAfter(policy.ready, dataplane),", "dataplane,"],
      [", policy.enforced(key, deadlineMs)", ""],
    ],
    only: "endpoints|restarts",
    says: /passed, over|packets lost after it was said to be ready/,
  },
];

const root = new URL("../..", import.meta.url).pathname;
const sources = ["agent", "cni", "ctl", "datastore", "ipam", "kernel", "lib", "node", "routing", "store", "main.ts"];
const settings = ["deno.json", "deno.lock", "package.json"];

/**
 * Runs the flood against an agent with a fault, from a copy of the sources; other calls of tortie go to the sound one.
 * @param mutant undefined = the copy as it is.
 * @throws when the text to be changed does not stand in the file once.
 * @returns whether the test failed, and what it said.
 */
export async function runMutant(
  mutant: Mutant | undefined,
  only: string,
): Promise<{ failed: boolean; output: string }> {
  const dir = await Deno.makeTempDir({ prefix: "fl-mutant-" });
  try {
    await copySources(dir);
    if (mutant) await change(`${dir}/${mutant.file}`, mutant.changes);
    const agent = [Deno.execPath(), "run", "-A", "--no-check", `${dir}/main.ts`].join(" ");
    const launcher = `${dir}/tortie`;
    const script = `#!/bin/bash\nif [ "$1" = agent ]; then exec ${agent} "$@"; fi\nexec ${tortie().join(" ")} "$@"\n`;
    await Deno.writeTextFile(launcher, script, { mode: 0o755 });
    const args = ["test", "-A", "--no-check", "--filter", "legacy:", `${root}tests/system/flood_test.ts`];
    const env = { TORTIE_BINARY: launcher, FLOOD_ONLY: only, FLOOD_MUTANTS: "", NO_COLOR: "1" };
    const { code, stdout, stderr } = await run(Deno.execPath(), args, { env, timeoutMs: 180_000, cwd: root });
    return { failed: code !== 0, output: stdout + stderr };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function copySources(dir: string): Promise<void> {
  for (const name of [...sources, ...settings]) {
    const { code } = await run("cp", ["-r", `${root}${name}`, `${dir}/`]);
    if (code !== 0 && !settings.includes(name)) throw new Error(`${name} cannot be copied`);
  }
}

async function change(file: string, changes: [string, string][]): Promise<void> {
  let text = await Deno.readTextFile(file);
  for (const [from, to] of changes) {
    if (text.split(from).length !== 2) throw new Error(`this does not stand in ${file} once: ${from}`);
    text = text.replace(from, () => to);
  }
  await Deno.writeTextFile(file, text);
}
