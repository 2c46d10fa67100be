import type { Direction, TierPolicies, TrafficLimits } from "../desired_policy.ts";
import {
  type Action,
  type Chain,
  clearMark,
  deciding,
  type Decision,
  jump,
  markClear,
  markSet,
  type NetfilterSettings,
  type NetRule,
  rule as line,
  setMark,
} from "./model.ts";
import {
  chainName,
  chainPrefixes,
  groupChainName,
  isInlined,
  logPrefix,
  type PolicyGroup,
  policySuffix,
} from "./names.ts";
import { nflog } from "./policy_chains.ts";

/** A tier of an endpoint, with its policies in groups of one selector. */
export interface GroupedTier extends Pick<TierPolicies, "name" | "defaultAction"> {
  ingress: PolicyGroup[];
  egress: PolicyGroup[];
}

/** What an endpoint's chains are made of. */
export interface EndpointChainsInput {
  interfaceName: string;
  /** False: nothing passes. */
  up: boolean;
  tiers: GroupedTier[];
  profiles: string[];
  limits?: Partial<Record<Direction, TrafficLimits>>;
}

/** The four sorts of endpoint chains; see each function below. */
interface Sort {
  conntrack: boolean;
  failsafe: boolean;
  /** A tier whose policies did not decide ends in its default action. */
  tierEnds: boolean;
  profiles: boolean;
  untracked: boolean;
  /** Without any tier everything passes. */
  openWithoutTiers: boolean;
  /** Tunnelled packets are dropped. */
  fromWorkload: boolean;
  allow: "accept" | "return";
}

const plain: Sort = {
  conntrack: true,
  failsafe: false,
  tierEnds: true,
  profiles: true,
  untracked: false,
  openWithoutTiers: false,
  fromWorkload: false,
  allow: "accept",
};

/** `cali-tw-…` and `cali-fw-…` of a workload. */
export function workloadChains(endpoint: EndpointChainsInput, settings: NetfilterSettings): Chain[] {
  const { to, from } = chainPrefixes.workload;
  const allow = settings.filterAllow;
  return [
    endpointChain(chainName(to, endpoint.interfaceName), "ingress", { ...plain, allow }, endpoint, settings),
    endpointChain(
      chainName(from, endpoint.interfaceName),
      "egress",
      { ...plain, allow, fromWorkload: true },
      endpoint,
      settings,
    ),
  ];
}

/** Filter chains of a host endpoint: `th`, `fh` for the host's own traffic, `thfw`, `fhfw` for what it forwards. */
export function hostFilterChains(
  endpoint: EndpointChainsInput & { forwardTiers: GroupedTier[] },
  settings: NetfilterSettings,
): Chain[] {
  const own: Sort = { ...plain, failsafe: true, allow: settings.filterAllow };
  const forward: Sort = { ...plain, profiles: false, openWithoutTiers: true, allow: settings.filterAllow };
  const { host, hostForward } = chainPrefixes;
  const name = endpoint.interfaceName;
  const forwarded = { ...endpoint, tiers: endpoint.forwardTiers };
  return [
    endpointChain(chainName(host.to, name), "egress", own, endpoint, settings),
    endpointChain(chainName(host.from, name), "ingress", own, endpoint, settings),
    endpointChain(chainName(hostForward.to, name), "egress", forward, forwarded, settings),
    endpointChain(chainName(hostForward.from, name), "ingress", forward, forwarded, settings),
  ];
}

/** Raw chains of a host endpoint: its untracked policies. */
export function hostRawChains(endpoint: EndpointChainsInput, settings: NetfilterSettings): Chain[] {
  const sort: Sort = { ...plain, conntrack: false, failsafe: true, tierEnds: false, profiles: false, untracked: true };
  const { to, from } = chainPrefixes.host;
  return [
    endpointChain(chainName(to, endpoint.interfaceName), "egress", sort, endpoint, settings),
    endpointChain(chainName(from, endpoint.interfaceName), "ingress", sort, endpoint, settings),
  ];
}

