import { type Cidr, formatCidr } from "../../lib/ip.ts";
import { numberOf } from "../calc/verdict.ts";
import type {
  ActivePolicy,
  ActiveProfile,
  Direction,
  PolicyId,
  PortRange,
  Rule,
  SideMatch,
} from "../desired_policy.ts";
import {
  type Action,
  type Chain,
  clearMark,
  deciding,
  type Decision,
  markClear,
  markSet,
  type Match,
  type NetfilterSettings,
  type NetRule,
  rule as line,
  setMark,
  type Side,
} from "./model.ts";
import { chainName, chainPrefixes, logPrefix, policySuffix } from "./names.ts";

/** Slots of one multiport match: a port takes one, a range two. */
const portSlots = 15;

/** Whose rules a chain holds, for names, comments and log lines. */
interface Owner {
  is: "policy" | "profile";
  policy: PolicyId;
  /** `NetworkPolicy demo/web`. */
  title: string;
  /** What its chain and NFLOG names are made of. */
  id: string;
  tier: string;
  shortKind: string;
  namespace: string;
  name: string;
}

/** Both chains of a policy; none for a staged one. */
export function policyChains(policy: ActivePolicy, settings: NetfilterSettings): Chain[] {
  if (policy.staged) return [];
  const id = policySuffix(policy);
  const path = policy.namespace ? `${policy.namespace}/${policy.name}` : policy.name;
  const owner: Owner = {
    is: "policy",
    policy: policy.id,
    title: `${policy.kind} ${path}`,
    id,
    tier: policy.tier,
    shortKind: id.split("/", 1)[0]!,
    namespace: policy.namespace ?? "",
    name: policy.name,
  };
  return bothChains(owner, chainPrefixes.policy, policy, {
    ...settings,
    flowLogs: settings.flowLogs && !policy.doNotTrack,
  });
}

/** Both chains of a profile. */
export function profileChains(profile: ActiveProfile, settings: NetfilterSettings): Chain[] {
  const { name } = profile;
  const owner: Owner = {
    is: "profile",
    policy: `Profile:${name}`,
    title: `Profile ${name}`,
    id: name,
    tier: "",
    shortKind: "pro",
    namespace: "",
    name,
  };
  return bothChains(owner, chainPrefixes.profile, profile, settings);
}

function bothChains(
  owner: Owner,
  prefixes: Record<Direction, string>,
  rules: Record<Direction, Rule[]>,
  settings: NetfilterSettings,
): Chain[] {
  return (["ingress", "egress"] as const).map((direction) => {
    const lines = rules[direction].flatMap((r, i) => ruleLines(r, i, direction, owner, settings));
    // A return at the end of a chain says what happens anyway.
    while (lines.at(-1)?.action?.is === "return") lines.pop();
    if (lines.length === 0) lines.push(line([]));
    const [first] = lines;
    first!.comments = [...first!.comments ?? [], `${owner.title} ${direction}`];
    return { name: chainName(prefixes[direction], owner.id), rules: lines };
  });
}

