import { type Cidr, type Family, formatCidr, formatIp, type Ip } from "../../lib/ip.ts";
import type {
  ActivePolicy,
  ActiveProfile,
  Direction,
  PolicedEndpoint,
  PolicyDelta,
  PolicyId,
  Rule,
  SetId,
  SetType,
  TierPolicies,
} from "../desired_policy.ts";
import { type HostDispatch, hostFilterDispatch, hostMangleDispatch, hostRawDispatch } from "./dispatch_chains.ts";
import { type DropReason, dropReasons, withDropLogs } from "./drop_logs.ts";
import {
  type EndpointChainsInput,
  groupChain,
  type GroupedTier,
  hostFilterChains,
  hostMangleEgressChains,
  hostPreDnatChains,
  hostRawChains,
  workloadChains,
} from "./endpoint_chains.ts";
import { type HostInterface, hostInterfaces } from "./host_interfaces.ts";
import type { Chain, NetfilterSettings, Table } from "./model.ts";
import { anyInterface, isInlined, type PolicyGroup, setName } from "./names.ts";
import {
  dscpChain,
  floatingInChain,
  floatingOutChain,
  natOutgoingChain,
  serviceLoopChain,
  spoofChain,
} from "./nat_chains.ts";
import { OwnedChains, type PlacedChain, type TableChange } from "./owned_chains.ts";
import { policyChains, profileChains } from "./policy_chains.ts";
import { SetUses } from "./set_uses.ts";
import { staticChains } from "./static_chains.ts";
import { WorkloadDispatch } from "./workload_dispatch.ts";

/** What the rules depend on besides policy. */
export interface FilterFacts {
  /** One per family that this host filters. */
  settings: NetfilterSettings[];
  /** Pools with natOutgoing, and all pools whose addresses live in the cluster. */
  masqueradePools: readonly Cidr[];
  pools: readonly Cidr[];
  /** Addresses of this host, and of all hosts. */
  ownAddresses: readonly Ip[];
  allHosts: readonly Cidr[];
  vxlanHosts: readonly Cidr[];
  /** Ranges of services, for loop prevention. */
  serviceCidrs: readonly string[];
  /** Internal address by external one. */
  floatingIps: ReadonlyMap<string, string>;
  /** Networks that may be sources of a workload's packets beside its own addresses, by interface; default none. */
  spoofs?: ReadonlyMap<string, readonly Cidr[]>;
  interfaces: readonly HostInterface[];
}

/** A kernel set: `ips` hash:ip, `nets` hash:net, `ports` hash:ip,port. */
export interface SetPlan {
  name: string;
  family: Family;
  type: "hash:ip" | "hash:net" | "hash:ip,port";
  members: string[];
  /** Rules only deny by it: a member more allows less. */
  closes?: boolean;
}

/** What has to change in the kernel. Apply in this order: sets, tables, removed sets. */
export interface ProgramChange {
  setsPut: SetPlan[];
  setsChanged: { name: string; family: Family; add: string[]; remove: string[]; closes?: boolean }[];
  tables: TableChange[];
  setsRemoved: { name: string; family: Family }[];
}

/**
 * Turns what policy must hold into chains and sets. Pure and incremental: a changed policy renders its own chains and
 * nothing else; a changed endpoint its own and, when its interface is new, the dispatch.
 */
export class FilterProgram {
  #facts: FilterFacts | undefined;
  readonly #chains = new OwnedChains();
  readonly #policies = new Map<PolicyId, ActivePolicy>();
  readonly #profiles = new Map<string, ActiveProfile>();
  readonly #workloads = new Map<string, PolicedEndpoint>();
  readonly #hosts = new Map<string, PolicedEndpoint>();
  /** Workloads by the interface they claim. */
  readonly #claims = new Map<string, Set<string>>();
  readonly #dispatch = new Map<Family, WorkloadDispatch>();
  readonly #setTypes = new Map<string, SetType>();
  readonly #setUses = new SetUses();
  readonly #dirty = new Set<string>();
  readonly #endpointsOfPolicy = new Map<PolicyId, Set<string>>();
  readonly #loggedChains = new WeakMap<Chain, Chain>();
  #sets: Pick<ProgramChange, "setsPut" | "setsChanged" | "setsRemoved"> = noSets();
  /** By name, with their text: what the kernel was last told to have. */
  #fixedSets = new Map<string, { set: SetPlan; text: string }>();

