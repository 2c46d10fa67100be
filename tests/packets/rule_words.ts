import { type Cidr, type Family, formatIp, type Ip, ipAt, parseIp, size, tryParseCidrOrIp } from "../../lib/ip.ts";
import { protocols } from "./packet.ts";

/** What rules speak of, gathered from their text: the values at which a verdict may change. */
export interface RuleWords {
  protocols: Set<number>;
  sourcePorts: Set<number>;
  destinationPorts: Set<number>;
  sources: Cidr[];
  destinations: Cidr[];
  icmp: { type: number; code: number }[];
  /** IP sets by name. */
  sets: Map<string, { withPorts: boolean }>;
}

/** Reads the words of iptables-restore lines. */
export function wordsOf(lines: readonly string[]): RuleWords {
  const found: RuleWords = {
    protocols: new Set(),
    sourcePorts: new Set(),
    destinationPorts: new Set(),
    sources: [],
    destinations: [],
    icmp: [],
    sets: new Map(),
  };
  for (const line of lines) {
    for (const [, name] of line.matchAll(/ -p (\S+)/g)) found.protocols.add(protocolNumber(name!));
    for (const [, side, list] of line.matchAll(/--(source|destination)-ports (\S+)/g)) {
      edges(list!).forEach((p) => (side === "source" ? found.sourcePorts : found.destinationPorts).add(p));
    }
    for (const [, side, text] of line.matchAll(/--(source|destination) (\S+)/g)) {
      const nets = text!.split(",").map((t) => tryParseCidrOrIp(t)!);
      (side === "source" ? found.sources : found.destinations).push(...nets);
    }
    for (const [, type, code] of line.matchAll(/--icmp(?:v6)?-type (\d+)(?:\/(\d+))?/g)) {
      found.icmp.push({ type: Number(type), code: Number(code ?? 0) }, {
        type: Number(type),
        code: Number(code ?? 0) + 1,
      });
    }
    for (const [, name, ways] of line.matchAll(/--match-set (\S+) (\S+)/g)) {
      found.sets.set(name!, { withPorts: ways!.includes(",") });
    }
  }
  return found;
}

const protocolNumber = (name: string): number =>
  (protocols as Record<string, number>)[name.toLowerCase()] ?? Number(name);

/** Ports at, just below and just above each range. */
function edges(list: string): number[] {
  return list.split(",").flatMap((item) => {
    const [min, max = min] = item.split(":").map(Number);
    return [min!, max!, min! - 1, max! + 1];
  }).filter((p) => p > 0 && p < 65536);
}

/** An address inside of a network, and one just outside of it; there is no outside of all. */
const around = (net: Cidr): Ip[] => net.len === 0 ? [] : [ipAt(net, size(net) > 1n ? 1 : 0), ipAt(net, size(net))];

/** A member of a set for each side; sets are told apart by their number. */
export const setMember = (family: Family, set: number, side: "source" | "destination"): Ip => {
  const host = set + (side === "source" ? 1 : 129);
  return parseIp(family === 4 ? `203.0.113.${host}` : `2001:db8:113::${host.toString(16)}`);
};
const strangers: Record<Family, Ip[]> = {
  4: ["198.51.100.7", "198.51.100.8"].map((t) => parseIp(t)),
  6: ["2001:db8:51::7", "2001:db8:51::8"].map((t) => parseIp(t)),
};
const namedPort = (set: number, side: "source" | "destination") => (side === "source" ? 20080 : 8080) + set;

/** Lines that fill the sets that rules look into. */
export function setLines(words: RuleWords, family: Family): string[] {
  return [...words.sets].flatMap(([name, { withPorts }], i) => {
    const type = withPorts ? "hash:ip,port" : "hash:net";
    const members = (["source", "destination"] as const).map((side) => {
      const address = setMember(family, i, side);
      return `add ${name} ${formatIp(address)}${withPorts ? `,tcp:${namedPort(i, side)}` : ""}`;
    });
    return [`create ${name} ${type} family ${family === 4 ? "inet" : "inet6"}`, ...members];
  });
}

/** Values worth trying for each part of a packet. */
export function candidates(words: RuleWords, family: Family) {
  const own = (nets: Cidr[]) => nets.filter((n) => n.v === family).flatMap(around);
  const members = (side: "source" | "destination") => [...words.sets.keys()].map((_, i) => setMember(family, i, side));
  const ports = (side: "source" | "destination") => [...words.sets.keys()].map((_, i) => namedPort(i, side));
  const sets = [...words.sets.keys()].map((_, i) => ({
    source: setMember(family, i, "source"),
    destination: setMember(family, i, "destination"),
    sourcePort: namedPort(i, "source"),
    destinationPort: namedPort(i, "destination"),
  }));
  const echo = { type: family === 4 ? 8 : 128, code: 0 };
  return {
    protocols: [...new Set([6, 17, family === 4 ? 1 : 58, 99, ...words.protocols])],
    sources: [strangers[family][0]!, ...own(words.sources), ...members("source")],
    destinations: [strangers[family][1]!, ...own(words.destinations), ...members("destination")],
    sourcePorts: [...words.sourcePorts, ...ports("source")],
    destinationPorts: [...new Set([80, 7, ...words.destinationPorts, ...ports("destination")])],
    members: sets,
    icmp: [echo, { type: family === 4 ? 13 : 139, code: 0 }, ...words.icmp],
  };
}
