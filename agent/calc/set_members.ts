import { type Cidr, compareIp, contains, formatCidr, formatIp, sameIp, tryParseCidr } from "../../lib/ip.ts";
import { parseSelector } from "../../datastore/selector/index.ts";
import type { SetId, SetType } from "../desired_policy.ts";
import type { SetSource } from "./rule_input.ts";

/** A port that an endpoint names. */
export interface NamedPort {
  name: string;
  protocol: "tcp" | "udp" | "sctp";
  port: number;
}

/** What an endpoint or network set can give to sets. */
export interface Contribution {
  nets: readonly Cidr[];
  ports: readonly NamedPort[];
  /** There are networks beside these that could not be read. */
  partial?: true;
}

/** Change of one set since the last flush. */
export interface SetChange {
  id: SetId;
  add: string[];
  remove: string[];
}

interface IpSet {
  source: SetSource;
  type: SetType;
  /** How many holders each member has; it leaves with the last one. */
  holders: Map<string, number>;
  /** Members touched since the last flush, and whether the set held them then. */
  touched: Map<string, boolean>;
  /** Holders of which not all members are known. */
  partials: number;
}

/** The counted members of all active sets. */
export class SetMembers {
  #sets = new Map<SetId, IpSet>();
  #turned = new Set<SetId>();

  /** Starts a set, empty. */
  create(id: SetId, source: SetSource): void {
    this.#sets.set(id, { source, type: typeOf(source), holders: new Map(), touched: new Map(), partials: 0 });
  }

  /** Ends a set. */
  drop(id: SetId): void {
    this.#sets.delete(id);
  }

  /** What the set is made of; undefined when it is not active. */
  sourceOf(id: SetId): SetSource | undefined {
    return this.#sets.get(id)?.source;
  }

  /** Type of an active set. */
  typeOf(id: SetId): SetType {
    return this.#sets.get(id)!.type;
  }

  /** Adds what one holder gives. */
  give(id: SetId, members: Iterable<string>): void {
    const set = this.#sets.get(id)!;
    for (const member of members) {
      const count = set.holders.get(member) ?? 0;
      if (count === 0) touch(set, member, false);
      set.holders.set(member, count + 1);
    }
  }

  /** Takes back what one holder gave. */
  take(id: SetId, members: Iterable<string>): void {
    const set = this.#sets.get(id)!;
    for (const member of members) {
      const count = set.holders.get(member) ?? 0;
      if (count > 1) set.holders.set(member, count - 1);
      else {
        touch(set, member, true);
        set.holders.delete(member);
      }
    }
  }

  /** Counts a holder in, or out. @returns whether that means anything to the set. */
  hold(id: SetId, from: Contribution, isHolder: boolean): boolean {
    const set = this.#sets.get(id)!;
    const members = membersOf(set.source, from);
    if (isHolder) this.give(id, members);
    else this.take(id, members);
    if (!from.partial || set.source.from !== "selector") return members.length > 0;
    const before = set.partials;
    set.partials += isHolder ? 1 : -1;
    if (before === 0 || set.partials === 0) this.#turned.add(id);
    return true;
  }

  /** Not all members of the set are known: one of its holders has some that could not be read. */
  isPartial(id: SetId): boolean {
    return (this.#sets.get(id)?.partials ?? 0) > 0;
  }

  /** Sets for which isPartial() may answer differently than when this was asked last. */
  takeTurned(): Set<SetId> {
    const turned = this.#turned;
    this.#turned = new Set();
    return turned;
  }

  /** All members now. */
  members(id: SetId): string[] {
    return [...this.#sets.get(id)?.holders.keys() ?? []];
  }

  /** What changed in the set since the last call; undefined when nothing did. */
  flush(id: SetId): SetChange | undefined {
    const set = this.#sets.get(id);
    if (!set || set.touched.size === 0) return undefined;
    const change: SetChange = { id, add: [], remove: [] };
    for (const [member, was] of set.touched) {
      const is = set.holders.has(member);
      if (is !== was) (is ? change.add : change.remove).push(member);
    }
    set.touched.clear();
    return change.add.length + change.remove.length > 0 ? change : undefined;
  }
}

/** What `from` gives to a set of this source: networks, or address, protocol and port for a named port. */
export function membersOf(source: SetSource, from: Contribution): string[] {
  switch (source.from) {
    case "selector":
      return from.nets.flatMap(netMembers);
    case "namedPort": {
      const ports = from.ports.filter((p) =>
        p.name === source.port && (source.protocol === "any" || p.protocol === source.protocol)
      );
      const text = (net: Cidr) => (net.len === (net.v === 4 ? 32 : 128) ? formatIp(net) : formatCidr(net));
      const members = from.nets.flatMap((net) => ports.map((p) => `${text(net)},${p.protocol}:${p.port}`));
      return [...new Set(members)];
    }
    case "service":
      return [];
  }
}

/** What an EndpointSlice gives to a set of its service: with the service's ports, or addresses only. */
export function sliceMembers(source: SetSource, slice: { addresses: Cidr[]; ports: NamedPort[] }): string[] {
  if (source.from !== "service" || !source.withPorts) {
    return membersOf({ from: "selector", selector: anySelector }, { nets: slice.addresses, ports: [] });
  }
  return slice.ports.flatMap((p) =>
    membersOf({ from: "namedPort", selector: anySelector, protocol: p.protocol, port: p.name }, {
      nets: slice.addresses,
      ports: [p],
    })
  );
}

const anySelector = parseSelector("");

/** True when both give the same to every set. */
export function sameContribution(a: Contribution, b: Contribution): boolean {
  return a.partial === b.partial && a.nets.length === b.nets.length && a.ports.length === b.ports.length &&
    a.nets.every((net, i) => sameIp(net, b.nets[i]!)) &&
    a.ports.every((port, i) =>
      port.name === b.ports[i]!.name && port.protocol === b.ports[i]!.protocol && port.port === b.ports[i]!.port
    );
}

/** A set of type hash:net cannot hold /0, so it becomes its two halves. */
function netMembers(net: Cidr): string[] {
  if (net.len > 0) return [formatCidr(net)];
  return net.v === 4 ? ["0.0.0.0/1", "128.0.0.0/1"] : ["::/1", "8000::/1"];
}

/**
 * Members without those that a bigger network of the same list covers: what an interval set can hold.
 * @param members networks as text; others are kept as they are.
 */
export function withoutCovered(members: string[]): string[] {
  const others: string[] = [];
  const nets: Cidr[] = [];
  for (const member of members) {
    const net = tryParseCidr(member);
    if (net) nets.push(net);
    else others.push(member);
  }
  // Sorted, a network comes before everything that it contains.
  const kept: Cidr[] = [];
  for (const net of nets.sort(compareIp)) {
    const last = kept.at(-1);
    if (!last || !contains(last, net)) kept.push(net);
  }
  return [...others, ...kept.map(formatCidr)];
}

const typeOf = (source: SetSource): SetType =>
  source.from === "namedPort" || (source.from === "service" && source.withPorts) ? "ipPort" : "net";

function touch(set: IpSet, member: string, was: boolean): void {
  if (!set.touched.has(member)) set.touched.set(member, was);
}