  /** Takes over what the calculation found out. */
  policy(delta: PolicyDelta): void {
    for (const { id, type, members } of delta.setsAdded) {
      this.#setTypes.set(id, type);
      for (const family of families) {
        const own = members.filter((m) => familyOf(m) === family);
        this.#sets.setsPut.push({ name: setName(id, family), family, type: kernelType(type), members: own });
      }
    }
    for (const { id, add, remove } of delta.setsChanged) {
      for (const family of families) {
        const own = (list: string[]) => list.filter((m) => familyOf(m) === family);
        const change = { name: setName(id, family), family, add: own(add), remove: own(remove) };
        if (change.add.length + change.remove.length > 0) this.#sets.setsChanged.push(change);
      }
    }
    for (const id of delta.setsRemoved) {
      this.#setTypes.delete(id);
      for (const family of families) this.#sets.setsRemoved.push({ name: setName(id, family), family });
    }
    for (const policy of delta.policies) this.#setPolicy(policy.id, policy);
    for (const id of delta.policiesRemoved) this.#setPolicy(id, undefined);
    for (const profile of delta.profiles) {
      this.#setUses.replace(this.#profiles.get(profile.name), profile);
      this.#profiles.set(profile.name, profile);
      this.#dirty.add(`profile ${profile.name}`);
    }
    for (const name of delta.profilesRemoved) {
      this.#setUses.replace(this.#profiles.get(name), undefined);
      this.#profiles.delete(name);
      this.#dirty.add(`profile ${name}`);
    }
    for (const endpoint of delta.endpoints) this.#setEndpoint(endpoint.id, endpoint);
    for (const id of delta.endpointsRemoved) this.#setEndpoint(id, undefined);
  }

  /** Takes over everything else. */
  facts(facts: FilterFacts): void {
    const before = this.#facts;
    this.#facts = facts;
    this.#wantFixedSets(fixedSets(facts));
    const same = (key: keyof FilterFacts) => before !== undefined && sameJson(before[key], facts[key]);
    if (!same("settings")) {
      this.#dispatch.clear();
      this.#dirtyAll();
    } else {
      this.#dirty.add("fixed");
      if (!same("interfaces")) this.#dirty.add("hosts");
    }
  }

