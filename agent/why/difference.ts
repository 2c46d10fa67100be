import { formatIp, type Ip, ipAt, parseIp } from "../../lib/ip.ts";
import type { PolicyInput, ProfileInput, SubjectInput } from "../calc/inputs.ts";
import { numberOf } from "../calc/verdict.ts";
import type { Rule } from "../desired_policy.ts";
import type { Stage } from "./node_walk.ts";
import { type Party, partyName, pathOf, type Question } from "./path.ts";
import type { World } from "./world.ts";

/** Some traffic whose verdict another state of the datastore changes. */
export interface VerdictChange {
  from: string;
  to: string;
  /** `TCP 80`, `UDP other ports`, `ICMP`. */
  traffic: string;
  before: { verdict: "allow" | "deny"; stage: Stage | undefined };
  after: { verdict: "allow" | "deny"; stage: Stage | undefined };
}

/** What comparing two states found. `left` peers were not looked at, because others have the same labels and profiles. */
export interface Difference {
  changes: VerdictChange[];
  /** Questions that were asked of both states. */
  asked: number;
  left: number;
}

/** Packets beyond which one peer stands for all that have the same labels and profiles. */
const mostQuestions = 100_000;

/**
 * Endpoints and hosts whose verdicts two states of a datastore see differently: those that a change touches, with every
 * endpoint, host and kind of outside address, for the ports that the changed rules name and one that they do not.
 */
export function verdictChanges(before: World, after: World): Difference {
  const touched = touchedParties(before, after);
  const traffic = trafficOf(changedRules(before, after), after, failsafePorts(touched, [before, after]));
  let peers = [...partiesIn(after), ...outside(before, after)], left = 0;
  if (2 * touched.length * peers.length * traffic.length > mostQuestions) {
    const kept = [...new Map(peers.map((p) => [likeness(after, p), p])).values()];
    left = peers.length - kept.length;
    peers = kept;
  }
  const changes: VerdictChange[] = [];
  let asked = 0;
  const seen = new Set<string>();
  for (const one of touched) {
    for (const peer of peers) {
      for (const [from, to] of [[one, peer], [peer, one]] as const) {
        const pair = `${partyName(from)} ${partyName(to)}`;
        if (partyName(from) === partyName(to) || seen.has(pair)) continue;
        seen.add(pair);
        for (const { name, ...packet } of traffic) {
          asked++;
          const [a, b] = [before, after].map((world) => ask(world, from, to, packet));
          if (!a || !b || a.verdict === b.verdict) continue;
          changes.push({ from: partyName(from), to: partyName(to), traffic: name, before: a, after: b });
        }
      }
    }
  }
  return { changes, asked, left };
}

/** One sort of packet: `TCP 80`. */
export type Traffic = Pick<Question, "protocol" | "srcPort" | "dstPort" | "icmp" | "family"> & { name: string };

/** The verdict on a flow between two parties. Undefined when an end has no address of the version, or is not there. */
export function ask(
  world: World,
  from: Party,
  to: Party,
  packet: Omit<Traffic, "name">,
): VerdictChange["before"] | undefined {
  const [a, b] = [here(world, from), here(world, to)];
  if (!a || !b || !hasFamily(world, a, packet.family) || !hasFamily(world, b, packet.family)) return undefined;
  const { verdict, stages } = pathOf(world, { from: a, to: b, ...packet });
  return { verdict, stage: stages.at(-1) };
}

/** The same party as this state has it. */
function here(world: World, party: Party): Party | undefined {
  if (party.is !== "workload") return party;
  const endpoint = world.input(party.endpoint.id);
  return endpoint?.is === "workload" ? { is: "workload", endpoint } : undefined;
}

function hasFamily(world: World, party: Party, family: 4 | 6): boolean {
  if (party.is === "outside") return party.address.v === family;
  if (party.is === "workload") return party.endpoint.nets.some((n) => n.v === family);
  return world.node(party.node).addresses.some((a) => a.ip.v === family) ||
    world.subjects.some((s) => s.is === "host" && s.node === party.node && s.nets.some((n) => n.v === family));
}

const workloads = (world: World): SubjectInput[] => world.subjects.filter((s) => s.is === "workload");

/** All workloads, and all hosts. */
export function partiesIn(world: World): Party[] {
  const nodes = new Set([...world.nodes.keys(), ...world.subjects.flatMap((s) => (s.is === "host" ? [s.node!] : []))]);
  return [
    ...workloads(world).map((endpoint): Party => ({ is: "workload", endpoint })),
    ...[...nodes].map((node): Party => ({ is: "host", node })),
  ];
}

/** Endpoints, and hosts, for which something that decides is different. */
function touchedParties(before: World, after: World): Party[] {
  return partiesIn(after).filter((party) => {
    if (party.is === "workload") return decides(before, party.endpoint) !== decides(after, party.endpoint);
    const { node } = party as { node: string };
    const all = (world: World) =>
      [
        ...world.subjects.filter((s) => s.is === "host" && s.node === node).map((s) => decides(world, s)),
        text(world.rules(node, 4).settings),
      ].join("\n");
    return all(before) !== all(after);
  });
}

