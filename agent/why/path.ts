import { bits, contains, type Family, formatIp, type Ip } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";
import type { SubjectInput } from "../calc/inputs.ts";
import type { Packet } from "../calc/verdict.ts";
import type { PolicedEndpoint } from "../desired_policy.ts";
import { type Side, type Stage, walkNode } from "./node_walk.ts";
import { unnamedInterface, type World } from "./world.ts";

/** An end of a flow. */
export type Party =
  | { is: "workload"; endpoint: SubjectInput }
  | { is: "host"; node: string; address?: Ip }
  /** An address that no endpoint and no node has. */
  | { is: "outside"; address: Ip };

/** A packet and where it enters and leaves. Interfaces that are not given are those with the nodes' own addresses. */
export interface Question {
  from: Party;
  to: Party;
  family: Family;
  protocol: number;
  srcPort: number;
  dstPort: number;
  icmp?: { type: number; code: number };
  enters?: string;
  leaves?: string;
}

/** What becomes of a packet: every stage of its way, the last one a denial or its arrival. */
export interface Answer {
  packet: Packet;
  verdict: "allow" | "deny";
  stages: Stage[];
  /** What was taken for granted, in sentences. */
  assumed: string[];
}

/** Follows a flow's first packet from node to node. @throws Problem "bad-input" when no node of the cluster sees it. */
export function pathOf(world: World, question: Question): Answer {
  const { from, to, family } = question;
  const packet: Packet = {
    ...{ src: addressOf(world, from, family), dst: addressOf(world, to, family) },
    ...{ protocol: question.protocol, srcPort: question.srcPort, dstPort: question.dstPort, icmp: question.icmp },
  };
  const trip = new Trip(world, question, packet);
  const verdict = trip.run() ? "allow" : "deny";
  return { packet, verdict, stages: trip.stages, assumed: trip.assumed };
}

class Trip {
  readonly stages: Stage[] = [];
  readonly assumed: string[] = [];

  constructor(
    private readonly world: World,
    private readonly question: Question,
    private readonly packet: Packet,
  ) {}

  run(): boolean {
    const { from, to } = this.question;
    const first = nodeOf(from), last = nodeOf(to);
    if (first === undefined && last === undefined) {
      const what = `neither ${formatIp(this.packet.src)} nor ${formatIp(this.packet.dst)} is in this cluster`;
      throw new Problem({ code: "bad-input", what, todo: "name an endpoint, a node, or an address of one" });
    }
    if (first === last) return this.#node(first!, this.#side(from, first!), this.#side(to, first!), this.packet);
    const between = first !== undefined && last !== undefined && to.is === "workload"
      ? this.world.tunnelBetween(first, last, this.packet.dst)
      : undefined;
    if (between) this.#say(between, `between ${first} and ${last} it goes through ${between}`);
    let packet = this.packet;
    if (first !== undefined) {
      const out = between ?? this.question.leaves ?? this.#uplink(first, packet.src);
      if (!this.#node(first, this.#side(from, first), { is: "interface", name: out }, packet)) return false;
      packet = this.#translated(first, packet);
    }
    if (last === undefined) return true;
    const into = between ?? this.question.enters ?? this.#uplink(last, packet.dst);
    return this.#node(last, { is: "interface", name: into }, this.#side(to, last), packet);
  }

  #node(node: string, from: Side, to: Side, packet: Packet): boolean {
    const { stages, passes } = walkNode(this.world.rules(node, packet.src.v), from, to, packet);
    this.stages.push(...stages);
    return passes;
  }

  #side(party: Party, node: string): Side {
    if (party.is === "outside") throw new Error("an address outside is on no node");
    if (party.is === "host") return { is: "host" };
    return { is: "workload", endpoint: this.#policed(party.endpoint, node) };
  }

