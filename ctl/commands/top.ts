import { writeJson } from "../../lib/json64.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Resources } from "../../datastore/resources.ts";
import { badInput, type Call, type Command } from "../command.ts";
import { changesSince, lastReports } from "../hosts_lag.ts";
import { type LiveCounts, liveCounts } from "../live_counts.ts";
import { type Top, type TopHost, topOf, topText } from "../top.ts";

const parts = ["endpoints", "policies", "hosts"] as const;
/** Between two looks on a terminal. */
const everyMs = 2_000;
/** Rows of a table on a terminal. */
const rowsOnScreen = 12;

/** `top`: who is busy, what is dropped, who is behind. Calico has no such command. */
export const top: Command = {
  words: ["top"],
  summary: "Show this host's endpoints and policies by packets and drops, and how far hosts are behind",
  usage: "[endpoints | policies | hosts]",
  flags: [
    { name: "output", short: "o", value: "FORMAT", help: "text or json" },
    { name: "once", help: "on a terminal, too: totals once instead of rates that are drawn anew" },
  ],
  examples: ["top", "top policies", "top -o json"],
  run,
};

async function run(call: Call): Promise<number> {
  const { args, flags, surroundings } = call;
  const output = flags.text("output") ?? "text";
  if (!["text", "json"].includes(output)) throw badInput(`unrecognized output format '${output}'`);
  const wanted = parts.filter((p) => args.length === 0 || args.includes(p));
  const strange = args.find((word) => !parts.some((p) => p === word));
  if (strange !== undefined) throw badInput(`${strange} is nothing that top shows`, `write ${parts.join(", ")}`);
  const look = new Look(call, await call.resources());
  if (output === "json") surroundings.out(`${writeJson(only(await look.now(), wanted), 2)}\n`);
  else if (!surroundings.screen || flags.on("once")) surroundings.out(topText(only(await look.now(), wanted)));
  else await live(call, look, wanted);
  return 0;
}

async function live({ surroundings }: Call, look: Look, wanted: readonly (typeof parts)[number][]): Promise<void> {
  const signal = (await surroundings.host()).interruption();
  while (!signal.aborted) {
    const text = topText(only(await look.now(true), wanted), rowsOnScreen);
    surroundings.out(`\x1b[H\x1b[2J${text}`);
    await surroundings.clock.sleep(everyMs, signal).catch(() => {}); // Ctrl-C: the loop's condition ends it
  }
}

const only = (top: Top, wanted: readonly (typeof parts)[number][]): Partial<Top> => ({
  ...{ node: top.node, seconds: top.seconds },
  ...Object.fromEntries(wanted.map((part) => [part, top[part]])),
});

/** Looks at this host and at the datastore, and remembers the last look. */
class Look {
  #last: { counts: LiveCounts; atMs: number } | undefined;
  #endpoints: readonly Resource[] | undefined;

  constructor(private readonly call: Call, private readonly resources: Resources) {}

  /** @param sinceLast tells what came since the last look instead of everything. */
  async now(sinceLast = false): Promise<Top> {
    const { clock } = this.call.surroundings;
    const counts = await liveCounts(this.call.surroundings), atMs = clock.monotonicMs();
    if (!counts) {
      throw badInput("no agent answers on this host", "top is for hosts that tortie node or tortie agent runs on");
    }
    const before = sinceLast ? this.#last : undefined;
    this.#last = { counts, atMs };
    const shown = topOf(counts, await this.#names(counts), before?.counts);
    const seconds = before && (atMs - before.atMs) / 1000;
    return { ...shown, seconds, hosts: await this.#hosts(counts) };
  }

  /** Endpoints by interface; read again when there is one that is not known. */
  async #names({ node, interfaces }: LiveCounts): Promise<Map<string, string>> {
    const known = () => new Map((this.#endpoints ?? []).flatMap((r) => nameOf(r, node)));
    if (!this.#endpoints || interfaces.some((i) => !known().has(i.interfaceName))) await this.#readEndpoints();
    return known();
  }

  async #readEndpoints(): Promise<void> {
    const lists = await Promise.all(["WorkloadEndpoint", "HostEndpoint"].map((kind) => this.resources.list(kind)));
    this.#endpoints = lists.flatMap(({ items }) => items);
  }

  async #hosts({ node, revision }: LiveCounts): Promise<TopHost[]> {
    const { store } = this.resources, now = this.call.surroundings.clock.now();
    const [nodes, reports, behind] = await Promise.all([
      this.resources.list("Node"),
      lastReports(store),
      changesSince(store, BigInt(String(revision))),
    ]);
    const names = new Set([node, ...nodes.items.map((n) => n.metadata.name)]);
    return [...names].sort().map((name): TopHost => {
      const reported = reports.get(name);
      const endpoints = (this.#endpoints ?? []).filter(({ spec }) => (spec as { node?: string }).node === name).length;
      return {
        ...{ node: name, endpoints, behind: name === node ? behind : undefined },
        reportedAgoS: reported === undefined ? undefined : Math.max(0, Math.round((now - reported) / 1000)),
      };
    });
  }
}

/** An endpoint of the node by its interface, as people call it. */
function nameOf({ kind, metadata, spec }: Resource, node: string): [string, string][] {
  const { node: of, interfaceName, pod, workload } = spec as Record<string, string | undefined>;
  if (of !== node || !interfaceName) return [];
  if (kind === "HostEndpoint") return [[interfaceName, `HostEndpoint:${metadata.name}`]];
  return [[interfaceName, `${metadata.namespace}/${pod || workload || metadata.name}`]];
}