/** All that an endpoint's verdicts depend on, as text. */
function decides(world: World, { id, node }: SubjectInput): string {
  const { state } = world.rules(node!, 4), endpoint = state.endpoints.get(id);
  if (!endpoint) return "";
  const tiers = [endpoint.tiers, endpoint.forwardTiers, endpoint.preDnatTiers, endpoint.untrackedTiers].flat();
  const policies = tiers.flatMap((t) => [...t.ingress, ...t.egress]).map((p) => state.policies.get(p)!);
  const rules = [...policies, ...endpoint.profiles.map((p) => state.profiles.get(p)!)];
  const sets = rules.flatMap((p) => [...p.ingress, ...p.egress]).flatMap((r) => [r.source, r.destination])
    .flatMap((s) => [...s.sets, ...s.notSets, ...s.namedPortSets, ...s.notNamedPortSets]);
  const members = [...new Set(sets)].sort().map((s) => [s, [...state.sets.get(s)?.members ?? []].sort()]);
  return text([endpoint, rules, members]);
}

const text = (value: unknown): string => JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}` : v));

/** Rules of policies and profiles that are not the same in both. */
function changedRules(before: World, after: World): Rule[] {
  const ids = new Set([...before.byId.keys(), ...after.byId.keys()]);
  return [...ids].flatMap((id) => {
    const [a, b] = [before, after].map((w) => w.input(id)).map((i) =>
      i?.is === "policy" || i?.is === "profile" ? i : undefined
    ) as (PolicyInput | ProfileInput | undefined)[];
    const rulesOf = (i: PolicyInput | ProfileInput | undefined) => (i ? [...i.ingress, ...i.egress] : []);
    return text(before.byId.get(id)) === text(after.byId.get(id)) ? [] : [...rulesOf(a), ...rulesOf(b)];
  });
}

/** Ports of touched hosts that are open whatever policies say: a change of settings may take that away. */
function failsafePorts(touched: readonly Party[], worlds: readonly World[]): Pick<Traffic, "protocol" | "dstPort">[] {
  const nodes = touched.flatMap((p) => (p.is === "host" ? [p.node] : []));
  return worlds.flatMap((world) =>
    nodes.flatMap((node) => {
      const { failsafeIn, failsafeOut } = world.rules(node, 4).settings;
      return [...failsafeIn, ...failsafeOut].map((f) => ({ protocol: numberOf(f.protocol), dstPort: f.port }));
    })
  );
}

/** A port that rules do not name, and what the others are called for people. */
const otherPort = 33333;

/**
 * TCP and UDP to each port that the rules name and to one that they do not, and an echo request, for both versions.
 * @param more ports to ask for beside those.
 */
export function trafficOf(
  rules: readonly Rule[],
  world: World,
  more: readonly Pick<Traffic, "protocol" | "dstPort">[] = [],
): Traffic[] {
  const ports = new Map([[6, new Set<number>([22])], [17, new Set<number>()]]);
  const protocols = (r: Rule) =>
    (r.protocol === undefined ? [6, 17] : [numberOf(r.protocol)]).filter((p) => ports.has(p));
  for (const { protocol, dstPort } of more) ports.get(protocol)?.add(dstPort);
  for (const rule of rules) {
    for (const side of [rule.source, rule.destination]) {
      for (const { min, max } of [...side.ports, ...side.notPorts]) {
        for (const p of protocols(rule)) ports.get(p)!.add(min).add(max);
      }
    }
  }
  for (const { name, protocol, port } of world.subjects.flatMap((s) => s.ports)) {
    const asked = rules.some((r) =>
      [r.source, r.destination].some((s) => [...s.namedPortSets, ...s.notNamedPortSets].length > 0)
    );
    if (asked && name) ports.get(numberOf(protocol))?.add(port);
  }
  const families = [4, 6] as const;
  return families.flatMap((family) => [
    ...[...ports].flatMap(([protocol, all]) =>
      [...all, otherPort].map((dstPort): Traffic => {
        const words = protocol === 6 ? "TCP" : "UDP";
        const name = dstPort === otherPort ? `${words} other ports` : `${words} ${dstPort}`;
        return { name: family === 6 ? `${name} (IPv6)` : name, protocol, srcPort: 49152, dstPort, family };
      })
    ),
    {
      ...{
        name: family === 6 ? "ICMPv6 echo" : "ICMP echo",
        protocol: family === 4 ? 1 : 58,
        srcPort: 0,
        dstPort: 0,
        family,
      },
      icmp: { type: family === 4 ? 8 : 128, code: 0 },
    },
  ]);
}

/** Addresses of nobody: one that no rule names, and the first of each network that a changed rule does. */
function outside(before: World, after: World): Party[] {
  const named = changedRules(before, after).flatMap((r) => [r.source, r.destination])
    .flatMap((s) => [...s.nets, ...s.notNets]).filter((n) => n.len > 0).map((n) => ipAt(n, n.len < 31 ? 1 : 0));
  const all: Ip[] = [parseIp("203.0.113.254"), parseIp("2001:db8:ffff::fe"), ...named];
  const byText = new Map(all.map((ip) => [formatIp(ip), ip]));
  const isFree = (ip: Ip) => [before, after].every((w) => !w.workloadAt(ip) && !w.nodeAt(ip));
  return [...byText.values()].filter(isFree).map((address): Party => ({ is: "outside", address }));
}

/** What parties have in common that policy cannot tell apart; hosts are each alone. */
export function likeness(world: World, party: Party): string {
  if (party.is !== "workload") return partyName(party);
  const { endpoint } = party;
  return text([[...world.labelsOf(endpoint)].sort(), endpoint.parents, endpoint.ports, endpoint.nets.map((n) => n.v)]);
}
