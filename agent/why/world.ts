import {
  bits,
  type Cidr,
  cidrOf,
  contains,
  type Family,
  formatIp,
  type Ip,
  type IpNet,
  tryParseIp,
  tryParseNet,
} from "../../lib/ip.ts";
import { isObject } from "../../lib/json64.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import type { Resource } from "../../datastore/kind.ts";
import { parseKey } from "../../datastore/keys.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { encapsulationTo } from "../../ipam/pools/encapsulation.ts";
import { decodePool, type Pool } from "../../ipam/pools/pool.ts";
import { ChangeReader } from "../calc/changes.ts";
import { fromScratch, type PolicyState } from "../calc/from_scratch.ts";
import { type Input, type SubjectInput, understand } from "../calc/inputs.ts";
import type { SetSource } from "../calc/rule_input.ts";
import type { SetId } from "../desired_policy.ts";
import { FactInputs } from "../netfilter/facts.ts";
import { type HostInterface, hostInterfaces } from "../netfilter/host_interfaces.ts";
import type { FilterFacts } from "../netfilter/program.ts";
import type { NodeRules } from "./node_walk.ts";

/** What is known of a node. */
export interface NodeFacts {
  name: string;
  /** Its addresses with their subnets, as the Node says for BGP. */
  addresses: IpNet[];
  interfaces: readonly HostInterface[];
}

type Spec = Record<string, unknown>;

/**
 * A datastore at one moment, for questions about packets. What differs on a node alone (environment, files, interfaces that
 * the Node does not list) is not seen from here.
 */
export class World {
  readonly resources: readonly Resource[];
  readonly subjects: readonly SubjectInput[];
  readonly pools: readonly Pool[];
  readonly nodes: ReadonlyMap<string, NodeFacts>;
  /** What fills each set that a rule names. */
  readonly sources: ReadonlyMap<SetId, SetSource>;
  /** By id: `WorkloadEndpoint:shop/n1-k8s-web-eth0`. */
  readonly byId: ReadonlyMap<string, Resource>;
  readonly #stored: readonly KeyValue[];
  readonly #inputs: ReadonlyMap<string, Input>;
  readonly #states = new Map<string, { state: PolicyState; facts: FilterFacts }>();
  readonly #rules = new Map<string, NodeRules>();
  readonly #profileLabels: ReadonlyMap<string, ReadonlyMap<string, string>>;

