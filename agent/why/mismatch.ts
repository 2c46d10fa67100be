import { contains, formatCidr, formatIp, type Ip } from "../../lib/ip.ts";
import { numberOf, type Packet, ruleMatches } from "../calc/verdict.ts";
import type { PortRange, Rule, SetId, SideMatch } from "../desired_policy.ts";

/** Says whether an address is in a set, and why: "is in it" and "is not" come with the words that decide. */
export type SetWords = (id: SetId, address: Ip, port: { protocol: number; port: number }) => string;
/** Members of sets. */
export type Members = (id: SetId) => Set<string> | undefined;

/**
 * The first part of a rule that a packet does not satisfy, in words; undefined when the rule matches.
 * @param words tells of a set.
 */
export function mismatchOf(rule: Rule, packet: Packet, members: Members, words: SetWords): string | undefined {
  if (ruleMatches(rule, packet, members)) return undefined;
  // One part at a time: the first that alone keeps the rule from matching is told.
  const bare: Rule = { action: rule.action, source: noSide, destination: noSide, words: rule.words };
  const fails = (part: Partial<Rule>) => !ruleMatches({ ...bare, ...part }, packet, members);
  if (rule.never) return "the rule is not understood";
  if (rule.ipVersion !== undefined && fails({ ipVersion: rule.ipVersion })) return `for IPv${rule.ipVersion} only`;
  const { protocol, notProtocol, icmp, notIcmp } = rule;
  if (protocol !== undefined && fails({ protocol })) return `for protocol ${protocol}`;
  if (notProtocol !== undefined && fails({ notProtocol })) return `not for protocol ${notProtocol}`;
  if (icmp && fails({ icmp })) {
    return `for ICMP type ${icmp.type}${icmp.code === undefined ? "" : ` code ${icmp.code}`}`;
  }
  if (notIcmp && fails({ notIcmp })) return `not for ICMP type ${notIcmp.type}`;
  return sideMismatch("source", rule, packet, fails, words) ??
    sideMismatch("destination", rule, packet, fails, words) ??
    "its parts do not hold together";
}

const noSide: SideMatch = {
  ...{ nets: [], notNets: [], ports: [], namedPortSets: [], notPorts: [], notNamedPortSets: [] },
  ...{ sets: [], notSets: [], serviceSets: [] },
};

function sideMismatch(
  name: "source" | "destination",
  rule: Rule,
  packet: Packet,
  fails: (part: Partial<Rule>) => boolean,
  words: SetWords,
): string | undefined {
  const side = rule[name], address = name === "source" ? packet.src : packet.dst;
  const port = { protocol: packet.protocol, port: name === "source" ? packet.srcPort : packet.dstPort };
  const only = (part: Partial<SideMatch>) => fails({ [name]: { ...noSide, ...part } });
  const said = (id: SetId) => words(id, address, port);
  if (only({ nets: side.nets })) return `${name} ${formatIp(address)} is not in ${netsText(side.nets)}`;
  if (only({ notNets: side.notNets })) return `${name} ${formatIp(address)} is excepted by ${netsText(side.notNets)}`;
  const missing = side.sets.find((id) => only({ sets: [id] }));
  if (missing) return `${name} is not selected: ${said(missing)}`;
  const excluded = side.notSets.find((id) => only({ notSets: [id] }));
  if (excluded) return `${name} is excepted: ${said(excluded)}`;
  const service = side.serviceSets.find((id) => only({ serviceSets: [id] }));
  if (service) return `${name} is not the service: ${said(service)}`;
  if (only({ ports: side.ports, namedPortSets: side.namedPortSets })) {
    const names = side.namedPortSets.map(said);
    const numbers = side.ports.length > 0 ? [`port ${port.port} is not in ${portsText(side.ports)}`] : [];
    return `${name} ${[...numbers, ...names].join("; ")}`;
  }
  if (only({ notPorts: side.notPorts })) return `${name} port ${port.port} is excepted by ${portsText(side.notPorts)}`;
  const named = side.notNamedPortSets.find((id) => only({ notNamedPortSets: [id] }));
  return named && `${name} port is excepted: ${said(named)}`;
}

/** A rule's parts that the packet satisfies, in words: what it asks, and why that holds. */
export function matchWords(rule: Rule, packet: Packet, words: SetWords): string[] {
  const parts: string[] = [];
  if (rule.protocol !== undefined) parts.push(`protocol ${rule.protocol}`);
  if (rule.notProtocol !== undefined) parts.push(`not protocol ${rule.notProtocol} (${numberOf(rule.notProtocol)})`);
  if (rule.icmp) parts.push(`ICMP type ${rule.icmp.type}`);
  for (const name of ["source", "destination"] as const) {
    const side = rule[name], address = name === "source" ? packet.src : packet.dst;
    const port = { protocol: packet.protocol, port: name === "source" ? packet.srcPort : packet.dstPort };
    const net = side.nets.find((n) => n.v === address.v && contains(n, address));
    if (net) parts.push(`${name} ${formatIp(address)} is in ${formatCidr(net)}`);
    for (const id of side.sets) parts.push(`${name} ${words(id, address, port)}`);
    const range = side.ports.find((p) => port.port >= p.min && port.port <= p.max);
    if (range) parts.push(`${name} port ${port.port}`);
    else for (const id of side.namedPortSets) parts.push(`${name} ${words(id, address, port)}`);
  }
  return parts.length > 0 ? parts : ["it asks for nothing in particular"];
}

const netsText = (nets: SideMatch["nets"]): string => nets.map(formatCidr).join(", ");
const portsText = (ports: PortRange[]): string =>
  ports.map((p) => (p.min === p.max ? String(p.min) : `${p.min}:${p.max}`)).join(", ");
