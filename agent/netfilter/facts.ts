import {
  bits,
  type Cidr,
  cidrOf,
  type Family,
  formatIp,
  type Ip,
  tryParseCidrOrIp,
  tryParseIp,
  tryParseNet,
} from "../../lib/ip.ts";
import { isObject } from "../../lib/json64.ts";
import { messageOf } from "../../lib/problem.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { kindPrefix, parseKey, resourceKey } from "../../datastore/keys.ts";
import type { Changes } from "../../datastore/mirror.ts";
import { isEndpointOf } from "../../datastore/names.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { encapsulationOf } from "../../ipam/pools/encapsulation.ts";
import { decodePool, type Pool } from "../../ipam/pools/pool.ts";
import { FelixSources } from "../felix_sources.ts";
import type { SettingProblem, SettingSources } from "../settings.ts";
import type { HostInterface } from "./host_interfaces.ts";
import type { FilterFacts } from "./program.ts";
import { type FilterParameters, filterParameters, settingsOf } from "./settings.ts";

type Spec = Record<string, unknown>;

/** What the kernel tells. */
export interface KernelFacts {
  /** This host's interfaces but those of workloads. */
  interfaces: readonly HostInterface[];
  /** The kernel has IPv6. */
  ipv6: boolean;
}

const endpoints = kindPrefix("WorkloadEndpoint");
const others = ["IPPool", "Node", "BGPConfiguration", "ClusterInformation"].map((kind) => kindPrefix(kind));

/**
 * What the rules depend on besides policy, kept up to date by the mirror's changes: settings, pools, nodes, floating
 * addresses. A value that cannot be read is told of and the last good one stays.
 */
export class FactInputs {
  readonly #node: string;
  readonly #felix: FelixSources;
  readonly #pools = new Map<string, Pool>();
  readonly #nodes = new Map<string, Spec>();
  readonly #specs = new Map<string, Spec>();
  /** Pairs of external and internal address, by the key of the endpoint. */
  readonly #nats = new Map<string, [string, string][]>();
  /** Interface, and networks that may be its packets' sources beside its own addresses, by the key of the endpoint. */
  readonly #spoofs = new Map<string, [string, Cidr[]]>();

  constructor(node: string, env: (name: string) => string | undefined) {
    this.#node = node;
    this.#felix = new FelixSources(node, env);
  }

