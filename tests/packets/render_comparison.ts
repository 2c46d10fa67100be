import type { NetfilterSettings } from "../../agent/netfilter/model.ts";
import { discoveryTypes } from "../../agent/netfilter/static_chains.ts";
import type { ChainText } from "./loader.ts";
import { hasPorts, protocols } from "./packet.ts";
import { type Observation, type Probe, shown } from "./prober.ts";
import type { RenderNetwork } from "./render_network.ts";
import type { Setup } from "./render_setup.ts";

/** What comparing two sets of chains found. */
export interface Comparison {
  packets: number;
  delivered: number;
  /** A sentence for each packet that fared differently. */
  differences: string[];
  /** Packets that Felix's chains drop and ours let pass on purpose. */
  better: number;
}

const mostTries = 5;

/** Loads two sets of chains into two networks that are alike, sends the same packets into both, and compares their fates. */
export class RenderComparison {
  constructor(private readonly left: RenderNetwork, private readonly right: RenderNetwork) {}

  async compare(
    left: readonly ChainText[],
    right: readonly ChainText[],
    setup: Setup,
    settings: NetfilterSettings,
  ): Promise<Comparison> {
    const fresh = () => Promise.all([load(this.left, left, setup, settings), load(this.right, right, setup, settings)]);
    // A packet may have come late, or time enough have passed for one more under a limit: what differs by itself differs
    // every time.
    for (let tries = 1;; tries++) {
      await fresh();
      const found = await this.#probe(setup, settings);
      if (found.differences.length === 0 || tries === mostTries) return found;
    }
  }

  /** Puts chains that should differ into the right network and compares again, in less time; the left one stays. */
  async again(right: readonly ChainText[], setup: Setup, settings: NetfilterSettings): Promise<Comparison> {
    await Promise.all([this.left.loader.forgetFlows(), load(this.right, right, setup, settings)]);
    return await this.#probe(setup, settings, 50);
  }

  async #probe(setup: Setup, s: NetfilterSettings, patienceMs?: number): Promise<Comparison> {
    const probes = setup.probes(this.left);
    const fates = (all: Observation[]) => all.map((o, i) => fate(o, probes[i]!, s)).join("\n");
    const first = await this.left.prober.measure(probes, () => true);
    const second = await this.right.prober.measure(
      setup.probes(this.right),
      (o) => fates(o) === fates(first),
      patienceMs,
    );
    let better = 0;
    const differences = probes.flatMap((p, i) => {
      const [a, b] = [fate(first[i]!, p, s), fate(second[i]!, p, s)];
      if (a !== b && isDiscovery(p) && first[i]!.at.length === 0 && second[i]!.at.length === 1) {
        better++;
        return [];
      }
      return a === b ? [] : [`${p.from.name} > ${p.to.name} ${shown(p.frame)}: ${a}; ${b}`];
    });
    return { packets: probes.length, delivered: first.filter((o) => o.at.length > 0).length, differences, better };
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

/** Neighbour discovery that the host sends or receives: its failsafe ports depend on it. */
const isDiscovery = ({ from, to, frame }: Probe): boolean =>
  frame.protocol === protocols.icmpv6 && discoveryTypes.includes(frame.icmp!.type) &&
  [from.name, to.name].includes("host");

/** Where it came out, how it looked there and what was answered. A source port that NAT chose is not told, only whether. */
function fate({ at, as, answer }: Observation, { frame }: Probe, { natPorts }: NetfilterSettings): string {
  if (at.length === 0) return `dropped, answer ${answer}`;
  const { src, dst, tos, srcPort } = as!;
  const among = natPorts && hasPorts(frame.protocol) && srcPort >= natPorts.min && srcPort <= natPorts.max
    ? " within the range"
    : "";
  const port = at[0] === "host" || srcPort === frame.srcPort ? "kept" : `changed${among}`;
  return `at ${at.join()} from ${src}, port ${port}, to ${dst} TOS ${tos}, answer ${answer}`;
}
