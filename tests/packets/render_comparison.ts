import type { NetfilterSettings } from "../../agent/netfilter/model.ts";
import type { ChainText } from "./loader.ts";
import { type Observation, shown } from "./prober.ts";
import type { RenderNetwork } from "./render_network.ts";
import type { Setup } from "./render_setup.ts";

/** What comparing two sets of chains found. */
export interface Comparison {
  packets: number;
  delivered: number;
  /** A sentence for each packet that fared differently. */
  differences: string[];
}

/** Loads two sets of chains into two networks that are alike, sends the same packets into both, and compares their fates. */
export class RenderComparison {
  constructor(private readonly left: RenderNetwork, private readonly right: RenderNetwork) {}

  async compare(
    left: readonly ChainText[],
    right: readonly ChainText[],
    setup: Setup,
    settings: NetfilterSettings,
  ): Promise<Comparison> {
    await Promise.all([load(this.left, left, setup, settings), load(this.right, right, setup, settings)]);
    return await this.#probe(setup, 2);
  }

  /** Puts chains that should differ into the right network and compares again, in less time; the left one stays. */
  async again(right: readonly ChainText[], setup: Setup, settings: NetfilterSettings): Promise<Comparison> {
    await Promise.all([this.left.loader.forgetFlows(), load(this.right, right, setup, settings)]);
    return await this.#probe(setup, 1, 50);
  }

  /** @param rounds what differs is measured again, as a packet may have come late. */
  async #probe(setup: Setup, rounds: number, patienceMs?: number): Promise<Comparison> {
    const probes = setup.probes(this.left);
    const first = await this.left.prober.measure(probes, () => true);
    const second = await this.right.prober.measure(
      setup.probes(this.right),
      (o) => fates(o) === fates(first),
      patienceMs,
    );
    const differences = probes.flatMap((p, i) => {
      const [a, b] = [fate(first[i]!), fate(second[i]!)];
      return a === b ? [] : [`${p.from.name} > ${p.to.name} ${shown(p.frame)}: ${a}; ${b}`];
    });
    if (differences.length > 0 && rounds > 1) {
      await Promise.all([this.left.loader.forgetFlows(), this.right.loader.forgetFlows()]);
      return await this.#probe(setup, rounds - 1);
    }
    return { packets: probes.length, delivered: first.filter((o) => o.at.length > 0).length, differences };
  }
}

async function load(
  { loader }: RenderNetwork,
  chains: readonly ChainText[],
  setup: Setup,
  { family }: NetfilterSettings,
): Promise<void> {
  await loader.reset("ACCEPT");
  await loader.sets(setup.sets);
  const own = chains.filter((c) => c.name.startsWith("cali-"));
  // Chains that stand for rules of a kernel chain: `FORWARD*appends*`.
  const kernel = chains.filter((c) => !own.includes(c)).flatMap((c) =>
    c.lines.map((l) => l.replace(`-A ${c.name}`, `-A ${c.name.split("*")[0]}`))
  );
  await loader.load(family, setup.table, [...setup.stubs, ...own], [
    ...setup.rules[setup.table] ?? [],
    ...kernel,
    ...setup.after,
  ]);
  for (const table of ["raw", "mangle", "nat", "filter"] as const) {
    if (table !== setup.table && setup.rules[table]) await loader.load(family, table, [], setup.rules[table]);
  }
  await loader.forgetFlows();
}

const fates = (all: Observation[]): string => all.map(fate).join("\n");

/** Where it came out, how it looked there and what was answered. */
function fate({ at, as, answer }: Observation): string {
  return at.length === 0
    ? `dropped, answer ${answer}`
    : `at ${at.join()} from ${as!.src} to ${as!.dst} TOS ${as!.tos}, answer ${answer}`;
}
