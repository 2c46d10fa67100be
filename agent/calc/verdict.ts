import { type Cidr, contains, formatIp, type Ip, tryParseCidr } from "../../lib/ip.ts";
import type {
  Direction,
  PolicedEndpoint,
  PolicyId,
  PortRange,
  Protocol,
  Rule,
  SetId,
  SideMatch,
  TierPolicies,
} from "../desired_policy.ts";
import type { PolicyState } from "./from_scratch.ts";

/** The first packet of a flow. Ports are 0 where the protocol has none. */
export interface Packet {
  src: Ip;
  dst: Ip;
  /** IP protocol number. */
  protocol: number;
  srcPort: number;
  dstPort: number;
  icmp?: { type: number; code: number };
  /** Application layer, when a proxy asks: rules with `http` then look at it. */
  http?: { method: string; path: string };
}

/** Which of an endpoint's chains the packet goes through; workloads have `normal` only. */
export type Stage = "normal" | "forward" | "preDNAT" | "untracked";

/** Who decided. */
export type Decider =
  | { by: "rule"; policy: PolicyId; tier: string | undefined; index: number }
  /** No rule of the tier's policies matched. */
  | { by: "tier"; tier: string }
  | { by: "no profile matched" }
  | { by: "no forward policy" }
  | { by: "forward policies did not decide" }
  /** Untracked and preDNAT policies leave the rest to the next table. */
  | { by: "no match: on to the next table" };

/** What becomes of the packet here; `continue`: this stage does not decide. */
export interface Verdict {
  verdict: "allow" | "deny" | "continue";
  decider: Decider;
  /** Log rules that matched on the way: policy and rule number. */
  logged: { policy: PolicyId; index: number }[];
}

/**
 * Holds a packet against an endpoint's policy, as the kernel's rules do. Established flows and failsafe ports are not
 * looked at: they never get here.
 * Source: Calico's felix/rules (endpoints.go, policy.go).
 */
export function verdictOf(
  state: PolicyState,
  endpoint: PolicedEndpoint,
  direction: Direction,
  packet: Packet,
  stage: Stage = "normal",
): Verdict {
  const walk = new Walk(state, packet);
  const tiers = tiersOf(endpoint, stage);
  for (const tier of tiers) {
    const decided = walk.tier(tier, direction);
    if (decided) return decided;
  }
  if (stage === "untracked" || stage === "preDNAT") {
    return walk.verdict("continue", { by: "no match: on to the next table" });
  }
  if (stage === "forward") {
    return tiers.length === 0
      ? walk.verdict("allow", { by: "no forward policy" })
      : walk.verdict("continue", { by: "forward policies did not decide" });
  }
  return walk.profiles(endpoint.profiles, direction);
}

function tiersOf(endpoint: PolicedEndpoint, stage: Stage): TierPolicies[] {
  const lists = {
    normal: endpoint.tiers,
    forward: endpoint.forwardTiers,
    preDNAT: endpoint.preDnatTiers,
    untracked: endpoint.untrackedTiers,
  };
  return lists[stage];
}

class Walk {
  #logged: Verdict["logged"] = [];
  constructor(private readonly state: PolicyState, private readonly packet: Packet) {}

  verdict(verdict: Verdict["verdict"], decider: Decider): Verdict {
    return { verdict, decider, logged: this.#logged };
  }

  /** Undefined when the next tier is to be asked. */
  tier(tier: TierPolicies, direction: Direction): Verdict | undefined {
    let enforced = false;
    for (const id of tier[direction]) {
      const policy = this.state.policies.get(id)!;
      if (policy.staged) continue;
      enforced = true;
      const decided = this.#rules(id, tier.name, policy[direction]);
      if (decided === "pass") return undefined;
      if (decided) return decided;
    }
    if (!enforced || tier.defaultAction === "Pass") return undefined;
    return this.verdict("deny", { by: "tier", tier: tier.name });
  }

  profiles(names: string[], direction: Direction): Verdict {
    for (const name of names) {
      const decided = this.#rules(`Profile:${name}`, undefined, this.state.profiles.get(name)![direction]);
      if (decided && decided !== "pass") return decided;
    }
    return this.verdict("deny", { by: "no profile matched" });
  }

  #rules(policy: PolicyId, tier: string | undefined, rules: Rule[]): Verdict | "pass" | undefined {
    for (const [index, rule] of rules.entries()) {
      if (!ruleMatches(rule, this.packet, (id) => this.state.sets.get(id)?.members)) continue;
      if (rule.action === "log") this.#logged.push({ policy, index });
      else if (rule.action === "pass") return "pass";
      else return this.verdict(rule.action, { by: "rule", policy, tier, index });
    }
    return undefined;
  }
}

