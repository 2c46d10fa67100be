import { writeJson } from "../../lib/json64.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Resources } from "../../datastore/resources.ts";
import { badInput, type Call, type Command } from "../command.ts";
import { changesSince, lastReports } from "../hosts_lag.ts";
import { type LiveCounts, liveCounts } from "../live_counts.ts";
import { type Top, type TopHost, topOf, topText } from "../top.ts";

const parts = ["endpoints", "policies", "hosts"] as const;
type Parts = readonly (typeof parts)[number][];
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
  const look = new Look(call, await call.resources(), wanted);
  if (output === "json") surroundings.out(`${writeJson(await look.now(), 2)}\n`);
  else if (!surroundings.screen || flags.on("once")) surroundings.out(topText(await look.now()));
  else await live(call, look);
  return 0;
}

async function live({ surroundings }: Call, look: Look): Promise<void> {
  const signal = (await surroundings.host()).interruption();
  while (!signal.aborted) {
    const text = topText(await look.now(true), rowsOnScreen);
    surroundings.out(`\x1b[H\x1b[2J${text}`);
    await surroundings.clock.sleep(everyMs, signal).catch(() => {}); // Ctrl-C: the loop's condition ends it
  }
}

/** Looks at this host and at the datastore, and remembers the last look. */
class Look {
  #last: { counts: LiveCounts; atMs: number } | undefined;
  #endpoints: readonly Resource[] = [];

  constructor(private readonly call: Call, private readonly resources: Resources, private readonly wanted: Parts) {}

  /** @param sinceLast tells what came since the last look instead of everything. */
  async now(sinceLast = false): Promise<Partial<Top>> {
    const { clock } = this.call.surroundings;
    const counts = await liveCounts(this.call.surroundings), atMs = clock.monotonicMs();
    const ofHost = this.wanted.includes("endpoints") || this.wanted.includes("policies");
    if (!counts && ofHost) {
      throw badInput("no agent answers on this host", "`top hosts` is all that can be told from elsewhere");
    }
    await this.#readEndpoints(counts);
    const before = sinceLast ? this.#last : undefined;
    this.#last = counts && { counts, atMs };
    const names = new Map(this.#endpoints.flatMap((r) => nameOf(r, counts?.node)));
    const shown = counts && topOf(counts, names, before?.counts);
    return {
      ...{ node: counts?.node, seconds: before && (atMs - before.atMs) / 1000 },
      ...(this.wanted.includes("endpoints") && { endpoints: shown?.endpoints }),
      ...(this.wanted.includes("policies") && { policies: shown?.policies }),
      ...(this.wanted.includes("hosts") && { hosts: await this.#hosts(counts) }),
    };
  }

  /** Read again when there is an interface that is not known. */
  async #readEndpoints(counts: LiveCounts | undefined): Promise<void> {
    const known = new Set(this.#endpoints.flatMap((r) => nameOf(r, counts?.node)).map(([name]) => name));
    if (this.#endpoints.length > 0 && counts?.interfaces.every((i) => known.has(i.interfaceName))) return;
    const lists = await Promise.all(["WorkloadEndpoint", "HostEndpoint"].map((kind) => this.resources.list(kind)));
    this.#endpoints = lists.flatMap(({ items }) => items);
  }

  async #hosts(counts: LiveCounts | undefined): Promise<TopHost[]> {
    const { store } = this.resources, now = this.call.surroundings.clock.now();
    const [nodes, reports, behind] = await Promise.all([
      this.resources.list("Node"),
      lastReports(store),
      counts && changesSince(store, BigInt(String(counts.revision))),
    ]);
    const endpoints = new Map<string, number>();
    for (const { spec } of this.#endpoints) {
      const { node } = spec as { node: string };
      endpoints.set(node, (endpoints.get(node) ?? 0) + 1);
    }
    const names = new Set([...counts ? [counts.node] : [], ...nodes.items.map((n) => n.metadata.name)]);
    return [...names].sort().map((node): TopHost => {
      const reported = reports.get(node);
      return {
        ...{ node, endpoints: endpoints.get(node) ?? 0, behind: node === counts?.node ? behind : undefined },
        reportedAgoS: reported === undefined ? undefined : Math.max(0, Math.round((now - reported) / 1000)),
      };
    });
  }
}

/** An endpoint of the node by its interface, as people call it. */
function nameOf({ kind, metadata, spec }: Resource, node: string | undefined): [string, string][] {
  const { node: of, interfaceName, pod, workload } = spec as Record<string, string | undefined>;
  if (of !== node || !interfaceName) return [];
  if (kind === "HostEndpoint") return [[interfaceName, `HostEndpoint:${metadata.name}`]];
  return [[interfaceName, `${metadata.namespace}/${pod || workload || metadata.name}`]];
}
