import { bits, type Cidr, compareIp, contains, tryParseCidrOrIp, tryParseIp, tryParseMac } from "../../lib/ip.ts";
import { isObject, parseJson } from "../../lib/json64.ts";
import { messageOf } from "../../lib/problem.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import type { Resource } from "../../datastore/kind.ts";
import { affinityPrefix, kindPrefix, parseKey, resourceKey } from "../../datastore/keys.ts";
import { parseEndpointName } from "../../datastore/names.ts";
import type { KeyValue } from "../../datastore/store.ts";
import type { Changes } from "../../datastore/mirror.ts";
import { encapsulationOf } from "../../ipam/pools/encapsulation.ts";
import { decodePool, type Pool } from "../../ipam/pools/pool.ts";
import { routeOwner } from "../../ipam/pools/route_owner.ts";
import type { Desired, Encapsulation, LocalEndpoint } from "../desired.ts";
import { FelixSources } from "../felix_sources.ts";
import type { SettingProblem } from "../settings.ts";
import { networkSettings } from "./settings.ts";

/** What does not come from the datastore. */
export interface LocalFacts {
  node: string;
  /** This node runs BIRD. */
  birdRuns: boolean;
  env: (name: string) => string | undefined;
}

type Spec = Record<string, unknown>;

/** Who keeps the values below a prefix. `read` throws when it cannot. */
interface KeyReader {
  prefix: string;
  /** Default: all keys below it. */
  concerns?: (key: string) => boolean;
  read: (kv: KeyValue) => void;
  drop: (key: string) => void;
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
  readonly #readers: KeyReader[];

  constructor(facts: LocalFacts) {
    this.#facts = facts;
    this.#felix = new FelixSources(facts.node, facts.env);
    const dropFrom = (map: Map<string, unknown>) => (key: string) => void map.delete(key);
    const specs = (prefix: string) => ({
      prefix,
      read: (kv: KeyValue) => void this.#specs.set(kv.key, resourceOf(kv).spec as Spec),
      drop: dropFrom(this.#specs),
    });
    this.#readers = [
      {
        prefix: kindPrefix("WorkloadEndpoint"),
        concerns: (key) => this.#isLocal(key),
        read: (kv) => void this.#endpoints.set(kv.key, endpointOf(kv.key, resourceOf(kv))),
        drop: dropFrom(this.#endpoints),
      },
      { prefix: affinityPrefix(facts.node), read: (kv) => this.#readAffinity(kv), drop: dropFrom(this.#blocks) },
      {
        prefix: kindPrefix("IPPool"),
        read: (kv) => void this.#pools.set(kv.key, decodePool(kv)),
        drop: dropFrom(this.#pools),
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
    for (const kv of set) {
      const reader = this.#readerOf(kv.key);
      if (!reader) continue;
      try {
        reader.read(kv);
        this.#unread.delete(kv.key);
        changed = true;
      } catch (error) {
        broken.set(kv.key, messageOf(error));
        this.#unread.set(kv.key, messageOf(error));
      }
    }
    for (const key of deleted) {
      const reader = this.#readerOf(key);
      reader?.drop(key);
      this.#unread.delete(key);
      changed ||= reader !== undefined;
    }
    return { changed, broken };
  }

  /** Undefined for what this node's network does not depend on, other nodes' endpoints above all. */
  #readerOf(key: string) {
    return this.#readers.find((r) => key.startsWith(r.prefix) && (r.concerns?.(key) ?? true));
  }

  /** True when the cluster may be worked on: ClusterInformation `default` says datastoreReady. */
  ready(): boolean {
    return this.#specs.get(resourceKey("ClusterInformation", "default"))?.datastoreReady === true;
  }

  /** Values that cannot be read now, with the reason. */
  unread(): ReadonlyMap<string, string> {
    return this.#unread;
  }

  /** What must hold on this node, and settings that are not understood. */
  desired(): { desired: Desired; problems: SettingProblem[] } {
    const { programClusterRoutes, ...found } = networkSettings(this.#felix.sources());
    const { settings, problems } = found;
    const endpoints = new Map(this.#endpoints);
    const encapsulations = this.#encapsulations();
    return {
      desired: { endpoints, blackholes: this.#blackholes(programClusterRoutes), encapsulations, settings },
      problems,
    };
  }

  /** Own blocks, larger than one address, of pools whose routes the agent programs. Of pools that overlap the longer decides. */
  #blackholes(felix: string | undefined): Cidr[] {
    const settings = {
      felix,
      bgp: textOf(this.#configuration("BGPConfiguration", "default")?.programClusterRoutes),
      birdRuns: this.#facts.birdRuns,
    };
    const pools = [...this.#pools.values()].sort((a, b) => b.cidr.len - a.cidr.len);
    return [...this.#blocks.values()].filter((block) => {
      const pool = pools.find((p) => contains(p.cidr, block));
      return block.len < bits(block.v) && routeOwner(pool, settings) === "agent";
    }).sort(compareIp);
  }

  #encapsulations(): Set<Encapsulation> {
    const found = new Set<Encapsulation>();
    for (const pool of this.#pools.values()) {
      const { kind } = encapsulationOf(pool);
      if (kind === "ipip") found.add("ipip");
      else if (kind === "vxlan") found.add(pool.cidr.v === 4 ? "vxlan4" : "vxlan6");
    }
    return found;
  }

  #configuration(kind: string, name: string): Spec | undefined {
    return this.#specs.get(resourceKey(kind, name));
  }

  #isLocal(key: string): boolean {
    const name = key.slice(key.lastIndexOf("/") + 1);
    return parseEndpointName(name)?.node === this.#facts.node;
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
  const { interfaceName, mac, ipNetworks, ipNATs } = spec;
  if (typeof interfaceName !== "string" || interfaceName === "") throw new Error("spec.interfaceName: missing");
  if (mac && !tryParseMac(String(mac))) throw new Error(`spec.mac: "${mac}" is not a MAC address`);
  return {
    key,
    interfaceName,
    mac: mac ? String(mac).toLowerCase().replaceAll("-", ":") : undefined,
    nets: listOf(ipNetworks).map((net, i) => readAs(tryParseCidrOrIp, net, `spec.ipNetworks[${i}]`)),
    floatingIps: listOf(ipNATs).map((nat, i) =>
      readAs(tryParseIp, (nat as Spec | null)?.externalIP, `spec.ipNATs[${i}].externalIP`)
    ),
  };
}

const textOf = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);

function readAs<T>(parse: (text: string) => T | undefined, value: unknown, field: string): T {
  const result = typeof value === "string" ? parse(value) : undefined;
  if (result === undefined) throw new Error(`${field}: ${JSON.stringify(value)} is no address`);
  return result;
}