  #policed({ id }: SubjectInput, node: string): PolicedEndpoint {
    return this.world.rules(node, this.packet.src.v).state.endpoints.get(id)!;
  }

  /** The interface that has the address, or the node's own for the cluster. */
  #uplink(node: string, near: Ip): string {
    const { interfaces, addresses } = this.world.node(node);
    const at = (ip: Ip | undefined) =>
      interfaces.find((i) => i.addresses.some((a) => ip !== undefined && a.v === ip.v && a.n === ip.n));
    const found = at(near) ?? at(addresses.find((a) => a.ip.v === near.v)?.ip) ?? at(addresses[0]?.ip);
    if (found && found.name !== unnamedInterface) {
      return this.#say(found.name, `on ${node} it uses interface ${found.name}`);
    }
    const named = [...this.world.rules(node, near.v).hosts.named.keys()].filter((n) => n !== unnamedInterface);
    const has = found && this.world.rules(node, near.v).hosts.named.has(unnamedInterface);
    if (named.length === 1 && !has) {
      return this.#say(named[0]!, `on ${node} it uses the interface with a host endpoint, ${named[0]}`);
    }
    return this.#say(unnamedInterface, `the interface on ${node} is not known; no host endpoint names it`);
  }

  #say(name: string, sentence: string): string {
    if (!this.assumed.includes(sentence)) this.assumed.push(sentence);
    return name;
  }

  /** Outgoing NAT gives packets that leave all pools the node's address. */
  #translated(node: string, packet: Packet): Packet {
    const { pools } = this.world, { src, dst } = packet;
    const own = this.world.node(node).addresses.find((a) => a.ip.v === src.v)?.ip;
    const leaves = pools.some((p) => p.natOutgoing && contains(p.cidr, src)) &&
      !pools.some((p) => contains(p.cidr, dst));
    if (!leaves || !own) return packet;
    this.assumed.push(`it leaves ${node} with the node's address ${formatIp(own)} (natOutgoing)`);
    return { ...packet, src: own };
  }
}

const nodeOf = (party: Party): string | undefined =>
  party.is === "workload" ? party.endpoint.node : party.is === "host" ? party.node : undefined;

/** The address that a party uses. @throws Problem "bad-input" when it has none of the version. */
export function addressOf(world: World, party: Party, family: Family): Ip {
  const own = party.is === "workload"
    ? party.endpoint.nets.find((n) => n.v === family && n.len === bits(family))
    : party.is === "outside"
    ? party.address
    : party.address ?? hostAddress(world, party.node, family);
  if (own?.v === family) return { v: own.v, n: own.n };
  throw new Problem({ code: "bad-input", what: `${partyName(party)} has no IPv${family} address` });
}

function hostAddress(world: World, node: string, family: Family): Ip | undefined {
  const { addresses, interfaces } = world.node(node);
  const expected = world.subjects.filter((s) => s.is === "host" && s.node === node).flatMap((s) => s.nets);
  return addresses.find((a) => a.ip.v === family)?.ip ??
    interfaces.flatMap((i) => i.addresses).find((a) => a.v === family) ??
    expected.find((n) => n.v === family);
}

/** A party in words: its address or name. */
export function partyName(party: Party): string {
  if (party.is === "workload") return party.endpoint.id;
  return party.is === "host" ? `host ${party.node}` : formatIp(party.address);
}

/** Parties that a word may mean: an address, `namespace/pod`, a pod, a node, a host endpoint. */
export function partiesOf(world: World, word: string, address: Ip | undefined): Party[] {
  if (address) {
    const endpoint = world.workloadAt(address), node = world.nodeAt(address);
    return endpoint
      ? [{ is: "workload", endpoint }]
      : node
      ? [{ is: "host", node: node.name, address }]
      : [{ is: "outside", address }];
  }
  const [namespace, name] = word.includes("/") ? word.split("/", 2) as [string, string] : [undefined, word];
  const found: Party[] = [];
  for (const endpoint of world.subjects) {
    const resource = world.byId.get(endpoint.id)!,
      { metadata, spec } = resource as {
        metadata: { name: string; namespace?: string };
        spec: Record<string, unknown>;
      };
    const names = [metadata.name, spec.pod, spec.workload];
    if (
      endpoint.is === "workload" && names.includes(name) &&
      (namespace === undefined || metadata.namespace === namespace)
    ) {
      found.push({ is: "workload", endpoint });
    }
    if (endpoint.is === "host" && namespace === undefined && metadata.name === name) {
      found.push({
        is: "host",
        node: endpoint.node!,
        address: endpoint.nets[0] && { v: endpoint.nets[0].v, n: endpoint.nets[0].n },
      });
    }
  }
  if (namespace === undefined && world.nodes.has(word)) return [{ is: "host", node: word }];
  return found;
}
