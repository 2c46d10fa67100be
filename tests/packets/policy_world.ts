import { applyDelta } from "../../agent/calc/apply_delta.ts";
import { emptyState, type PolicyState } from "../../agent/calc/from_scratch.ts";
import { Graph, type GraphChange } from "../../agent/calc/graph.ts";
import { type Verdict, verdictOf } from "../../agent/calc/verdict.ts";
import { defaultSettings, type NetfilterSettings } from "../../agent/netfilter/model.ts";
import { type FilterFacts, FilterProgram } from "../../agent/netfilter/program.ts";
import type { Resource } from "../../datastore/kind.ts";
import { parseCidr, parseIp } from "../../lib/ip.ts";
import type { Namespace } from "../lab/namespaces.ts";
import { Loader, type Variant } from "./loader.ts";
import { type Frame, protocols } from "./packet.ts";
import { makePodNetwork, type PodNetwork } from "./pod_network.ts";
import { type End, type Observation, type Probe, Prober, shown } from "./prober.ts";

/** This node; endpoints of other nodes only fill sets. */
export const here = "n1";

/** What the oracle says of a packet. */
export interface Expected {
  delivered: boolean;
  /** Who decided, for messages. */
  why: string;
  /** Source address where it comes out, when that matters. */
  source?: string;
  /** What comes back, when that matters; see Observation. */
  answer?: string;
}

/**
 * A host that enforces whatever resources it is given: the calculation, the rendering and the kernel, one after another
 * and incrementally. pods, outside and host are those of PodNetwork.
 */
export class PolicyWorld implements AsyncDisposable {
  readonly #graph = new Graph({ node: here });
  readonly #program = new FilterProgram();
  readonly #stored = new Map<string, Resource>();
  readonly #prober: Prober;
  readonly state: PolicyState = emptyState();

  private constructor(
    readonly net: PodNetwork,
    readonly loader: Loader,
    readonly settings: readonly NetfilterSettings[],
  ) {
    this.#prober = new Prober([...net.pods, net.outside, net.host]);
  }

  /** @param router the calling thread's own namespace. @param differing settings other than the usual ones. */
  static async make(
    router: Namespace,
    pods: number,
    variant: Variant,
    differing: Partial<NetfilterSettings> = {},
  ): Promise<PolicyWorld> {
    const settings = ([4, 6] as const).map((family) => ({ ...defaultSettings(family), ...differing, family }));
    const world = new PolicyWorld(await makePodNetwork(router, pods), new Loader(router, variant), settings);
    await world.#provesTheNetwork();
    world.#program.facts(facts(settings));
    await world.loader.apply(world.#program.flush());
    for (const s of settings) await world.loader.hook(s);
    return world;
  }

  /** Without any rule of ours every packet arrives and is answered: a packet that does not arrive later was denied. */
  async #provesTheNetwork(): Promise<void> {
    await this.loader.reset("ACCEPT");
    const ends = [...this.net.pods, this.net.outside];
    const probes = ends.flatMap((from) =>
      ends.filter((to) => to !== from).flatMap((to) =>
        ([4, 6] as const).flatMap((family) =>
          [protocols.tcp, protocols.udp].map((protocol, i): Probe => ({
            from,
            to,
            frame: { src: from.home[family]!, dst: to.home[family]!, protocol, srcPort: 20000 + i, dstPort: 80 },
          }))
        )
      )
    );
    const arrived = (all: Observation[]) => all.every((o) => o.at.length === 1 && o.answer !== "none");
    const observed = await this.#prober.measure(probes, arrived);
    const lost = probes.filter((_, i) => !arrived([observed[i]!]));
    if (lost.length > 0) throw new Error(`without rules, lost: ${lost.map((p) => shown(p.frame)).join("; ")}`);
    await this.loader.reset("DROP");
  }

