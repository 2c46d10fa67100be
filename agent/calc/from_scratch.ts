import type { Resource } from "../../datastore/kind.ts";
import type { ActivePolicy, ActiveProfile, PolicedEndpoint, SetId, SetType } from "../desired_policy.ts";
import { activePolicy, activeProfile, policedEndpoint } from "./outputs.ts";
import { type Input, type PolicyInput, type ProfileInput, type SubjectInput, understand } from "./inputs.ts";
import type { SetSource } from "./rule_input.ts";
import { membersOf } from "./set_members.ts";

/** Everything that a node must enforce, at one moment. */
export interface PolicyState {
  endpoints: Map<string, PolicedEndpoint>;
  policies: Map<string, ActivePolicy>;
  profiles: Map<string, ActiveProfile>;
  sets: Map<SetId, { type: SetType; members: Set<string> }>;
}

/** A state without anything. */
export const emptyState = (): PolicyState => ({
  endpoints: new Map(),
  policies: new Map(),
  profiles: new Map(),
  sets: new Map(),
});

/**
 * The calculation without memory: every selector is held against every label set. Slow and plain; the oracle of the
 * incremental one, and what `ctl` asks, which has a snapshot and no history. EndpointSlices are left out.
 */
export function fromScratch(resources: Iterable<Resource>, node: string): PolicyState {
  const inputs = [...resources].map((r) => understand(r).input).filter((i) => i !== undefined);
  const of = <K extends Input["is"]>(is: K) => inputs.filter((i): i is Extract<Input, { is: K }> => i.is === is);
  const subjects = [...of("workload"), ...of("host"), ...of("networkSet")] as SubjectInput[];
  const profiles = new Map(of("profile").map((p) => [p.name, p]));
  const tiers = new Map(of("tier").map((t) => [t.name, t]));
  const policies = of("policy");
  const state = emptyState();

  const labelsOf = (subject: SubjectInput): Map<string, string> => {
    const labels = new Map(subject.labels);
    for (const parent of subject.parents) {
      for (const [name, value] of profiles.get(parent)?.labels ?? []) if (!labels.has(name)) labels.set(name, value);
    }
    return labels;
  };
  const rankOf = (name: string) => {
    const tier = tiers.get(name);
    return { name, order: tier?.order, exists: tier !== undefined, defaultAction: tier?.defaultAction ?? "" as const };
  };
  const users: (PolicyInput | ProfileInput)[] = [];
  for (const endpoint of subjects.filter((s) => s.node === node)) {
    const matched = policies.filter((p) => p.selector.matches(labelsOf(endpoint)));
    state.endpoints.set(endpoint.id, policedEndpoint(endpoint, matched, rankOf));
    for (const policy of matched) state.policies.set(policy.id, activePolicy(policy, partialOf(policy)));
    users.push(...matched);
    for (const name of endpoint.parents) {
      const profile = profiles.get(name);
      state.profiles.set(name, activeProfile(name, profile, profile ? partialOf(profile) : () => false));
      if (profile) users.push(profile);
    }
  }
  for (const policy of policies.filter((p) => p.performanceHints.includes("AssumeNeededOnEveryNode"))) {
    state.policies.set(policy.id, activePolicy(policy, partialOf(policy)));
    users.push(policy);
  }
  for (const [id, source] of users.flatMap((u) => [...u.sets])) {
    if (!state.sets.has(id)) {
      state.sets.set(id, { type: source.from === "namedPort" ? "ipPort" : "net", members: fill(source) });
    }
  }
  return state;

  /** Whether a set of a policy or profile holds a subject of which not all is known. */
  function partialOf({ sets }: PolicyInput | ProfileInput): (id: SetId) => boolean {
    return (id) => {
      const source = sets.get(id);
      return source?.from === "selector" && subjects.some((s) => s.partial && source.selector.matches(labelsOf(s)));
    };
  }

  function fill(source: SetSource): Set<string> {
    if (source.from === "service") return new Set();
    return new Set(subjects.filter((s) => source.selector.matches(labelsOf(s))).flatMap((s) => membersOf(source, s)));
  }
}
