import {
  bits,
  type Cidr,
  compareIp,
  contains,
  type Family,
  tryParseCidrOrIp,
  tryParseIp,
  tryParseMac,
} from "../../lib/ip.ts";
import { isObject, parseJson } from "../../lib/json64.ts";
import { messageOf } from "../../lib/problem.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import type { Resource } from "../../datastore/kind.ts";
import { blockPrefix } from "../../datastore/ipam_keys.ts";
import { affinityPrefix, kindPrefix, ownerOf, parseKey, resourceKey } from "../../datastore/keys.ts";
import { isEndpointOf } from "../../datastore/names.ts";
import type { KeyValue } from "../../datastore/store.ts";
import type { Changes } from "../../datastore/mirror.ts";
import { decodeBlock } from "../../ipam/block.ts";
import { encapsulationOf } from "../../ipam/pools/encapsulation.ts";
import { decodePool, type Pool } from "../../ipam/pools/pool.ts";
import { routeOwner } from "../../ipam/pools/route_owner.ts";
import type { Desired, Encapsulation, LocalEndpoint, NetworkSettings, OwnTunnel, WireguardPlan } from "../desired.ts";
import { FelixSources } from "../felix_sources.ts";
import type { SettingProblem } from "../settings.ts";
import { bandwidthOf } from "./bandwidth.ts";
import { type ClusterNode, clusterNode, type ResolvedNodes, resolveNodes } from "./cluster_nodes.ts";
import { ClusterRoutes, homeless, ownedIn, type RouteContext } from "./cluster_routes.ts";
import { networkSettings } from "./settings.ts";
import { unencrypted, wireguardPlan } from "./wireguard.ts";

/** What does not come from the datastore. */
export interface LocalFacts {
  node: string;
  /** This node runs BIRD. */
  birdRuns: boolean;
  env: (name: string) => string | undefined;
}

type Spec = Record<string, unknown>;

/** What must hold, and what is wrong with what was said. */
export interface DesiredNetwork {
  desired: Desired;
  /** Settings that are not understood. */
  problems: SettingProblem[];
  /** Nodes that cannot be reached as they say. */
  findings: ResolvedNodes["findings"];
}

/** Who keeps the values below a prefix. `read` throws when it cannot; false = nothing that matters changed. */
interface KeyReader {
  prefix: string;
  /** Default: all keys below it. */
  concerns?: (key: string) => boolean;
  read: (kv: KeyValue) => boolean | void;
  drop: (key: string) => boolean | void;
}

/**
 * What the datastore says about this node's network, kept up to date by changes. A value that cannot be read is told of
 * and the last good one stays, because a broken edit must not take a running pod's routes away.
 */
export class NetworkInputs {
  readonly #facts: LocalFacts;
  readonly #endpoints = new Map<string, LocalEndpoint>();
  readonly #blocks = new Map<string, Cidr>();
  readonly #pools = new Map<string, Pool>();
  /** Specs of BGPConfigurations and the ClusterInformation, by key. */
  readonly #specs = new Map<string, Spec>();
  readonly #felix: FelixSources;
  readonly #unread = new Map<string, string>();
  readonly #nodes = new Map<string, ClusterNode>();
  readonly #routes = new ClusterRoutes();
  /** Undefined = pools, nodes or settings changed since it was made. */
  #context: RouteContext | undefined;
  #wireguard: { of: string; context: RouteContext; plans: Partial<Record<Family, WireguardPlan>> } | undefined;
  #lost: { revision: number; context: RouteContext; nodes: ResolvedNodes["findings"] } | undefined;
  readonly #readers: KeyReader[];