/** The lines of one rule; none when it says nothing about this family. */
function ruleLines(r: Rule, index: number, direction: Direction, owner: Owner, settings: NetfilterSettings): NetRule[] {
  const said = r.never || !isForFamily(r, settings) ? undefined : withOneProtocol(r, settings);
  if (!said) return [];
  const source = ofFamily(r.source, settings), destination = ofFamily(r.destination, settings);
  if (!source || !destination) return [];
  const plan = new Blocks(said, source, destination, settings);
  const lines = [...plan.lines, ...verdictLines(r, plan.rest, index, direction, owner, settings)];
  const annotations = Object.entries(r.annotations ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  if (annotations.length > 0) { for (const l of lines) l.comments = annotations.map(([k, v]) => `${k}=${v}`); }
  return lines;
}

function isForFamily(r: Rule, { family }: NetfilterSettings): boolean {
  const version = r.ipVersion ?? (r.protocol === "icmp" ? 4 : r.protocol === "icmpv6" ? 6 : family);
  return version === family;
}

/**
 * The rule as iptables can say it, with one protocol match and ICMP types only beside the ICMP of the family; undefined
 * when it can match nothing.
 * DIFFERS: Felix writes such rules as they are, iptables-restore refuses the whole table, and Felix restarts for ever.
 */
function withOneProtocol(r: Rule, { family }: NetfilterSettings): Rule | undefined {
  const icmp = family === 4 ? 1 : 58;
  const said = { ...r };
  if (r.icmp) said.protocol ??= icmp;
  const number = said.protocol === undefined ? undefined : numberOf(said.protocol);
  if (r.icmp && number !== icmp) return undefined;
  if (number !== undefined && r.notProtocol !== undefined) {
    if (numberOf(r.notProtocol) === number) return undefined;
    delete said.notProtocol;
  }
  if (r.notIcmp && number !== undefined && number !== icmp) delete said.notIcmp;
  return said;
}

/** The side with networks of this family only; undefined when that empties a list, or nothing can match. */
function ofFamily(side: SideMatch, { family }: NetfilterSettings): SideMatch | undefined {
  const nets = side.nets.filter((n) => n.v === family), notNets = side.notNets.filter((n) => n.v === family);
  if (side.nets.length > 0 && nets.length === 0 || side.notNets.length > 0 && notNets.length === 0) return undefined;
  if (notNets.some((n) => n.len === 0)) return undefined;
  return { ...side, nets, notNets };
}

/**
 * Lists of alternatives become blocks: lines that note in the mark whether one of them matched. What needs no block is
 * left for the last line. Source: Calico's felix/rules/policy.go.
 */
class Blocks {
  readonly lines: NetRule[] = [];
  readonly rest: Match[];
  #positive = 0;

  constructor(r: Rule, source: SideMatch, destination: SideMatch, private readonly settings: NetfilterSettings) {
    const protocol: Match[] = r.protocol === undefined ? [] : [{ is: "protocol", protocol: r.protocol }];
    const rest = { source: { ...source }, destination: { ...destination } };
    for (const side of ["source", "destination"] as const) this.#portBlock(rest[side], side, protocol);
    for (const side of ["source", "destination"] as const) {
      if (rest[side].nets.length > 1) {
        this.#alternatives(rest[side].nets.map((net) => [netMatch(side, net)]));
        rest[side].nets = [];
      }
    }
    for (const side of ["source", "destination"] as const) {
      if (rest[side].nets.length + rest[side].notNets.length > 1) {
        this.#exceptions(rest[side].notNets.map((net) => [netMatch(side, net)]));
        rest[side].notNets = [];
      }
    }
    if (r.notIcmp && r.protocol === undefined) {
      // Any protocol: `! --icmp-type` would need ICMP beside it.
      const icmp = settings.family === 4 ? 1 : 58;
      this.#exceptions([[{ is: "protocol", protocol: icmp }, { is: "icmp", ...r.notIcmp }]]);
      r = { ...r, notIcmp: undefined };
    }
    this.rest = [...protocol, ...restMatches(r, rest.source, rest.destination)];
    if (this.lines.length > 0) this.rest.push(markSet(settings.marks.scratch0));
  }

  #portBlock(side: SideMatch, name: Side, protocol: Match[]): void {
    const groups = portGroups(side.ports);
    if (groups.length + side.namedPortSets.length <= 1) return;
    this.#alternatives([
      ...groups.map((ports): Match[] => [...protocol, { is: "ports", side: name, ports }]),
      ...side.namedPortSets.map((set): Match[] => [{ is: "set", side: name, set, port: true }]),
    ]);
    side.ports = [];
    side.namedPortSets = [];
  }

  /** Scratch0 stays set only when one of these holds. */
  #alternatives(alternatives: Match[][]): void {
    const { scratch0, scratch1 } = this.settings.marks;
    this.#begin(0);
    const first = this.#positive++ === 0 && this.lines.length === 1;
    // DIFFERS: Felix does not clear this bit before a third block, which then always holds.
    if (!first && this.#positive > 2) this.lines.push(line([], clearMark(scratch1)));
    const bit = first ? scratch0 : scratch1;
    for (const match of alternatives) this.lines.push(line(match, setMark(bit)));
    if (!first) this.lines.push(line([markClear(scratch1)], clearMark(scratch0)));
  }

  /** Scratch0 is cleared when one of these holds. */
  #exceptions(exceptions: Match[][]): void {
    this.#begin(this.settings.marks.scratch0);
    for (const match of exceptions) this.lines.push(line(match, clearMark(this.settings.marks.scratch0)));
  }

  #begin(value: number): void {
    const { scratch0, scratch1 } = this.settings.marks;
    if (this.lines.length === 0) this.lines.push(line([], { is: "mark", value, mask: scratch0 | scratch1 }));
  }
}