  /** Sets come and go with the settings; what was asked for since the last flush and no longer holds is forgotten. */
  #wantFixedSets(sets: readonly SetPlan[]): void {
    const now = new Map(sets.map((set) => [set.name, { set, text: JSON.stringify(set) }]));
    const changed = [...now].filter(([name, { text }]) => this.#fixedSets.get(name)?.text !== text);
    const gone = [...this.#fixedSets].filter(([name]) => !now.has(name));
    const moved = new Set([...changed, ...gone].map(([name]) => name));
    const others = <T extends { name: string }>(list: T[]) => list.filter(({ name }) => !moved.has(name));
    this.#sets.setsPut = [...others(this.#sets.setsPut), ...changed.map(([, { set }]) => set)];
    this.#sets.setsRemoved = [
      ...others(this.#sets.setsRemoved),
      ...gone.map(([name, { set }]) => ({ name, family: set.family })),
    ];
    this.#fixedSets = now;
  }

  /** What has to change in the kernel since the last flush; nothing before the facts are known. */
  flush(): ProgramChange {
    if (!this.#facts) return { ...noSets(), tables: [] };
    for (const owner of this.#dirty) this.#chains.own(owner, this.#render(owner));
    this.#dirty.clear();
    const sets = this.#sets;
    this.#sets = noSets();
    for (const set of [...sets.setsPut, ...sets.setsChanged]) set.closes = this.#setUses.closes(set.name);
    this.#setUses.forgetOld();
    return { ...sets, tables: this.#chains.flush() };
  }

  /** Policies, profiles and endpoints that a chain or set of this name stands for; to be asked when the kernel refuses it. */
  objectsOf(name: string): string[] {
    const owners = [...this.#chains.ownersOf(name)];
    const named = owners.filter((owner) => owner.includes(" ")).map((owner) =>
      owner.startsWith("profile ") ? `Profile:${owner.slice("profile ".length)}` : owner.slice(owner.indexOf(" ") + 1)
    );
    const uses = ({ ingress, egress }: Pick<ActivePolicy, "ingress" | "egress">) =>
      [...ingress, ...egress].some((rule) => setsOf(rule).some((id) => families.some((f) => setName(id, f) === name)));
    const policies = [...this.#policies.values()].filter(uses).map(({ id }) => id);
    const profiles = [...this.#profiles.values()].filter(uses).map((profile) => `Profile:${profile.name}`);
    return [...new Set([...named, ...policies, ...profiles])].sort();
  }

  #setPolicy(id: PolicyId, policy: ActivePolicy | undefined): void {
    const before = this.#policies.get(id);
    this.#setUses.replace(before, policy);
    if (policy) this.#policies.set(id, policy);
    else this.#policies.delete(id);
    this.#dirty.add(`policy ${id}`);
    // Groups are made by selector: a changed one changes the chains of the policy's endpoints.
    if (before?.selector === policy?.selector && before?.staged === policy?.staged) return;
    for (const endpoint of this.#endpointsOfPolicy.get(id) ?? []) this.#dirty.add(endpoint);
  }

  #setEndpoint(id: string, endpoint: PolicedEndpoint | undefined): void {
    const before = this.#workloads.get(id) ?? this.#hosts.get(id);
    const owner = `workload ${id}`;
    for (const policy of policiesOf(before)) {
      const users = this.#endpointsOfPolicy.get(policy);
      users?.delete(owner);
      if (users?.size === 0) this.#endpointsOfPolicy.delete(policy);
    }
    this.#workloads.delete(id);
    const hadHosts = this.#hosts.size > 0;
    this.#hosts.delete(id);
    if (endpoint?.kind === "workload") {
      this.#workloads.set(id, endpoint);
      for (const policy of policiesOf(endpoint)) {
        const users = this.#endpointsOfPolicy.get(policy) ?? new Set();
        this.#endpointsOfPolicy.set(policy, users.add(owner));
      }
    } else if (endpoint) this.#hosts.set(id, endpoint);
    if (before?.kind === "host" || endpoint?.kind === "host") this.#dirty.add("hosts");
    // Chains of policies and profiles stand in the mangle table only while there are host endpoints.
    if (hadHosts !== this.#hosts.size > 0) this.#dirtyAll();
    if (before?.kind !== "workload" && endpoint?.kind !== "workload") return;
    this.#dirty.add(owner);
    if (before?.interfaceName !== endpoint?.interfaceName) {
      this.#dirty.add("dispatch");
      this.#claim(id, before?.interfaceName, endpoint?.interfaceName);
    }
  }

  /** Other endpoints that claim the same interface may lose it, or get it. */
  #claim(id: string, before: string | undefined, now: string | undefined): void {
    for (const name of [before, now]) {
      if (name === undefined) continue;
      const claims = this.#claims.get(name) ?? new Set();
      if (name === now) claims.add(id);
      else claims.delete(id);
      if (claims.size > 0) this.#claims.set(name, claims);
      else this.#claims.delete(name);
      for (const dispatch of this.#dispatch.values()) dispatch.set(name, claims.size > 0);
      for (const rival of claims) this.#dirty.add(`workload ${rival}`);
    }
  }

  #dirtyAll(): void {
    for (const id of this.#policies.keys()) this.#dirty.add(`policy ${id}`);
    for (const name of this.#profiles.keys()) this.#dirty.add(`profile ${name}`);
    for (const id of this.#workloads.keys()) this.#dirty.add(`workload ${id}`);
    for (const owner of ["dispatch", "hosts", "static", "fixed"]) this.#dirty.add(owner);
  }

  /** What the prefixes mean that packets are told with while `dropLogs` is set. */
  dropReasons(): Map<string, DropReason> {
    return new Map([...this.#chains.all()].flatMap(({ chain }) => dropReasons(chain)));
  }

  /** All chains with their places. */
  chains(): Iterable<PlacedChain> {
    return this.#chains.all();
  }

  #render(owner: string): PlacedChain[] {
    return this.#facts!.settings.flatMap((settings) => {
      const chains = this.#chainsOf(owner, settings);
      return settings.dropLogs ? chains.map((placed) => ({ ...placed, chain: this.#logged(placed.chain) })) : chains;
    });
  }

  /** A chain that stayed the same object does so here, too. */
  #logged(chain: Chain): Chain {
    const known = this.#loggedChains.get(chain) ?? withDropLogs(chain);
    this.#loggedChains.set(chain, known);
    return known;
  }

  #chainsOf(owner: string, s: NetfilterSettings): PlacedChain[] {
    const name = owner.slice(owner.indexOf(" ") + 1);
    const place = (table: Table, chains: Chain[]) => chains.map((chain) => ({ family: s.family, table, chain }));
    if (owner.startsWith("policy ")) {
      const policy = this.#policies.get(name);
      return policy ? this.#policyTables(policy).flatMap((t) => place(t, policyChains(policy, s))) : [];
    }
    if (owner.startsWith("profile ")) {
      const profile = this.#profiles.get(name);
      const tables: Table[] = this.#hosts.size > 0 ? ["filter", "mangle"] : ["filter"];
      return profile ? tables.flatMap((t) => place(t, profileChains(profile, s))) : [];
    }
    if (owner.startsWith("workload ")) return place("filter", this.#workloadChains(name, s));
    if (owner === "dispatch") return place("filter", this.#dispatchOf(s).chains());
    if (owner === "hosts") return this.#hostChains(s);
    if (owner === "static") {
      return (["raw", "mangle", "nat", "filter", "security"] as const).flatMap((t) => place(t, staticChains(t, s)));
    }
    return this.#fixedChains(s);
  }

  #policyTables(policy: ActivePolicy): Table[] {
    if (policy.doNotTrack) return ["raw"];
    if (policy.preDnat) return ["mangle"];
    return this.#hosts.size > 0 ? ["filter", "mangle"] : ["filter"];
  }

  #workloadChains(id: string, s: NetfilterSettings): Chain[] {
    const endpoint = this.#workloads.get(id);
    if (!endpoint || this.#ownerOf(endpoint.interfaceName) !== id) return [];
    const input = this.#inputOf(endpoint, endpoint.interfaceName);
    return [...workloadChains(input, s), ...groupChains(input.tiers, s)];
  }

  #dispatchOf(s: NetfilterSettings): WorkloadDispatch {
    const dispatch = this.#dispatch.get(s.family) ?? new WorkloadDispatch(s, this.#claims.keys());
    this.#dispatch.set(s.family, dispatch);
    return dispatch;
  }

  /** Of two endpoints that claim an interface the one with the smaller id has it. */
  #ownerOf(interfaceName: string): string | undefined {
    return [...this.#claims.get(interfaceName) ?? []].sort()[0];
  }

  #inputOf(endpoint: PolicedEndpoint, interfaceName: string): EndpointChainsInput & { forwardTiers: GroupedTier[] } {
    return {
      interfaceName,
      up: true,
      tiers: this.#grouped(endpoint.tiers),
      forwardTiers: this.#grouped(endpoint.forwardTiers),
      profiles: endpoint.profiles,
      limits: endpoint.limits,
    };
  }

  #grouped(tiers: TierPolicies[]): GroupedTier[] {
    const groups = (ids: PolicyId[]): PolicyGroup[] => {
      const found: PolicyGroup[] = [];
      for (const policy of ids.map((id) => this.#policies.get(id)!)) {
        if (found.at(-1)?.selector !== policy.selector) found.push({ selector: policy.selector, policies: [] });
        found.at(-1)!.policies.push(policy);
      }
      return found;
    };
    return tiers.map((t) => ({ ...t, ingress: groups(t.ingress), egress: groups(t.egress) }));
  }

  #hostChains(s: NetfilterSettings): PlacedChain[] {
    const { named, wildcard } = hostInterfaces(
      this.#hosts.values(),
      this.#facts!.interfaces,
      s.interfacePrefixes,
    );
    const place = (table: Table, chains: Chain[]) => chains.map((chain) => ({ family: s.family, table, chain }));
    const all: [string, PolicedEndpoint][] = [...named];
    if (wildcard) all.push([anyInterface, wildcard]);
    const dispatch = (wanted: (e: PolicedEndpoint) => boolean): HostDispatch => ({
      interfaces: [...named].filter(([, e]) => wanted(e)).map(([name]) => name),
      wildcard: wildcard !== undefined && wanted(wildcard),
    });
    const hasUntracked = (e: PolicedEndpoint) => e.untrackedTiers.length > 0;
    const hasPreDnat = (e: PolicedEndpoint) => e.preDnatTiers.length > 0;
    const any = dispatch(() => true);
    const chains = [
      ...place("filter", hostFilterDispatch(any)),
      ...place("raw", hostRawDispatch(dispatch(hasUntracked).interfaces)),
      ...place("mangle", hostMangleDispatch(dispatch(hasPreDnat), any, s)),
    ];
    for (const [name, endpoint] of all) {
      const input = this.#inputOf(endpoint, name);
      const untracked = { ...input, tiers: this.#grouped(endpoint.untrackedTiers) };
      const preDnat = { ...input, tiers: this.#grouped(endpoint.preDnatTiers) };
      chains.push(
        ...place("filter", [...hostFilterChains(input, s), ...groupChains([...input.tiers, ...input.forwardTiers], s)]),
        ...place("mangle", [...hostMangleEgressChains(input, s), ...groupChains(input.tiers, s)]),
      );
      if (hasUntracked(endpoint) && name !== anyInterface) {
        chains.push(...place("raw", [...hostRawChains(untracked, s), ...groupChains(untracked.tiers, s)]));
      }
      if (hasPreDnat(endpoint)) {
        chains.push(...place("mangle", [...hostPreDnatChains(preDnat, s), ...groupChains(preDnat.tiers, s)]));
      }
    }
    return chains;
  }

  #fixedChains(s: NetfilterSettings): PlacedChain[] {
    const facts = this.#facts!;
    const place = (table: Table, chain: Chain) => ({ family: s.family, table, chain });
    const masquerades = facts.masqueradePools.some((p) => p.v === s.family);
    const floating = [...facts.floatingIps].filter(([external]) => external.includes(":") === (s.family === 6));
    const byInternal = new Map(
      floating.map(([external, internal]): [string, string] => [internal, external]).sort().reverse(),
    );
    return [
      place("nat", natOutgoingChain(masquerades, s)),
      place("nat", floatingInChain(new Map(floating))),
      place("nat", floatingOutChain(byInternal)),
      place("filter", serviceLoopChain([...facts.serviceCidrs], s)),
      place("mangle", dscpChain([])),
      place("raw", spoofChain(facts.spoofs ?? new Map(), s.family)),
    ];
  }
}

const setsOf = ({ source, destination }: Rule): SetId[] =>
  [source, destination].flatMap((side) => [
    ...[side.sets, side.notSets, side.serviceSets, side.namedPortSets, side.notNamedPortSets].flat(),
  ]);
const families = [4, 6] as const;
const familyOf = (member: string): Family => (member.includes(":") && !/^[\d.]+,/.test(member) ? 6 : 4);
const kernelType = (type: SetType): SetPlan["type"] => (type === "net" ? "hash:net" : "hash:ip,port");
const noSets = () => ({ setsPut: [], setsChanged: [], setsRemoved: [] });

/** Sets with names of their own, which the static rules look into; those that no rule looks into are left out. */
function fixedSets(facts: FilterFacts): SetPlan[] {
  return facts.settings.flatMap(({ family, ipip, vxlan, natExcludesHosts }) => {
    const nets = (cidrs: readonly Cidr[]) => cidrs.filter((c) => c.v === family).map(formatCidr);
    const set = (id: string, type: SetPlan["type"], members: string[]): SetPlan => ({
      name: setName(id, family),
      family,
      type,
      members: [...new Set(members)].sort(),
    });
    return [
      set("masq-ipam-pools", "hash:net", nets(facts.masqueradePools)),
      set("network-ip-pools", "hash:net", nets(facts.pools)),
      set("this-host", "hash:ip", facts.ownAddresses.filter((a) => a.v === family).map(formatIp)),
      ...ipip && family === 4 || natExcludesHosts ? [set("all-hosts-net", "hash:net", nets(facts.allHosts))] : [],
      ...vxlan ? [set("all-vxlan-net", "hash:net", nets(facts.vxlanHosts))] : [],
      set("dscp-src-net", "hash:net", []),
    ];
  });
}

/** The chains of groups that have one; each once. */
function groupChains(tiers: GroupedTier[], s: NetfilterSettings): Chain[] {
  const chains = new Map<string, Chain>();
  for (const tier of tiers) {
    for (const direction of ["ingress", "egress"] as Direction[]) {
      for (const group of tier[direction].filter((g) => !isInlined(g))) {
        const chain = groupChain(group, direction, s);
        chains.set(chain.name, chain);
      }
    }
  }
  return [...chains.values()];
}

function* policiesOf(endpoint: PolicedEndpoint | undefined): Generator<PolicyId> {
  for (const tier of endpoint?.tiers ?? []) {
    yield* tier.ingress;
    yield* tier.egress;
  }
}

const bigToText = (_: string, value: unknown) => typeof value === "bigint" ? `${value}n` : value;

/** Equal as JSON; addresses are bigint, maps lists of pairs. */
function sameJson(a: unknown, b: unknown): boolean {
  const text = (v: unknown) => JSON.stringify(v instanceof Map ? [...v] : v, bigToText);
  return a === b || text(a) === text(b);
}