  constructor(facts: LocalFacts) {
    this.#facts = facts;
    this.#felix = new FelixSources(facts.node, facts.env);
    const dropFrom = (map: Map<string, unknown>) => (key: string) => void map.delete(key);
    /** All routes depend on these. */
    const basic = (prefix: string, map: Map<string, unknown>, read: (kv: KeyValue) => unknown): KeyReader => ({
      prefix,
      read: (kv) => {
        map.set(kv.key, read(kv));
        this.#context = undefined;
      },
      drop: (key) => {
        map.delete(key);
        this.#context = undefined;
      },
    });
    const specs = (prefix: string) => basic(prefix, this.#specs, (kv) => resourceOf(kv).spec);
    this.#readers = [
      {
        prefix: kindPrefix("WorkloadEndpoint"),
        concerns: (key) => this.#isLocal(key),
        read: (kv) => void this.#endpoints.set(kv.key, endpointOf(kv.key, resourceOf(kv))),
        drop: dropFrom(this.#endpoints),
      },
      {
        prefix: affinityPrefix(ownerOf(facts.node)),
        read: (kv) => this.#readAffinity(kv),
        drop: dropFrom(this.#blocks),
      },
      basic(kindPrefix("IPPool"), this.#pools, decodePool),
      { prefix: kindPrefix("Node"), read: (kv) => this.#readNode(kv), drop: (key) => this.#dropNode(key) },
      {
        prefix: blockPrefix,
        read: (kv) => this.#routes.set(kv.key, ownedIn(decodeBlock(kv.value, kv.key))),
        drop: (key) => this.#routes.set(key, undefined),
      },
      ...["BGPConfiguration", "ClusterInformation"].map((kind) => specs(kindPrefix(kind))),
    ];
  }

  /**
   * Takes a step of the mirror.
   * @returns whether desired() may have changed, and keys whose new values are unreadable, with the reason.
   */
  update({ set, deleted }: Pick<Changes, "set" | "deleted">): { changed: boolean; broken: Map<string, string> } {
    const { changed: felixChanged, broken } = this.#felix.update({ set, deleted });
    for (const [key, why] of broken) this.#unread.set(key, why);
    let changed = felixChanged;
    if (felixChanged) this.#context = undefined;
    for (const kv of set) {
      const reader = this.#readerOf(kv.key);
      if (!reader) continue;
      try {
        const matters = reader.read(kv) !== false;
        this.#unread.delete(kv.key);
        changed ||= matters;
      } catch (error) {
        broken.set(kv.key, messageOf(error));
        this.#unread.set(kv.key, messageOf(error));
      }
    }
    for (const key of deleted) {
      const reader = this.#readerOf(key);
      const matters = reader !== undefined && reader.drop(key) !== false;
      this.#unread.delete(key);
      changed ||= matters;
    }
    return { changed, broken };
  }

  /** Undefined for what this node's network does not depend on, other nodes' endpoints above all. */
  #readerOf(key: string) {
    const reader = this.#readers.find((r) => key.startsWith(r.prefix));
    return reader?.concerns?.(key) === false ? undefined : reader;
  }

  /** True when the cluster may be worked on: ClusterInformation `default` says datastoreReady. */
  ready(): boolean {
    return this.#specs.get(resourceKey("ClusterInformation", "default"))?.datastoreReady === true;
  }

  /** Values that cannot be read now, with the reason. */
  unread(): ReadonlyMap<string, string> {
    return this.#unread;
  }

  /** What must hold on this node, and what cannot. */
  desired(): DesiredNetwork {
    const { programClusterRoutes, settings, problems } = networkSettings(this.#felix.sources());
    this.#context ??= this.#newContext(programClusterRoutes);
    const { nodes } = this.#context;
    const encapsulations = this.#encapsulations(settings);
    const vteps = (v: Family) => [...nodes.others.values()].flatMap((n) => n.vtep[v] ?? []);
    const desired: Desired = {
      endpoints: new Map(this.#endpoints),
      blackholes: this.#blackholes(this.#context),
      ...{ encapsulations, settings },
      ownAddresses: { 4: nodes.own?.address[4]?.ip, 6: nodes.own?.address[6]?.ip },
      tunnels: Object.fromEntries(ownTunnels(nodes.own).filter(([kind]) => encapsulations.has(kind))),
      vteps: { 4: vteps(4), 6: vteps(6) },
      clusterRoutes: this.#routes.flush(this.#context),
      wireguard: this.#wireguardPlans(this.#context, settings),
    };
    const findings = [...nodes.findings, ...this.#homeless(this.#context), ...unencrypted(nodes, settings.wireguard)];
    return { desired, problems, findings };
  }

  /** Worked out anew when nodes or blocks changed. */
  #homeless(context: RouteContext): ResolvedNodes["findings"] {
    const { revision } = this.#routes;
    if (this.#lost?.revision !== revision || this.#lost.context !== context) {
      this.#lost = { revision, context, nodes: homeless(this.#routes.owned(), context) };
    }
    return this.#lost.nodes;
  }

  /** Worked out anew when nodes, blocks or settings changed. */
  #wireguardPlans(context: RouteContext, { wireguard }: NetworkSettings): Partial<Record<Family, WireguardPlan>> {
    const of = `${this.#routes.revision} ${JSON.stringify(wireguard)}`;
    if (this.#wireguard?.of === of && this.#wireguard.context === context) return this.#wireguard.plans;
    const plans: Partial<Record<Family, WireguardPlan>> = {};
    const pods = context.pools.filter(({ uses }) => uses.includes("Workload")).map(({ cidr }) => cidr);
    for (const v of [4, 6] as const) {
      if (wireguard.enabled[v]) plans[v] = wireguardPlan(v, this.#routes.owned(), context.nodes, wireguard, pods);
    }
    this.#wireguard = { of, context, plans };
    return plans;
  }

  #newContext(felix: string | undefined): RouteContext {
    const bgp = textOf(this.#configuration("BGPConfiguration", "default")?.programClusterRoutes);
    return {
      node: this.#facts.node,
      nodes: resolveNodes(this.#nodes.values(), this.#facts.node),
      pools: [...this.#pools.values()].sort((a, b) => b.cidr.len - a.cidr.len),
      owner: { felix, bgp, birdRuns: this.#facts.birdRuns },
    };
  }

  /** Own blocks, larger than one address, of pools whose routes the agent programs. Of pools that overlap the longer decides. */
  #blackholes({ pools, owner }: RouteContext): Cidr[] {
    return [...this.#blocks.values()].filter((block) => {
      const pool = pools.find((p) => contains(p.cidr, block));
      return block.len < bits(block.v) && routeOwner(pool, owner) === "agent";
    }).sort(compareIp);
  }

  /** Those of any pool; a setting may switch IPIP, and VXLAN of IPv4, on or off. */
  #encapsulations({ ipipEnabled, vxlanEnabled }: NetworkSettings): Set<Encapsulation> {
    const found = new Set<Encapsulation>();
    for (const pool of this.#pools.values()) {
      const { kind } = encapsulationOf(pool);
      if (kind === "ipip") found.add("ipip");
      else if (kind === "vxlan") found.add(pool.cidr.v === 4 ? "vxlan4" : "vxlan6");
    }
    for (const [kind, said] of [["ipip", ipipEnabled], ["vxlan4", vxlanEnabled]] as const) {
      if (said === true) found.add(kind);
      if (said === false) found.delete(kind);
    }
    return found;
  }

  /** Most writes of a Node change nothing that packets depend on. */
  #readNode(kv: KeyValue): boolean {
    const { metadata, spec, status } = resourceOf(kv), before = this.#nodes.get(kv.key);
    const node = clusterNode(metadata.name, spec as Spec, isObject(status) ? status as Spec : {});
    if (before && nodeText(before) === nodeText(node)) return false;
    this.#nodes.set(kv.key, node);
    this.#context = undefined;
    return true;
  }

  #dropNode(key: string): boolean {
    this.#context = undefined;
    return this.#nodes.delete(key);
  }

  #configuration(kind: string, name: string): Spec | undefined {
    return this.#specs.get(resourceKey(kind, name));
  }

  #isLocal(key: string): boolean {
    return isEndpointOf(this.#facts.node, key);
  }

  #readAffinity(kv: KeyValue): void {
    const parsed = parseKey(kv.key);
    if (parsed?.is !== "affinity") return;
    const value = kv.value.trim() === "" ? {} : parseJson(kv.value);
    if (!isObject(value)) throw new Error("not a JSON object");
    // A claim counts once it is confirmed; Calico's oldest claims have no state and are.
    if ((value.state ?? "") === "" || value.state === "confirmed") this.#blocks.set(kv.key, parsed.cidr);
    else this.#blocks.delete(kv.key);
  }
}

function resourceOf(kv: KeyValue): Resource {
  const resource = decodeResource(kv);
  if (!resource) throw new Error("no resource has such a key");
  if (isUndecodable(resource)) throw new Error(resource.why);
  return resource;
}

/** An endpoint from its resource. @throws Error naming the field that cannot be understood. */
export function endpointOf(key: string, { spec }: Resource): LocalEndpoint {
  const { interfaceName, mac, ipNetworks, ipNATs, allowSpoofedSourcePrefixes, qosControls } = spec;
  if (typeof interfaceName !== "string" || interfaceName === "") throw new Error("spec.interfaceName: missing");
  if (mac && !tryParseMac(String(mac))) throw new Error(`spec.mac: "${mac}" is not a MAC address`);
  const bandwidth = bandwidthOf(qosControls);
  return {
    key,
    interfaceName,
    mac: mac ? String(mac).toLowerCase().replaceAll("-", ":") : undefined,
    nets: listOf(ipNetworks).map((net, i) => readAs(tryParseCidrOrIp, net, `spec.ipNetworks[${i}]`)),
    ...(listOf(allowSpoofedSourcePrefixes).length > 0 && { spoofs: true }),
    ...(bandwidth && { bandwidth }),
    floatingIps: listOf(ipNATs).map((nat, i) =>
      readAs(tryParseIp, (nat as Spec | null)?.externalIP, `spec.ipNATs[${i}].externalIP`)
    ),
  };
}

/** This node's ends: a tunnel without an address waits for one. */
function ownTunnels(own: ClusterNode | undefined): [Encapsulation, OwnTunnel][] {
  const { ipip, vtep } = own ?? {};
  return [
    ...(ipip ? [["ipip", { ip: ipip, mac: undefined }] as [Encapsulation, OwnTunnel]] : []),
    ...([4, 6] as const).flatMap((v): [Encapsulation, OwnTunnel][] => {
      const end = vtep?.[v];
      return end ? [[`vxlan${v}`, { ip: end.ip, mac: end.mac }]] : [];
    }),
  ];
}

const nodeText = (node: ClusterNode): string =>
  JSON.stringify(node, (_, value) => (typeof value === "bigint" ? `${value}n` : value));
const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

function readAs<T>(parse: (text: string) => T | undefined, value: unknown, field: string): T {
  const result = typeof value === "string" ? parse(value) : undefined;
  if (result === undefined) throw new Error(`${field}: ${JSON.stringify(value)} is no address`);
  return result;
}
