import { applyDelta } from "../../../agent/calc/apply_delta.ts";
import { emptyState, type PolicyState } from "../../../agent/calc/from_scratch.ts";
import { Graph } from "../../../agent/calc/graph.ts";
import type {
  ActivePolicy,
  PolicedEndpoint,
  Protocol,
  Rule,
  SideMatch,
  TierPolicies,
} from "../../../agent/desired_policy.ts";
import type { Resource } from "../../../datastore/kind.ts";
import { formatCidr, formatIp } from "../../../lib/ip.ts";
import { sameJson } from "../../../lib/json64.ts";
import type { Case, CaseRunner } from "../case_runner.ts";

interface Step {
  updates: { delete?: boolean; resource: Resource }[];
}

/** calc.json: batches of updates in, the state after the last one out, in Calico's protobuf JSON. */
export const runner: CaseRunner = {
  run(one: Case) {
    const input = one.input as { host: string; steps: Step[]; config?: { NFTablesMode?: string } };
    const nftables = (input.config?.NFTablesMode ?? "Disabled") !== "Disabled";
    const graph = new Graph({ node: input.host, withoutCoveredMembers: nftables });
    const state = emptyState();
    for (const step of input.steps) {
      graph.update(step.updates.map((u) => (u.delete ? { delete: u.resource } : { set: u.resource })));
      applyDelta(state, graph.flush());
    }
    const expected = (one.expect as { state: unknown }).state;
    const got = shown(state);
    if (sameJson(got, withoutNulls(expected))) return { is: "passed" };
    return {
      is: "failed",
      difference: `expected ${JSON.stringify(withoutNulls(expected), null, 1)}\ngot ${JSON.stringify(got, null, 1)}`,
    };
  },
};

/** null and an empty list say the same. */
function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).filter(([k, v]) => v !== null && !(Array.isArray(v) && v.length === 0 && k !== "members"))
      .map(([k, v]) => [k, withoutNulls(v)]),
  );
}

function shown(state: PolicyState): unknown {
  return withoutNulls({
    endpoints: Object.fromEntries([...state.endpoints.values()].map((e) => [nameOf(e.id), endpoint(e)])),
    ipSets: Object.fromEntries(
      [...state.sets].map((
        [id, s],
      ) => [id, { type: s.type === "net" ? "NET" : "IP_AND_PORT", members: [...s.members].sort() }]),
    ),
    policies: Object.fromEntries([...state.policies.values()].map((p) => [p.id, policy(p)])),
    profiles: Object.fromEntries([...state.profiles.values()].map((p) => [p.name, rules(p.ingress, p.egress)])),
  });
}

/** `shop/web-0` of a workload, the name of a host endpoint. */
function nameOf(id: string): string {
  const name = id.slice(id.indexOf(":") + 1);
  if (!id.startsWith("WorkloadEndpoint:")) return name;
  const [namespace, endpoint] = name.split("/") as [string, string];
  const segments = endpoint.replaceAll("--", "\0").split("-").map((s) => s.replaceAll("\0", "-"));
  return `${namespace}/${segments[2]}`;
}

function endpoint(e: PolicedEndpoint): unknown {
  const family = (v: number) => e.nets.filter((n) => n.v === v);
  const tier = (t: TierPolicies) => ({
    name: t.name,
    defaultAction: t.defaultAction,
    ingress: t.ingress,
    egress: t.egress,
  });
  const addresses = e.kind === "workload"
    ? { ipv4: family(4).map(formatCidr), ipv6: family(6).map(formatCidr) }
    : { expectedIPv4: family(4).map(formatIp), expectedIPv6: family(6).map(formatIp) };
  return {
    type: e.kind,
    interface: e.interfaceName,
    ...addresses,
    profiles: e.profiles,
    tiers: e.tiers.map(tier),
    untrackedTiers: e.untrackedTiers.map(tier),
    preDnatTiers: e.preDnatTiers.map(tier),
    ...(e.forwardTiers.length && { forwardTiers: e.forwardTiers.map(tier) }),
  };
}

function policy(p: ActivePolicy): unknown {
  return {
    ...rules(p.ingress, p.egress),
    originalSelector: p.selector,
    tier: p.tier,
    namespace: p.namespace ?? null,
    perfHints: p.performanceHints,
    untracked: p.doNotTrack || null,
    preDnat: p.preDnat || null,
  };
}

const rules = (ingress: Rule[], egress: Rule[]) => ({
  inboundRules: ingress.map(rule),
  outboundRules: egress.map(rule),
});

const protocol = (
  p: Protocol | undefined,
) => (p === undefined ? null : typeof p === "number" ? { number: p } : { name: p });

function rule(r: Rule): unknown {
  return {
    action: r.action === "pass" ? "next-tier" : r.action,
    protocol: protocol(r.protocol),
    notProtocol: protocol(r.notProtocol),
    ipVersion: version(r),
    ...icmp(r.icmp, "icmpType", "icmpTypeCode"),
    ...icmp(r.notIcmp, "notIcmpType", "notIcmpTypeCode"),
    httpMatch: r.http ?? null,
    metadata: r.annotations ? { annotations: r.annotations } : null,
    ...side(r.source, r.words.source, "Src", "src"),
    ...side(r.destination, r.words.destination, "Dst", "dst"),
  };
}

/** The version that the rule names, or that its protocol implies. */
function version(r: Rule): string | null {
  const v = r.ipVersion ?? (r.protocol === "icmp" ? 4 : r.protocol === "icmpv6" ? 6 : undefined);
  return v === undefined ? null : `IPV${v}`;
}

function icmp(match: Rule["icmp"], type: string, typeCode: string): Record<string, unknown> {
  if (!match) return {};
  return match.code === undefined ? { [type]: match.type } : { [typeCode]: { type: match.type, code: match.code } };
}

function side(s: SideMatch, words: Rule["words"]["source"], upper: string, lower: string): Record<string, unknown> {
  const ports = (list: { min: number; max: number }[]) => list.map((p) => ({ first: p.min, last: p.max }));
  return {
    [`${lower}Net`]: s.nets.map(formatCidr),
    [`not${upper}Net`]: s.notNets.map(formatCidr),
    [`${lower}Ports`]: ports(s.ports),
    [`not${upper}Ports`]: ports(s.notPorts),
    [`${lower}IpSetIds`]: s.sets,
    [`not${upper}IpSetIds`]: s.notSets,
    [`${lower}NamedPortIpSetIds`]: s.namedPortSets,
    [`not${upper}NamedPortIpSetIds`]: s.notNamedPortSets,
    [`${lower}IpPortSetIds`]: s.serviceSets,
    [`original${upper}Selector`]: words.selector ?? null,
    [`originalNot${upper}Selector`]: words.notSelector ?? null,
    [`original${upper}NamespaceSelector`]: words.namespaceSelector ?? null,
    [`original${upper}Service`]: words.services?.name ?? null,
    [`original${upper}ServiceNamespace`]: words.services?.namespace ?? null,
    [`${lower}ServiceAccountMatch`]: words.serviceAccounts ?? null,
  };
}
