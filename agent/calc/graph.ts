import type { Resource } from "../../datastore/kind.ts";
import type { PolicedEndpoint, PolicyDelta, PolicyId, SetId } from "../desired_policy.ts";
import { mapAt, setAt } from "./_maps.ts";
import { idOf, type Input, isUsed, understand } from "./inputs.ts";
import type { PolicyInput, ProfileInput, SliceInput, SubjectInput, TierInput } from "./inputs.ts";
import {
  activePolicy,
  activeProfile,
  emptyDelta,
  endpointCounts,
  policedEndpoint,
  samePlace,
  type TierFacts,
} from "./outputs.ts";
import type { SetSource } from "./rule_input.ts";
import { type MatchChange, SelectorIndex } from "./selector_index.ts";
import { SharedValues } from "./shared_values.ts";
import { sameContribution, SetMembers, sliceMembers, withoutCovered } from "./set_members.ts";

/** How the calculation is set up. */
export interface GraphOptions {
  /** This node: endpoints of others only fill sets. */
  node: string;
  /** Sets hold no member that another one covers, as nftables' interval sets need. */
  withoutCoveredMembers?: boolean;
}

/** One change of the datastore. */
export type GraphChange = { set: Resource } | {
  delete: { kind: string; metadata: { name: string; namespace?: string } };
};

/** An object that is not used as it was written: its id and the reasons. */
export interface Refused {
  id: string;
  problems: string[];
}

/**
 * The policy calculation: changes of the datastore in, what this node must enforce out. The cost of a change grows with
 * what it touches, not with what there is. `from_scratch.ts` computes the same without memory.
 *
 * A value that cannot be understood leaves its last good version in force and is listed by refused().
 */
export class Graph {
  readonly #options: GraphOptions;
  #policyIndex = new SelectorIndex();
  #setIndex = new SelectorIndex();
  #members = new SetMembers();
  #subjects = new Map<string, SubjectInput>();
  readonly #shared = new SharedValues();
  #policies = new Map<PolicyId, PolicyInput>();
  #profiles = new Map<string, ProfileInput>();
  #tiers = new Map<string, TierInput>();
  /** Default actions of deleted tiers: policies may still stand in them. */
  #lastActions = new Map<string, "Deny" | "Pass">();
  #services = new Map<string, Map<string, SliceInput>>();
  #sliceService = new Map<string, string>();
  #refused = new Map<string, string[]>();

  /** Policies by canonical selector, and policies by tier. */
  #bySelector = new Map<string, Set<PolicyId>>();
  #byTier = new Map<string, Set<PolicyId>>();
  /** Local endpoints by profile named. */
  #profileUsers = new Map<string, Set<string>>();
  /** Policies and profiles that use a set; sets that look at a selector. */
  #setUsers = new Map<SetId, Set<string>>();
  #setsOfSelector = new Map<string, Set<SetId>>();
  #setsOfService = new Map<string, Set<SetId>>();

  #dirtyEndpoints = new Set<string>();
  #dirtyPolicies = new Set<PolicyId>();
  #dirtyProfiles = new Set<string>();
  #dirtySets = new Set<SetId>();
  /** What the last flush left in force. */
  #sentEndpoints = new Set<string>();
  #sentPolicies = new Map<PolicyId, PolicyInput>();
  #sentProfiles = new Map<string, ProfileInput | undefined>();
  #sentSets = new Map<SetId, Set<string> | undefined>();
  /** Sets that ended and began again since: what was sent of them says nothing any more. */
  #restartedSets = new Set<SetId>();

  constructor(options: GraphOptions) {
    this.#options = options;
  }

  /** Takes in changes; nothing comes out before flush(). Kinds that the calculation does not use are ignored. */
  update(changes: Iterable<GraphChange>): void {
    for (const change of changes) {
      if ("delete" in change) {
        if (isUsed(change.delete.kind)) this.#remove(idOf(change.delete));
      } else if (isUsed(change.set.kind)) this.#set(change.set);
    }
  }