/** Mangle chain of a host endpoint: its preDNAT policies. */
export function hostPreDnatChains(endpoint: EndpointChainsInput, settings: NetfilterSettings): Chain[] {
  const sort: Sort = { ...plain, failsafe: true, tierEnds: false, profiles: false, allow: settings.mangleAllow };
  return [
    endpointChain(chainName(chainPrefixes.host.from, endpoint.interfaceName), "ingress", sort, endpoint, settings),
  ];
}

/** Mangle chain of a host endpoint: egress policy again, for packets whose way out only DNAT decided. */
export function hostMangleEgressChains(endpoint: EndpointChainsInput, settings: NetfilterSettings): Chain[] {
  const sort: Sort = { ...plain, failsafe: true, allow: "return" };
  return [endpointChain(chainName(chainPrefixes.host.to, endpoint.interfaceName), "egress", sort, endpoint, settings)];
}

/** Chain of a group of policies with one selector: asked once per endpoint instead of policy by policy. */
export function groupChain(group: PolicyGroup, direction: Direction, settings: NetfilterSettings): Chain {
  const { accept, pass } = settings.marks;
  const verdict = accept | pass;
  const rules: NetRule[] = [];
  for (const [i, policy] of group.policies.filter((p) => !p.staged).entries()) {
    const startsRun = i % 5 === 0;
    if (startsRun && i > 0) {
      rules.push(
        line([{ ...markClear(verdict), not: true } as NetRule["match"][0]], { is: "return" }, "Return on verdict"),
      );
    }
    const target = jump(chainName(chainPrefixes.policy[direction], policySuffix(policy)));
    rules.push(line(startsRun ? [] : [markClear(verdict)], target));
  }
  return { name: groupChainName(group, direction), rules };
}

function endpointChain(
  name: string,
  direction: Direction,
  sort: Sort,
  endpoint: EndpointChainsInput,
  settings: NetfilterSettings,
): Chain {
  const deny: Action = { is: settings.deny };
  if (!endpoint.up) return { name, rules: [line([], deny, "Endpoint admin disabled")] };
  const { accept, pass } = settings.marks;
  const limits = endpoint.limits?.[direction] ?? {};
  const rules = [
    ...packetLimit(limits, direction, settings),
    ...(sort.conntrack ? conntrack(sort, settings) : []),
    ...connectionLimit(limits, direction),
    ...(sort.failsafe ? [line([], jump(direction === "ingress" ? "cali-failsafe-in" : "cali-failsafe-out"))] : []),
    line([], clearMark(accept | pass)),
    ...(sort.fromWorkload ? tunnelled(settings) : []),
  ];
  const said = settings.deny === "drop" ? "Drop" : "Reject";
  for (const tier of endpoint.tiers) rules.push(...tierRules(tier, direction, sort, settings, said));
  if (sort.openWithoutTiers && endpoint.tiers.length === 0) {
    rules.push(line([], setMark(accept), "Allow forwarded traffic by default"));
    rules.push(line([], { is: "return" }, "Return for accepted forward traffic"));
  }
  if (sort.profiles) {
    for (const profile of endpoint.profiles) {
      rules.push(line([], jump(chainName(chainPrefixes.profile[direction], profile))));
      rules.push(line([markSet(accept)], { is: "return" }, "Return if profile accepted"));
    }
    if (settings.flowLogs) rules.push(line([], nflog(direction, logPrefix({ by: "no profile" }, direction))));
    const decision: Decision = { decider: { by: "no profile matched" }, direction, action: "deny" };
    rules.push(deciding(decision, line([], deny, `${said} if no profiles matched`)));
  }
  return { name, rules };
}