  /** Takes a step of the mirror. @returns whether facts() may have changed, and what could not be read. */
  update({ set, deleted }: Pick<Changes, "set" | "deleted">): { changed: boolean; broken: Map<string, string> } {
    const { changed: felixChanged, broken } = this.#felix.update({ set, deleted });
    let changed = felixChanged;
    for (const kv of set) {
      if (!this.#concerns(kv.key)) continue;
      try {
        changed = this.#read(kv) || changed;
      } catch (error) {
        broken.set(kv.key, messageOf(error));
      }
    }
    for (const key of deleted) {
      for (const map of [this.#pools, this.#nodes, this.#specs, this.#nats, this.#spoofs]) {
        changed = map.delete(key) || changed;
      }
    }
    return { changed, broken };
  }

  /** True when the cluster may be worked on: ClusterInformation `default` says datastoreReady. */
  ready(): boolean {
    return this.#specs.get(resourceKey("ClusterInformation", "default"))?.datastoreReady === true;
  }

  /** The parameters in force, and those that are not understood. */
  parameters(): { settings: FilterParameters; problems: SettingProblem[] } {
    return filterParameters(this.#felix.sources());
  }

  /** Where parameters are said. */
  sources(): SettingSources {
    return this.#felix.sources();
  }

  /** What the rules depend on, now. */
  facts(p: FilterParameters, kernel: KernelFacts): FilterFacts {
    const pools = [...this.#pools.values()];
    const families: Family[] = p.ipv6 && kernel.ipv6 ? [4, 6] : [4];
    const kindsOf = (v: Family) =>
      new Set(pools.filter((pool) => pool.cidr.v === v).map((pool) => encapsulationOf(pool).kind));
    const settings = families.map((v) =>
      settingsOf(p, v, {
        ipip: p.ipipEnabled ?? kindsOf(4).has("ipip"),
        vxlan: (v === 4 ? p.vxlanEnabled : undefined) ?? kindsOf(v).has("vxlan"),
        devices: this.#tunnelDevices(v),
      })
    );
    const hosts = this.#hosts();
    const interfaces = withoutExcluded(kernel.interfaces, p.interfaceExclude);
    const strangers = p.externalNodes.flatMap((text) => tryParseCidrOrIp(text) ?? []);
    return {
      settings,
      masqueradePools: pools.filter((pool) => pool.natOutgoing).map((pool) => pool.cidr),
      pools: pools.filter((pool) => pool.uses.some((use) => use !== "LoadBalancer")).map((pool) => pool.cidr),
      ownAddresses: interfaces.flatMap((i) => i.addresses),
      allHosts: [...hosts.map(({ ip }) => cidrOf(ip, bits(ip.v))), ...strangers],
      vxlanHosts: [
        ...hosts.filter(({ node, vteps }) => node !== this.#node && vteps).map(({ ip }) => cidrOf(ip, bits(ip.v))),
        ...strangers,
      ],
      serviceCidrs: this.#serviceCidrs(),
      floatingIps: this.#floatingIps(p.floatingIps),
      interfaces,
      spoofs: p.sourceSpoofing ? new Map([...this.#spoofs.values()].sort()) : new Map(),
    };
  }

  #concerns(key: string): boolean {
    if (key.startsWith(endpoints)) return isEndpointOf(this.#node, key);
    return others.some((prefix) => key.startsWith(prefix));
  }

  #read(kv: KeyValue): boolean {
    const parsed = parseKey(kv.key);
    if (parsed?.is !== "resource") return false;
    if (parsed.kind === "IPPool") {
      this.#pools.set(kv.key, decodePool(kv));
      return true;
    }
    const resource = decodeResource(kv);
    if (!resource || isUndecodable(resource)) throw new Error(resource?.why ?? "no resource has such a key");
    const spec = isObject(resource.spec) ? resource.spec as Spec : {};
    if (parsed.kind === "WorkloadEndpoint") {
      const spoofs = this.#readSpoofs(kv.key, spec);
      return this.#readNats(kv.key, spec) || spoofs;
    }
    (parsed.kind === "Node" ? this.#nodes : this.#specs).set(kv.key, spec);
    return true;
  }

  #readSpoofs(key: string, spec: Spec): boolean {
    const nets = (Array.isArray(spec.allowSpoofedSourcePrefixes) ? spec.allowSpoofedSourcePrefixes : []).map((text) => {
      const net = tryParseCidrOrIp(String(text));
      if (!net) throw new Error(`spec.allowSpoofedSourcePrefixes: "${text}" is not a network`);
      return net;
    });
    if (nets.length === 0) return this.#spoofs.delete(key);
    this.#spoofs.set(key, [String(spec.interfaceName), nets]);
    return true;
  }

  /** Most endpoints have none, and then nothing changes. */
  #readNats(key: string, spec: Spec): boolean {
    const pairs = (Array.isArray(spec.ipNATs) ? spec.ipNATs : []).map((nat: Spec): [string, string] => {
      const external = tryParseIp(String(nat?.externalIP)), internal = tryParseIp(String(nat?.internalIP));
      if (!external || !internal) throw new Error("spec.ipNATs: not a pair of addresses");
      return [formatIp(external), formatIp(internal)];
    });
    if (pairs.length === 0) return this.#nats.delete(key);
    this.#nats.set(key, pairs);
    return true;
  }

  /** `vteps`: the node has an end of the VXLAN of the address's version. */
  #hosts(): { node: string; ip: Ip; vteps: boolean }[] {
    return [...this.#nodes].flatMap(([key, spec]) => {
      const bgp = isObject(spec.bgp) ? spec.bgp as Spec : {};
      return ([4, 6] as const).flatMap((v) => {
        const text = String(bgp[`ipv${v}Address`] ?? ""), end = spec[`ipv${v}VXLANTunnelAddr`];
        const ip = tryParseNet(text)?.ip ?? tryParseIp(text);
        const vteps = typeof end === "string" && end !== "";
        return ip ? [{ node: key.slice(key.lastIndexOf("/") + 1), ip, vteps }] : [];
      });
    });
  }

  /** Devices whose address this Node has: what leaves through them with another address is masqueraded. */
  #tunnelDevices(family: Family): string[] {
    const spec = this.#nodes.get(resourceKey("Node", this.#node)) ?? {};
    const bgp = isObject(spec.bgp) ? spec.bgp as Spec : {};
    const devices: [Family, string, unknown][] = [
      [4, "tunl0", bgp.ipv4IPIPTunnelAddr],
      [4, "vxlan.calico", spec.ipv4VXLANTunnelAddr],
      [6, "vxlan-v6.calico", spec.ipv6VXLANTunnelAddr],
    ];
    return devices.filter(([v, , address]) => v === family && typeof address === "string" && address !== "")
      .map(([, device]) => device);
  }

  #serviceCidrs(): string[] {
    const spec = this.#specs.get(resourceKey("BGPConfiguration", "default")) ?? {};
    return ["serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs"].flatMap((field) => {
      const blocks = Array.isArray(spec[field]) ? spec[field] as Spec[] : [];
      return blocks.flatMap((block) => (tryParseNet(String(block?.cidr)) ? [String(block.cidr)] : []));
    });
  }

  #floatingIps(enabled: boolean): Map<string, string> {
    return enabled ? new Map([...this.#nats.values()].flat().sort()) : new Map();
  }
}

/** Addresses of these interfaces say nothing: services' on `kube-ipvs0`, for one. */
function withoutExcluded(interfaces: readonly HostInterface[], patterns: readonly string[]): HostInterface[] {
  const excluded = patterns.map((p) => new RegExp(p));
  return interfaces.map((i) => (excluded.some((e) => e.test(i.name)) ? { ...i, addresses: [] } : i));
}