  /** Makes these the resources that there are; only what differs from before is told to the calculation. */
  async put(resources: readonly Resource[]): Promise<void> {
    const now = new Map(resources.map((r) => [`${r.kind} ${r.metadata.namespace ?? ""} ${r.metadata.name}`, r]));
    const changes: GraphChange[] = [];
    for (const [key, old] of this.#stored) if (!now.has(key)) changes.push({ delete: old });
    for (const [key, set] of now) {
      if (JSON.stringify(this.#stored.get(key)) !== JSON.stringify(set)) changes.push({ set });
    }
    this.#stored.clear();
    for (const [key, resource] of now) this.#stored.set(key, resource);
    this.#graph.update(changes);
    const delta = this.#graph.flush();
    applyDelta(this.state, delta);
    this.#program.policy(delta);
    await this.loader.apply(this.#program.flush());
    await this.loader.forgetFlows();
  }

  /** What policy says: egress of the source, then ingress of the destination; the outside has no policy. */
  expected({ from, to, frame }: Probe): Expected {
    const out = this.#verdict(from, "egress", frame);
    if (out && out.verdict !== "allow") return { delivered: false, why: `egress of ${from.name}: ${told(out)}` };
    const tunnelled = out && (frame.protocol === 4 || frame.protocol === 17 && frame.dstPort === 4789);
    if (tunnelled) return { delivered: false, why: "workloads may not send tunnelled packets" };
    const into = this.#verdict(to, "ingress", frame);
    const last = into ?? out;
    return {
      delivered: into === undefined || into.verdict === "allow",
      why: last ? `${into ? `ingress of ${to.name}` : `egress of ${from.name}`}: ${told(last)}` : "no policy is asked",
    };
  }

  #verdict(end: End, direction: "ingress" | "egress", frame: Frame): Verdict | undefined {
    const endpoint = [...this.state.endpoints.values()].find((e) =>
      e.interfaceName === end.name.replace("pod", "cali")
    );
    return endpoint && verdictOf(this.state, endpoint, direction, frame);
  }

  /** Sends the probes and tells where each came out: names of places, "" for nowhere. @param wanted what the caller expects. */
  async arrivals(probes: readonly Probe[], wanted: readonly string[]): Promise<string[]> {
    const at = (all: Observation[]) => all.map((o) => o.at.join(" and "));
    return at(await this.#prober.measure(probes, (all) => at(all).every((place, i) => place === wanted[i])));
  }

  /** Sends the probes and compares with what is expected. Answers a sentence for each that went otherwise. */
  async check(probes: readonly Probe[], expected: readonly Expected[]): Promise<string[]> {
    const wrong = (o: Observation, i: number) => difference(probes[i]!, expected[i]!, o);
    const observed = await this.#prober.measure(probes, (all) => all.every((o, i) => wrong(o, i) === undefined));
    return observed.flatMap((o, i) => wrong(o, i) ?? []);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.net[Symbol.asyncDispose]();
  }
}

function difference(probe: Probe, expected: Expected, observed: Observation): string | undefined {
  const { at, answer } = observed;
  const delivered = at.length === 1 && at[0] === probe.to.name;
  const whole = `${probe.from.name} > ${probe.to.name}: ${shown(probe.frame)}`;
  if (delivered !== expected.delivered || !delivered && at.length > 0) {
    const what = at.length > 0 ? `came out at ${at.join(" and ")}` : "did not arrive";
    return `${whole}: ${what}; expected ${expected.delivered ? "to arrive" : "no arrival"}: ${expected.why}`;
  }
  if (expected.source !== undefined && observed.as?.src !== expected.source) {
    return `${whole}: came out from ${observed.as?.src}, expected ${expected.source}`;
  }
  if (expected.answer !== undefined) {
    return answer === expected.answer ? undefined : `${whole}: answer ${answer}, expected ${expected.answer}`;
  }
  const answers = isAnswered(probe.frame);
  if (delivered && answers && answer === "none") return `${whole}: arrived, but its answer did not come back`;
  return !delivered && answer === "echo reply" ? `${whole}: did not arrive, but was answered` : undefined;
}

/** True for what the kernel of the other side answers: nobody listens there, so with a refusal. */
const isAnswered = (f: Frame): boolean =>
  [6, 17, 132, 136].includes(f.protocol) || f.icmp !== undefined && [8, 128].includes(f.icmp.type);

function told(v: Verdict): string {
  const d = v.decider;
  const who = d.by === "rule" ? `rule ${d.index} of ${d.policy}` : d.by === "tier" ? `end of tier ${d.tier}` : d.by;
  return `${v.verdict} by ${who}`;
}

const facts = (settings: readonly NetfilterSettings[]): FilterFacts => ({
  settings: [...settings],
  masqueradePools: [parseCidr("10.65.0.0/16")],
  pools: [parseCidr("10.65.0.0/16"), parseCidr("fd00:65::/64")],
  ownAddresses: [parseIp("192.0.2.1"), parseIp("2001:db8::1")],
  allHosts: [],
  vxlanHosts: [],
  serviceCidrs: [],
  floatingIps: new Map(),
  interfaces: [],
});