  /** @param stored everything below `/calico/resources/v3/projectcalico.org/`. */
  constructor(stored: readonly KeyValue[]) {
    this.#stored = stored;
    const changes = new ChangeReader().read({ set: [...stored], deleted: [] }).changes;
    this.resources = changes.flatMap((c) => ("set" in c ? [c.set] : []));
    const read = this.resources.map((resource) => ({ resource, ...understand(resource) }));
    this.byId = new Map(read.map((r) => [r.id, r.resource]));
    const inputs = read.flatMap((r) => r.input ?? []);
    this.#inputs = new Map(inputs.map((i) => [i.id, i]));
    this.subjects = inputs.filter((i): i is SubjectInput => ["workload", "host", "networkSet"].includes(i.is));
    this.sources = new Map(inputs.flatMap((i) => (i.is === "policy" || i.is === "profile" ? [...i.sets] : [])));
    this.#profileLabels = new Map(inputs.flatMap((i) => (i.is === "profile" ? [[i.name, i.labels]] : [])));
    this.pools = stored.flatMap((kv) => poolOf(kv) ?? []);
    this.nodes = new Map(stored.flatMap((kv) => nodeOf(kv) ?? []).map((n) => [n.name, this.#withExpected(n)]));
  }

  /** A policy's, profile's or endpoint's input; undefined for what cannot be used. */
  input(id: string): Input | undefined {
    return this.#inputs.get(id);
  }

  /** Own labels, then those of the profiles, the first that has one. */
  labelsOf(subject: SubjectInput): Map<string, string> {
    const labels = new Map(subject.labels);
    for (const parent of subject.parents) {
      for (const [name, value] of this.#profileLabels.get(parent) ?? []) if (!labels.has(name)) labels.set(name, value);
    }
    return labels;
  }

  /** Endpoints and network sets that hold an address, the narrowest first. */
  holders(address: Ip): SubjectInput[] {
    const narrowest = (s: SubjectInput) => Math.max(...s.nets.filter((n) => contains(n, address)).map((n) => n.len));
    return this.subjects.filter((s) => s.nets.some((n) => contains(n, address)))
      .sort((a, b) => narrowest(b) - narrowest(a));
  }

  /** The workload whose address this is. */
  workloadAt(address: Ip): SubjectInput | undefined {
    return this.subjects.find((s) => s.is === "workload" && s.nets.some((n) => isOnly(n, address)));
  }

  /** The node that has this address. */
  nodeAt(address: Ip): NodeFacts | undefined {
    const has = (n: NodeFacts) => n.interfaces.some((i) => i.addresses.some((a) => isAt(a, address)));
    const found = [...this.nodes.values()].find(has);
    if (found) return found;
    const host = this.subjects.find((s) => s.is === "host" && s.nets.some((n) => isOnly(n, address)));
    return host?.node === undefined ? undefined : this.node(host.node);
  }

  /** A node, also one that has only endpoints. */
  node(name: string): NodeFacts {
    return this.nodes.get(name) ?? this.#withExpected({ name, addresses: [], interfaces: [] });
  }

  /** Addresses that only host endpoints tell of are taken to be there, each on an interface called after it. */
  #withExpected(node: NodeFacts): NodeFacts {
    const expected = this.subjects.filter((s) => s.is === "host" && s.node === node.name && s.interfaceName === "")
      .flatMap((s) => s.nets).filter((n) => n.len === bits(n.v));
    const isKnown = (ip: Ip) => node.interfaces.some((i) => i.addresses.some((a) => isAt(a, ip)));
    const more = expected.filter((n) => !isKnown(n)).map((n): HostInterface => ({
      name: `${unnamedInterface}${formatIp(n)}`,
      addresses: [{ v: n.v, n: n.n }],
    }));
    return more.length === 0 ? node : { ...node, interfaces: [...node.interfaces, ...more] };
  }

  /** What decides on a node about packets of a version. */
  rules(node: string, family: Family): NodeRules {
    const key = `${family} ${node}`, known = this.#rules.get(key);
    if (known) return known;
    const made = this.#rulesOf(node, family);
    this.#rules.set(key, made);
    return made;
  }

  #rulesOf(node: string, family: Family): NodeRules {
    const { state, facts } = this.#stateOf(node);
    const settings = facts.settings.find((s) => s.family === family) ?? facts.settings[0]!;
    const hosts = [...state.endpoints.values()].filter((e) => e.kind === "host");
    return {
      ...{ node, state, settings: { ...settings, family }, serviceCidrs: facts.serviceCidrs },
      hosts: hostInterfaces(hosts, this.node(node).interfaces, settings.interfacePrefixes),
    };
  }

  /** How packets between two nodes' workloads travel: a tunnel's device, or undefined for the nodes' own interfaces. */
  tunnelBetween(from: string, to: string, address: Ip): string | undefined {
    const pool = this.pools.find((p) => contains(p.cidr, address));
    const at = (node: string) => this.node(node).addresses.find((a) => a.ip.v === address.v);
    const kind = pool ? encapsulationTo(pool, at(from)?.cidr, at(to)?.ip) : "none";
    if (kind === "none") return undefined;
    return kind === "ipip" ? "tunl0" : address.v === 4 ? "vxlan.calico" : "vxlan-v6.calico";
  }

  #stateOf(node: string): { state: PolicyState; facts: FilterFacts } {
    const known = this.#states.get(node);
    if (known) return known;
    const inputs = new FactInputs(node, () => undefined);
    inputs.update({ set: [...this.#stored], deleted: [] });
    const facts = inputs.facts(inputs.parameters().settings, { interfaces: this.node(node).interfaces, ipv6: true });
    const made = { state: fromScratch(this.resources, node), facts };
    this.#states.set(node, made);
    return made;
  }
}

function poolOf(kv: KeyValue): Pool | undefined {
  const parsed = parseKey(kv.key);
  if (parsed?.is !== "resource" || parsed.kind !== "IPPool") return undefined;
  try {
    return decodePool(kv);
  } catch {
    // A pool that cannot be read counts as absent, here as in the agent.
    return undefined;
  }
}

function nodeOf(kv: KeyValue): NodeFacts | undefined {
  const parsed = parseKey(kv.key);
  if (parsed?.is !== "resource" || parsed.kind !== "Node") return undefined;
  const resource = decodeResource(kv);
  if (!resource || isUndecodable(resource)) return undefined;
  const spec: Spec = isObject(resource.spec) ? resource.spec as Spec : {};
  const bgp: Spec = isObject(spec.bgp) ? spec.bgp as Spec : {};
  const addresses = ["ipv4Address", "ipv6Address"].flatMap((field): IpNet[] => {
    const text = String(bgp[field] ?? ""), ip = tryParseIp(text);
    const net = ip ? { ip, cidr: cidrOf(ip, bits(ip.v)) } : tryParseNet(text);
    return net ? [net] : [];
  });
  const listed = (Array.isArray(spec.interfaces) ? spec.interfaces : []).filter(isObject).map((i): HostInterface => ({
    name: String(i.name),
    addresses: (Array.isArray(i.addresses) ? i.addresses : []).flatMap((a) => tryParseIp(String(a)) ?? []),
  }));
  const unlisted = addresses.filter((a) => !listed.some((i) => i.addresses.some((b) => isAt(a.ip, b))));
  return { name: parsed.name, addresses, interfaces: unlisted.length > 0 ? [...listed, unnamed(unlisted)] : listed };
}

/** The interface that the Node does not name. */
export const unnamedInterface = "?";
const unnamed = (addresses: readonly IpNet[]): HostInterface => ({
  name: unnamedInterface,
  addresses: addresses.map((a) => a.ip),
});

const isAt = (a: Ip, b: Ip): boolean => a.v === b.v && a.n === b.n;
/** True when the network is this address and no other. */
const isOnly = (net: Cidr, ip: Ip): boolean => net.len === bits(net.v) && isAt(net, ip);
