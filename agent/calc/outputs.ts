import { allowProfileName } from "../../datastore/kinds/profile.ts";
import type {
  ActivePolicy,
  ActiveProfile,
  PolicedEndpoint,
  PolicyDelta,
  SetId,
  TierPolicies,
} from "../desired_policy.ts";
import type { PolicyInput, ProfileInput, SubjectInput } from "./inputs.ts";
import { strictly } from "./partial_sets.ts";
import { comparePolicies, compareTiers, type TierRank } from "./policy_order.ts";
import { matchAll } from "./rule_input.ts";

/** A tier's place, and what happens at its end. */
export interface TierFacts extends TierRank {
  defaultAction: "Deny" | "Pass" | "";
}

/** What applies to an endpoint, from the policies that select it. */
export function policedEndpoint(
  subject: SubjectInput,
  matched: PolicyInput[],
  rankOf: (tier: string) => TierFacts,
): PolicedEndpoint {
  const ordinary = matched.filter((p) => !p.doNotTrack && !p.preDnat);
  const isHost = subject.is === "host";
  const tiersOf = (policies: PolicyInput[]) => (isHost || policies === ordinary ? tiers(policies, rankOf) : []);
  const passing = (list: TierPolicies[]): TierPolicies[] => list.map((t) => ({ ...t, defaultAction: "Pass" }));
  return {
    id: subject.id,
    kind: isHost ? "host" : "workload",
    interfaceName: subject.interfaceName,
    nets: subject.nets,
    profiles: subject.parents,
    tiers: tiersOf(ordinary),
    untrackedTiers: passing(tiersOf(matched.filter((p) => p.doNotTrack))),
    preDnatTiers: passing(tiersOf(matched.filter((p) => p.preDnat))).map((t) => ({ ...t, egress: [] })),
    forwardTiers: tiersOf(ordinary.filter((p) => p.applyOnForward)),
    ...(subject.limits ? { limits: subject.limits } : {}),
  };
}

/** Tiers that take part: those with a policy in a direction. */
function tiers(
  policies: PolicyInput[],
  rankOf: (tier: string) => TierFacts,
): TierPolicies[] {
  const byTier = Map.groupBy(policies, (p) => p.tier);
  return [...byTier.keys()].map(rankOf).sort(compareTiers).map(({ name, defaultAction }) => {
    const inOrder = byTier.get(name)!.sort(comparePolicies);
    const ids = (direction: "ingress" | "egress") =>
      inOrder.filter((p) => p.directions.has(direction)).map((p) => p.id);
    return { name, defaultAction, ingress: ids("ingress"), egress: ids("egress") };
  }).filter((t) => t.ingress.length + t.egress.length > 0);
}

/** A policy as the dataplane sees it. @param isPartial see strictly(). */
export function activePolicy(p: PolicyInput, isPartial: (set: SetId) => boolean): ActivePolicy {
  const { ingress, egress } = strictly(p, isPartial);
  return {
    id: p.id,
    kind: p.kind,
    namespace: p.namespace || undefined,
    name: p.name,
    tier: p.tier,
    staged: p.staged,
    selector: p.selector.text,
    ingress,
    egress,
    doNotTrack: p.doNotTrack,
    preDnat: p.preDnat,
    applyOnForward: p.applyOnForward,
    performanceHints: p.performanceHints,
  };
}

/**
 * A profile as the dataplane sees it; one that does not exist denies everything. `projectcalico-default-allow` is in no
 * key and always there. @param isPartial see strictly(). Source: Calico's libcalico-go/lib/resources/profile.go.
 */
export function activeProfile(
  name: string,
  profile: ProfileInput | undefined,
  isPartial: (set: SetId) => boolean,
): ActiveProfile {
  if (name === allowProfileName) {
    return { name, missing: false, ingress: [matchAll("allow")], egress: [matchAll("allow")] };
  }
  if (!profile) return { name, missing: true, ingress: [matchAll("deny")], egress: [matchAll("deny")] };
  const { ingress, egress } = strictly(profile, isPartial);
  return { name, missing: false, ingress, egress };
}

/** A delta in which nothing changed. */
export function emptyDelta(): PolicyDelta {
  return {
    setsAdded: [],
    setsChanged: [],
    policies: [],
    profiles: [],
    endpoints: [],
    endpointsRemoved: [],
    profilesRemoved: [],
    policiesRemoved: [],
    setsRemoved: [],
  };
}

/** Nothing changed. */
export const isEmptyDelta = (delta: PolicyDelta): boolean => Object.values(delta).every((list) => list.length === 0);

/** Equal in all that decides where and when a policy is asked. */
export function samePlace(a: PolicyInput, b: PolicyInput): boolean {
  return a.tier === b.tier && a.order === b.order && a.doNotTrack === b.doNotTrack && a.preDnat === b.preDnat &&
    a.applyOnForward === b.applyOnForward && a.staged === b.staged &&
    a.directions.has("ingress") === b.directions.has("ingress") &&
    a.directions.has("egress") === b.directions.has("egress");
}

/** How many endpoints there are, and nodes that have one. */
export function endpointCounts(subjects: Iterable<SubjectInput>) {
  const counts = { workload: 0, host: 0, networkSet: 0 }, nodes = new Set<string>();
  for (const { is, node } of subjects) {
    counts[is]++;
    if (node !== undefined) nodes.add(node);
  }
  return { workloads: counts.workload, hostEndpoints: counts.host, hosts: nodes.size };
}