  /** Objects that are not used as they were written. */
  refused(): Refused[] {
    return [...this.#refused].map(([id, problems]) => ({ id, problems }));
  }

  /** Tiers that policies name and that do not exist, with those policies: they apply last and end in deny. */
  missingTiers(): { tier: string; policies: PolicyId[] }[] {
    return [...this.#byTier].filter(([tier, users]) => users.size > 0 && !this.#tiers.has(tier))
      .map(([tier, users]) => ({ tier, policies: [...users] }));
  }

  /** Policies and endpoints in force here, after the last flush, and what there is in the cluster. */
  counts() {
    const { size: selectors } = this.#bySelector;
    const inCluster = { policies: this.#policies.size, profiles: this.#profiles.size, tiers: this.#tiers.size };
    return {
      here: { policies: this.#sentPolicies.size, endpoints: this.#sentEndpoints.size, selectors },
      cluster: { ...endpointCounts(this.#subjects.values()), ...inCluster },
      index: { subjects: this.#subjects.size, selectors: this.#setsOfSelector.size, ...this.#setIndex.counts },
    };
  }

  /** All that is in force after the last flush, as a change from nothing. */
  snapshot(): PolicyDelta {
    return {
      ...emptyDelta(),
      setsAdded: [...this.#sentSets.keys()].map((id) => this.#asAdded(id)),
      policies: [...this.#sentPolicies.values()].map((p) => activePolicy(p, this.#isPartial)),
      profiles: [...this.#sentProfiles].map(([name, profile]) => activeProfile(name, profile, this.#isPartial)),
      endpoints: [...this.#sentEndpoints].map((id) => this.#policed(this.#subjects.get(id)!)),
    };
  }

  /** What changed in what must be enforced since the last flush. */
  flush(): PolicyDelta {
    const delta = emptyDelta();
    const turned = this.#takeTurned();
    this.#flushPolicies(delta, turned);
    this.#flushProfiles(delta, turned);
    this.#flushEndpoints(delta);
    this.#flushSets(delta);
    this.#members.takeTurned(); // sets that began: who uses them has been told
    return delta;
  }

  /** Policies and profiles whose rules mean something else now, because of what is known of their sets. */
  #takeTurned(): ReadonlySet<string> {
    const users = [...this.#members.takeTurned()].flatMap((id) => [...this.#setUsers.get(id) ?? []]);
    const isProfile = (user: string) => user.startsWith("Profile:");
    for (const user of users) isProfile(user) ? this.#dirtyProfiles.add(nameIn(user)) : this.#dirtyPolicies.add(user);
    return new Set(users);
  }

  #isPartial = (id: SetId): boolean => this.#members.isPartial(id);

  #set(resource: Resource): void {
    const { id, input, absent, problems } = understand(resource);
    if (problems.length > 0) this.#refused.set(id, problems);
    else this.#refused.delete(id);
    if (absent) return this.#drop(id);
    // A safe reading stands in only where there is no good one.
    if (input && (problems.length === 0 || !this.#has(id))) this.#put(input);
  }

  #remove(id: string): void {
    this.#refused.delete(id);
    this.#drop(id);
  }

  #has(id: string): boolean {
    if (id.startsWith("Profile:")) return this.#profiles.has(nameIn(id));
    if (id.startsWith("Tier:")) return this.#tiers.has(nameIn(id));
    return this.#subjects.has(id) || this.#policies.has(id) || this.#sliceService.has(id);
  }

  #put(input: Input): void {
    switch (input.is) {
      case "policy":
        return this.#putPolicy(input);
      case "profile":
        return this.#putProfile(input.name, input);
      case "tier":
        return this.#putTier(input.name, input);
      case "slice":
        return this.#putSlice(input.id, input);
      default:
        return this.#putSubject(input.id, this.#shared.subject(input, this.#isLocal(input)));
    }
  }

  #drop(id: string): void {
    if (id.startsWith("Profile:")) this.#putProfile(nameIn(id), undefined);
    else if (id.startsWith("Tier:")) this.#putTier(nameIn(id), undefined);
    else if (/^(Kubernetes)?EndpointSlice:/.test(id)) this.#putSlice(id, undefined);
    else if (this.#policies.has(id)) this.#dropPolicy(id);
    else if (this.#subjects.has(id)) this.#putSubject(id, undefined);
  }

  // Subjects: endpoints and network sets.

  #isLocal(subject: SubjectInput | undefined): boolean {
    return subject?.node === this.#options.node;
  }

  #putSubject(id: string, now: SubjectInput | undefined): void {
    const old = this.#subjects.get(id);
    const before = new Set(this.#setIndex.selectorsOf(id));
    const changes = now ? this.#setIndex.setSubject(id, now.labels, now.parents) : this.#setIndex.deleteSubject(id);
    // Of the selectors that go on matching, what the subject gives may have changed.
    for (const change of changes) before.delete(change.selector);
    if (now) this.#subjects.set(id, now);
    for (const selector of before) this.#regive(selector, old!, now!);
    for (const change of changes) this.#give(change, change.matches ? now! : old!);
    if (!now) this.#subjects.delete(id);

    if (this.#isLocal(old) || this.#isLocal(now)) {
      this.#putLocal(id, this.#isLocal(old) ? old : undefined, this.#isLocal(now) ? now : undefined);
    }
  }

  #putLocal(id: string, old: SubjectInput | undefined, now: SubjectInput | undefined): void {
    const changes = now
      ? this.#policyIndex.setSubject(id, now.labels, now.parents)
      : this.#policyIndex.deleteSubject(id);
    this.#policiesMatch(changes);
    for (const profile of old?.parents ?? []) this.#useProfile(profile, id, now?.parents.includes(profile) ?? false);
    for (const profile of now?.parents ?? []) this.#useProfile(profile, id, true);
    this.#dirtyEndpoints.add(id);
  }

  #useProfile(profile: string, endpoint: string, used: boolean): void {
    const users = setAt(this.#profileUsers, profile);
    used ? users.add(endpoint) : users.delete(endpoint);
    this.#dirtyProfiles.add(profile);
  }

  #give({ selector, matches }: { selector: string; matches: boolean }, subject: SubjectInput): void {
    for (const id of this.#setsOfSelector.get(selector) ?? []) {
      if (this.#members.hold(id, subject, matches)) this.#dirtySets.add(id);
    }
  }

  /** Gives the new before it takes the old, so that what stays never leaves. */
  #regive(selector: string, old: SubjectInput, now: SubjectInput): void {
    if (sameContribution(old, now)) return;
    this.#give({ selector, matches: true }, now);
    this.#give({ selector, matches: false }, old);
  }

  #policiesMatch(changes: MatchChange[]): void {
    for (const { selector, subject } of changes) {
      this.#dirtyEndpoints.add(subject);
      for (const id of this.#bySelector.get(selector) ?? []) this.#dirtyPolicies.add(id);
    }
  }

  #putPolicy(now: PolicyInput): void {
    const old = this.#policies.get(now.id);
    this.#policies.set(now.id, now);
    this.#dirtyPolicies.add(now.id);
    if (old && old.tier !== now.tier) setAt(this.#byTier, old.tier).delete(now.id);
    setAt(this.#byTier, now.tier).add(now.id);
    if (old && old.selector.text === now.selector.text) {
      if (!samePlace(old, now)) this.#dirtyMatched(now.selector.text);
      return;
    }
    if (old) this.#unlinkSelector(old);
    const users = setAt(this.#bySelector, now.selector.text);
    users.add(now.id);
    const changes = this.#policyIndex.addSelector(now.selector);
    // A selector that another policy brought already matches whom it matches.
    if (changes.length === 0) this.#dirtyMatched(now.selector.text);
    this.#policiesMatch(changes);
  }

  #dropPolicy(id: PolicyId): void {
    const old = this.#policies.get(id)!;
    this.#policies.delete(id);
    this.#dirtyPolicies.add(id);
    setAt(this.#byTier, old.tier).delete(id);
    this.#unlinkSelector(old);
  }

  #unlinkSelector(policy: PolicyInput): void {
    const text = policy.selector.text;
    this.#dirtyMatched(text);
    const users = setAt(this.#bySelector, text);
    users.delete(policy.id);
    if (users.size > 0) return;
    this.#bySelector.delete(text);
    this.#policyIndex.removeSelector(text);
  }

  #dirtyMatched(selector: string): void {
    for (const id of this.#policyIndex.matchesOf(selector)) this.#dirtyEndpoints.add(id);
  }

  // Profiles, tiers, services.

  #putProfile(name: string, now: ProfileInput | undefined): void {
    if (now) this.#profiles.set(name, now);
    else this.#profiles.delete(name);
    this.#dirtyProfiles.add(name);
    for (const change of this.#setIndex.setParent(name, now?.labels)) {
      this.#give(change, this.#subjects.get(change.subject)!);
    }
    this.#policiesMatch(this.#policyIndex.setParent(name, now?.labels));
  }

  #putTier(name: string, now: TierInput | undefined): void {
    const old = this.#tiers.get(name);
    if (now) this.#tiers.set(name, now);
    else {
      if (old) this.#lastActions.set(name, old.defaultAction);
      this.#tiers.delete(name);
    }
    if (old && now && old.order === now.order && old.defaultAction === now.defaultAction) return;
    for (const id of this.#byTier.get(name) ?? []) this.#dirtyMatched(this.#policies.get(id)!.selector.text);
  }

  #putSlice(id: string, now: SliceInput | undefined): void {
    const touched = new Set([this.#sliceService.get(id), now?.service].filter((s) => s !== undefined));
    const give = (matches: boolean) => {
      for (const service of touched) {
        const slice = this.#services.get(service)?.get(id);
        if (slice) { for (const set of this.#setsOfService.get(service) ?? []) this.#giveSlice(set, slice, matches); }
      }
    };
    const old = this.#services.get(this.#sliceService.get(id) ?? "")?.get(id);
    if (old) {
      give(false);
      this.#services.get(old.service)!.delete(id);
      this.#sliceService.delete(id);
    }
    if (!now) return;
    mapAt(this.#services, now.service).set(id, now);
    this.#sliceService.set(id, now.service);
    give(true);
  }

  #giveSlice(set: SetId, slice: SliceInput, matches: boolean): void {
    const members = sliceMembers(this.#members.sourceOf(set)!, slice);
    this.#members[matches ? "give" : "take"](set, members);
    this.#dirtySets.add(set);
  }

  // Flush.

  #isActive(policy: PolicyInput): boolean {
    return this.#policyIndex.matchesOf(policy.selector.text).size > 0 ||
      policy.performanceHints.includes("AssumeNeededOnEveryNode");
  }

  #flushPolicies(delta: PolicyDelta, turned: ReadonlySet<string>): void {
    for (const id of this.#dirtyPolicies) {
      const policy = this.#policies.get(id);
      const active = policy !== undefined && this.#isActive(policy);
      const sent = this.#sentPolicies.get(id);
      if (active && sent === policy && !turned.has(id)) continue;
      if (!active && !sent) continue;
      this.#useSets(id, sent?.sets, active ? policy.sets : undefined);
      if (active) {
        this.#sentPolicies.set(id, policy);
        delta.policies.push(activePolicy(policy, this.#isPartial));
      } else {
        this.#sentPolicies.delete(id);
        delta.policiesRemoved.push(id);
      }
    }
    this.#dirtyPolicies.clear();
  }

  #flushProfiles(delta: PolicyDelta, turned: ReadonlySet<string>): void {
    for (const name of this.#dirtyProfiles) {
      const profile = this.#profiles.get(name);
      const active = (this.#profileUsers.get(name)?.size ?? 0) > 0;
      const wasActive = this.#sentProfiles.has(name);
      const sent = this.#sentProfiles.get(name);
      const id = `Profile:${name}`;
      if (active === wasActive && (!active || (sent === profile && !turned.has(id)))) continue;
      this.#useSets(id, sent?.sets, active ? profile?.sets : undefined);
      if (active) {
        this.#sentProfiles.set(name, profile);
        delta.profiles.push(activeProfile(name, profile, this.#isPartial));
      } else {
        this.#sentProfiles.delete(name);
        this.#profileUsers.delete(name);
        delta.profilesRemoved.push(name);
      }
    }
    this.#dirtyProfiles.clear();
  }

  #flushEndpoints(delta: PolicyDelta): void {
    for (const id of this.#dirtyEndpoints) {
      const subject = this.#subjects.get(id);
      if (subject && this.#isLocal(subject)) {
        this.#sentEndpoints.add(id);
        delta.endpoints.push(this.#policed(subject));
      } else if (this.#sentEndpoints.delete(id)) delta.endpointsRemoved.push(id);
    }
    this.#dirtyEndpoints.clear();
  }

  #flushSets(delta: PolicyDelta): void {
    for (const id of this.#dirtySets) {
      const source = this.#members.sourceOf(id);
      const sent = this.#sentSets.has(id) && !this.#restartedSets.has(id);
      if (!source) {
        if (this.#sentSets.has(id)) delta.setsRemoved.push(id);
        this.#sentSets.delete(id);
      } else if (!sent) {
        const added = this.#asAdded(id);
        this.#members.flush(id);
        this.#sentSets.set(id, this.#options.withoutCoveredMembers ? new Set(added.members) : undefined);
        delta.setsAdded.push(added);
      } else this.#flushMembers(id, delta);
    }
    this.#dirtySets.clear();
    this.#restartedSets.clear();
  }

  #asAdded = (id: SetId) => ({ id, type: this.#members.typeOf(id), members: this.#visible(id) });

  #visible(id: SetId): string[] {
    const members = this.#members.members(id);
    return this.#options.withoutCoveredMembers ? withoutCovered(members) : members;
  }

  #flushMembers(id: SetId, delta: PolicyDelta): void {
    const change = this.#members.flush(id);
    if (!change) return;
    const sent = this.#sentSets.get(id);
    if (!sent) {
      delta.setsChanged.push(change);
      return;
    }
    const now = new Set(this.#visible(id));
    const add = [...now].filter((m) => !sent.has(m)), remove = [...sent].filter((m) => !now.has(m));
    this.#sentSets.set(id, now);
    if (add.length + remove.length > 0) delta.setsChanged.push({ id, add, remove });
  }

  /** A user's sets change: a first user starts a set and fills it, the last one ends it. */
  #useSets(user: string, old: Map<SetId, SetSource> | undefined, now: Map<SetId, SetSource> | undefined): void {
    for (const [id, source] of now ?? []) {
      const users = setAt(this.#setUsers, id);
      if (users.size === 0) this.#startSet(id, source);
      users.add(user);
    }
    for (const [id, source] of old ?? []) {
      if (now?.has(id)) continue;
      const users = setAt(this.#setUsers, id);
      users.delete(user);
      if (users.size === 0) this.#endSet(id, source);
    }
  }

  #startSet(id: SetId, source: SetSource): void {
    this.#dirtySets.add(id);
    if (this.#sentSets.has(id)) this.#restartedSets.add(id);
    this.#members.create(id, source);
    if (source.from === "service") {
      setAt(this.#setsOfService, source.service).add(id);
      for (const slice of this.#services.get(source.service)?.values() ?? []) this.#giveSlice(id, slice, true);
      return;
    }
    setAt(this.#setsOfSelector, source.selector.text).add(id);
    this.#setIndex.addSelector(source.selector);
    for (const subject of this.#setIndex.matchesOf(source.selector.text)) {
      this.#members.hold(id, this.#subjects.get(subject)!, true);
    }
  }

  #endSet(id: SetId, source: SetSource): void {
    this.#dirtySets.add(id);
    this.#members.drop(id);
    this.#setUsers.delete(id);
    if (source.from === "service") {
      setAt(this.#setsOfService, source.service).delete(id);
      return;
    }
    const sets = setAt(this.#setsOfSelector, source.selector.text);
    sets.delete(id);
    if (sets.size > 0) return;
    this.#setsOfSelector.delete(source.selector.text);
    this.#setIndex.removeSelector(source.selector.text);
  }

  #policed(subject: SubjectInput): PolicedEndpoint {
    const matched: PolicyInput[] = [];
    for (const selector of this.#policyIndex.selectorsOf(subject.id)) {
      for (const id of this.#bySelector.get(selector) ?? []) matched.push(this.#policies.get(id)!);
    }
    return policedEndpoint(subject, matched, (tier) => this.#rankOf(tier));
  }

  #rankOf(name: string): TierFacts {
    const tier = this.#tiers.get(name);
    if (tier) return { name, order: tier.order, exists: true, defaultAction: tier.defaultAction };
    return { name, order: undefined, exists: false, defaultAction: this.#lastActions.get(name) ?? "" };
  }
}

const nameIn = (id: string): string => id.slice(id.indexOf(":") + 1);
