import { ask, likeness, partiesIn, type Traffic, trafficOf } from "./difference.ts";
import { type Party, partyName } from "./path.ts";
import type { World } from "./world.ts";

/** Endpoints that policy cannot tell apart, or a host. */
export interface Group {
  /** The name of one of them. */
  name: string;
  /** How many they are. */
  size: number;
}

/** What a group may send to another. */
export interface Reach {
  /** `all`, `part` or `none` of the traffic that was asked for. */
  is: "all" | "part" | "none";
  /** Names of what passes: `TCP 80`. */
  allowed: string[];
  denied: string[];
}

/** Who reaches whom: `reach[from][to]`; undefined for a group with itself when it has one member. */
export interface ReachTable {
  groups: Group[];
  reach: (Reach | undefined)[][];
  /** Groups that were left out. */
  left: number;
}

/** Packets that are asked for one table at most. */
const mostQuestions = 60_000;

/**
 * Which traffic passes between all groups of endpoints and all hosts, by the policies of a datastore: each port that a rule
 * names, and one that none does.
 * @param most groups that are looked at.
 */
export function reachTable(world: World, most: number): ReachTable {
  const alike = new Map<string, Party[]>();
  for (const party of partiesIn(world)) {
    const key = likeness(world, party), known = alike.get(key);
    if (known) known.push(party);
    else alike.set(key, [party]);
  }
  const rules = [...world.byId.keys()].map((id) => world.input(id))
    .flatMap((i) => (i?.is === "policy" || i?.is === "profile" ? [...i.ingress, ...i.egress] : []));
  const traffic = trafficOf(rules, world);
  const all = [...alike.values()].sort((a, b) => (partyName(a[0]!) < partyName(b[0]!) ? -1 : 1));
  const kept = all.slice(0, Math.min(most, Math.floor(Math.sqrt(mostQuestions / traffic.length))));
  return {
    groups: kept.map((g) => ({ name: shortName(world, g[0]!), size: g.length })),
    reach: kept.map((from) => kept.map((to) => reachOf(world, from, to, traffic))),
    left: all.length - kept.length,
  };
}

/** `shop/web-1` for a pod, else the party's own name. */
function shortName(world: World, party: Party): string {
  if (party.is !== "workload") return partyName(party);
  const { metadata, spec } = world.byId.get(party.endpoint.id)!;
  return `${metadata.namespace}/${spec.pod || spec.workload || metadata.name}`;
}

function reachOf(world: World, from: Party[], to: Party[], traffic: readonly Traffic[]): Reach | undefined {
  const target = from === to ? to[1] : to[0];
  if (!target) return undefined;
  const allowed: string[] = [], denied: string[] = [];
  for (const { name, ...packet } of traffic) {
    const answer = ask(world, from[0]!, target, packet);
    if (answer) (answer.verdict === "allow" ? allowed : denied).push(name);
  }
  if (allowed.length + denied.length === 0) return undefined;
  return { is: denied.length === 0 ? "all" : allowed.length === 0 ? "none" : "part", allowed, denied };
}