/** True when every part of the rule holds for the packet. An unknown set is empty. */
export function ruleMatches(rule: Rule, packet: Packet, members: (id: SetId) => Set<string> | undefined): boolean {
  if (rule.never) return false;
  const version = packet.src.v;
  if (rule.ipVersion !== undefined && rule.ipVersion !== version) return false;
  if (rule.protocol === "icmp" && version !== 4 || rule.protocol === "icmpv6" && version !== 6) return false;
  if (rule.protocol !== undefined && numberOf(rule.protocol) !== packet.protocol) return false;
  if (rule.notProtocol !== undefined && numberOf(rule.notProtocol) === packet.protocol) return false;
  if (rule.icmp && !sameIcmp(rule.icmp, packet)) return false;
  if (rule.notIcmp && sameIcmp(rule.notIcmp, packet)) return false;
  if (rule.http && packet.http && !httpMatches(rule.http, packet.http)) return false;
  return sideMatches(rule.source, packet.src, packet.srcPort, packet.protocol, members) &&
    sideMatches(rule.destination, packet.dst, packet.dstPort, packet.protocol, members);
}

function sideMatches(
  side: SideMatch,
  address: Ip,
  port: number,
  protocol: number,
  members: (id: SetId) => Set<string> | undefined,
): boolean {
  const inSet = (id: SetId) => holdsAddress(members(id), address);
  const inPortSet = (id: SetId) => members(id)?.has(`${formatIp(address)},${protocolName(protocol)}:${port}`) ?? false;
  // Networks of the other version go first; a list that this empties makes the rule say nothing about this version.
  const nets = side.nets.filter((n) => n.v === address.v);
  const notNets = side.notNets.filter((n) => n.v === address.v);
  if (side.nets.length > 0 && nets.length === 0 || side.notNets.length > 0 && notNets.length === 0) return false;
  if (nets.length > 0 && !nets.some((n) => contains(n, address))) return false;
  if (notNets.some((n) => contains(n, address))) return false;
  if (!side.sets.every(inSet) || side.notSets.some(inSet) || !side.serviceSets.every(inPortSet)) return false;
  const asksPort = side.ports.length + side.namedPortSets.length > 0;
  if (asksPort && !(hasPort(protocol) && inRange(side.ports, port)) && !side.namedPortSets.some(inPortSet)) {
    return false;
  }
  return !(hasPort(protocol) && inRange(side.notPorts, port)) && !side.notNamedPortSets.some(inPortSet);
}

function holdsAddress(members: Set<string> | undefined, address: Ip): boolean {
  if (!members) return false;
  if (members.has(`${formatIp(address)}/${address.v === 4 ? 32 : 128}`)) return true;
  for (const member of members) {
    const net: Cidr | undefined = tryParseCidr(member);
    if (net && contains(net, address)) return true;
  }
  return false;
}

const inRange = (ranges: PortRange[], port: number): boolean => ranges.some((r) => port >= r.min && port <= r.max);
const hasPort = (protocol: number): boolean =>
  protocol === 6 || protocol === 17 || protocol === 132 || protocol === 136;

const protocolNumbers: Record<string, number> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132, udplite: 136 };

/** The protocol's number. */
export const numberOf = (protocol: Protocol): number =>
  typeof protocol === "number" ? protocol : protocolNumbers[protocol]!;

function protocolName(number: number): string {
  return Object.keys(protocolNumbers).find((name) => protocolNumbers[name] === number) ?? String(number);
}

function sameIcmp(match: { type: number; code?: number }, packet: Packet): boolean {
  return packet.icmp !== undefined && packet.icmp.type === match.type &&
    (match.code === undefined || packet.icmp.code === match.code);
}

/** Method and path; a list that is empty or absent asks nothing. Source: Calico's app-policy/checker/match.go. */
function httpMatches(match: NonNullable<Rule["http"]>, request: { method: string; path: string }): boolean {
  const methods = match.methods ?? [];
  if (methods.length > 0 && request.method !== "" && !methods.includes("*") && !methods.includes(request.method)) {
    return false;
  }
  if (!match.paths?.length || request.path === "") return true;
  const path = normalPath(request.path);
  return path !== undefined && match.paths.some((p) => {
    const exact = p.exact && normalPath(p.exact), prefix = p.prefix && normalPath(p.prefix);
    if (exact) return path === exact;
    return prefix ? prefix === "/" || path === prefix || path.startsWith(prefix.replace(/\/$/, "") + "/") : false;
  });
}

/** The path without query, percent-coding, parameters and dot segments; undefined when it cannot be trusted. */
function normalPath(path: string): string | undefined {
  let text: string;
  try {
    text = decodeURIComponent(path.split(/[?#]/, 1)[0]!);
  } catch {
    return undefined;
  }
  if (/%2e|%2f|%5c/i.test(text) || text.includes("\0")) return undefined;
  text = text.replaceAll("\\", "/");
  if (!text.startsWith("/")) return undefined;
  const out: string[] = [];
  const segments = text.split("/").map((s) => s.split(";", 1)[0]!);
  for (const segment of segments) {
    if (segment === "..") out.pop();
    else if (segment !== "" && segment !== ".") out.push(segment);
  }
  return "/" + out.join("/");
}