function tierRules(
  tier: GroupedTier,
  direction: Direction,
  sort: Sort,
  settings: NetfilterSettings,
  said: string,
): NetRule[] {
  const groups = tier[direction];
  if (groups.length === 0) return [];
  const { accept, pass } = settings.marks;
  const rules = [line([], clearMark(pass), `Start of tier ${tier.name}`)];
  for (const target of groups.flatMap((g) => targets(g, direction))) {
    rules.push(line([markClear(pass)], jump(target)));
    if (sort.untracked) rules.push(line([markSet(accept)], { is: "notrack" }));
    rules.push(line([markSet(accept)], { is: "return" }, "Return if policy accepted"));
  }
  const enforced = groups.some((g) => g.policies.some((p) => !p.staged));
  if (!sort.tierEnds || !enforced || tier.defaultAction === "Pass") return rules;
  if (settings.flowLogs) {
    rules.push(line([markClear(pass)], nflog(direction, logPrefix({ by: "tier", tier: tier.name }, direction))));
  }
  const end = `End of tier ${tier.name}. ${said} if no policies passed packet`;
  const decision: Decision = { decider: { by: "tier", tier: tier.name }, direction, action: "deny" };
  return [...rules, deciding(decision, line([markClear(pass)], { is: settings.deny }, end))];
}

/** The chain of a group, or those of its policies when it has none. */
function targets(group: PolicyGroup, direction: Direction): string[] {
  if (!isInlined(group)) return [groupChainName(group, direction)];
  return group.policies.filter((p) => !p.staged)
    .map((p) => chainName(chainPrefixes.policy[direction], policySuffix(p)));
}

function conntrack(sort: Sort, settings: NetfilterSettings): NetRule[] {
  const known: NetRule["match"] = [{ is: "connection", states: ["RELATED", "ESTABLISHED"] }];
  const rules = sort.allow === "return" ? [line(known, setMark(settings.marks.accept))] : [];
  rules.push(line(known, { is: sort.allow }));
  if (settings.conntrackInvalidCheck) {
    rules.push(line([{ is: "connection", states: ["INVALID"] }], { is: settings.deny }));
  }
  return rules;
}

function packetLimit(limits: TrafficLimits, direction: Direction, settings: NetfilterSettings): NetRule[] {
  if (!limits.packetsPerS) return [];
  const bit = settings.marks.scratch0;
  const words = `${direction} packet rate limit`;
  const clear = () => line([], clearMark(bit), `Clear ${words} mark`);
  const rate = { is: "limit", rate: `${limits.packetsPerS}/sec`, burst: limits.packetBurst ?? 5 } as const;
  return [
    clear(),
    line([rate], setMark(bit), `Mark packets within ${words}`),
    line([{ is: "mark", value: bit, mask: bit, not: true }], { is: "drop" }, `Drop packets over ${words}`),
    clear(),
  ];
}

function connectionLimit(limits: TrafficLimits, direction: Direction): NetRule[] {
  if (!limits.connections) return [];
  const words = `Reject connections over ${direction} connection limit`;
  return [line([], { is: "limit connections", above: limits.connections }, words)];
}

function tunnelled(settings: NetfilterSettings): NetRule[] {
  const said = settings.deny === "drop" ? "Drop" : "Reject";
  const rules: NetRule[] = [];
  const port = { min: settings.vxlanPort, max: settings.vxlanPort };
  if (!settings.allowVxlanFromWorkloads) {
    const match: NetRule["match"] = [{ is: "protocol", protocol: 17 }, {
      is: "ports",
      side: "destination",
      ports: [port],
    }];
    rules.push(line(match, { is: settings.deny }, `${said} VXLAN encapped packets originating in workloads`));
  }
  if (!settings.allowIpipFromWorkloads) {
    const match: NetRule["match"] = [{ is: "protocol", protocol: 4 }];
    rules.push(line(match, { is: settings.deny }, `${said} IPinIP encapped packets originating in workloads`));
  }
  return rules;
}