/** Ports in groups that fit one match. */
export function portGroups(ports: PortRange[]): PortRange[][] {
  const groups: PortRange[][] = [];
  let free = 0;
  for (const port of ports) {
    const slots = port.min === port.max ? 1 : 2;
    if (slots > free) {
      groups.push([]);
      free = portSlots;
    }
    groups.at(-1)!.push(port);
    free -= slots;
  }
  return groups;
}

function restMatches(r: Rule, source: SideMatch, destination: SideMatch): Match[] {
  const matches = [...positive("source", source), ...positive("destination", destination)];
  if (r.icmp) matches.push({ is: "icmp", ...r.icmp });
  if (r.notProtocol !== undefined) matches.push({ is: "protocol", protocol: r.notProtocol, not: true });
  matches.push(...negative("source", source), ...negative("destination", destination));
  if (r.notIcmp) matches.push({ is: "icmp", ...r.notIcmp, not: true });
  return matches;
}

const netMatch = (side: Side, net: Cidr, not?: true): Match => ({
  is: "net",
  side,
  net: formatCidr(net),
  ...(not && { not }),
});

function positive(side: Side, s: SideMatch): Match[] {
  return [
    ...s.nets.map((net) => netMatch(side, net)),
    ...s.sets.map((set): Match => ({ is: "set", side, set })),
    ...s.serviceSets.map((set): Match => ({ is: "set", side, set, port: true })),
    ...portGroups(s.ports).map((ports): Match => ({ is: "ports", side, ports })),
    ...s.namedPortSets.map((set): Match => ({ is: "set", side, set, port: true })),
  ];
}

function negative(side: Side, s: SideMatch): Match[] {
  return [
    ...s.notNets.map((net) => netMatch(side, net, true)),
    ...s.notSets.map((set): Match => ({ is: "set", side, set, not: true })),
    ...portGroups(s.notPorts).map((ports): Match => ({ is: "ports", side, ports, not: true })),
    ...s.notNamedPortSets.map((set): Match => ({ is: "set", side, set, port: true, not: true })),
  ];
}

function verdictLines(
  r: Rule,
  match: Match[],
  index: number,
  direction: Direction,
  owner: Owner,
  settings: NetfilterSettings,
): NetRule[] {
  const decider = { by: "rule", policy: owner.policy, tier: owner.tier || undefined, index } as const;
  const decision: Decision = { decider, direction, action: r.action };
  if (r.action === "log") {
    const limit: Match[] = settings.logLimit ? [{ is: "limit", ...settings.logLimit }] : [];
    const log: Action = { is: "log", prefix: `${logText(settings.logPrefix, owner)}: ` };
    return [deciding(decision, line([...limit, ...match], log))];
  }
  const bit = { allow: settings.marks.accept, pass: settings.marks.pass, deny: settings.marks.drop }[r.action];
  const end: Action = { is: r.action === "deny" ? settings.deny : "return" };
  const lines = [deciding(decision, line(match, setMark(bit)))];
  if (settings.flowLogs) {
    const prefix = logPrefix({ by: "rule", action: r.action, owner: owner.is, index, id: owner.id }, direction);
    lines.push(line([markSet(bit)], nflog(direction, prefix)));
  }
  lines.push(deciding(decision, line([markSet(bit)], end)));
  return lines;
}

/** NFLOG with the group of the direction. */
export const nflog = (direction: Direction, prefix: string): Action => ({
  is: "nflog",
  group: direction === "ingress" ? 1 : 2,
  prefix,
});

/** `%t` tier, `%k` kind, `%n` name, `%p` namespace and name. */
function logText(pattern: string, owner: Owner): string {
  const path = owner.namespace ? `${owner.namespace}/${owner.name}` : owner.name;
  const words: Record<string, string> = { "%t": owner.tier, "%k": owner.shortKind, "%n": owner.name, "%p": path };
  return pattern.replaceAll(/%[tknp]/g, (word) => words[word]!);
}
