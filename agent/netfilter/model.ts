import type { Family } from "../../lib/ip.ts";
import type { Decider } from "../calc/verdict.ts";
import type { Direction, PortRange, Protocol, RuleAction, SetId } from "../desired_policy.ts";

/** The kernel's tables that we write. */
export type Table = "raw" | "mangle" | "nat" | "filter" | "security";

/** Which end of a packet. */
export type Side = "source" | "destination";

/** A condition of a rule. `not` turns it around. */
export type Match =
  | { is: "protocol"; protocol: Protocol; not?: boolean }
  /** `net` as text: a network, an address, or several with commas. */
  | { is: "net"; side: Side; net: string; not?: boolean }
  /** The address is in the set; with `port`, (address, protocol, port) is. */
  | { is: "set"; side: Side; set: SetId; port?: boolean; not?: boolean }
  /** One of at most 15 slots: a port takes one, a range two. */
  | { is: "ports"; side: Side; ports: PortRange[]; not?: boolean }
  | { is: "icmp"; type: number; code?: number; not?: boolean }
  /** The bits of `mask` have `value`. */
  | { is: "mark"; value: number; mask: number; not?: boolean }
  /** A name; ends in `+` when it is the beginning of names. */
  | { is: "interface"; direction: "in" | "out"; name: string }
  | { is: "connection"; states: ("RELATED" | "ESTABLISHED" | "INVALID" | "NEW" | "DNAT")[]; not?: boolean }
  | { is: "local"; side: Side; not?: boolean; throughOut?: boolean }
  /** The answer would not leave by the interface that the packet came in on. */
  | { is: "spoofed" }
  | { is: "limit"; rate: string; burst: number };

/** What a rule does. */
export type Action =
  | { is: "accept" | "drop" | "reject" | "return" | "notrack" }
  | { is: "jump" | "goto"; chain: string }
  /** The bits of `mask` become `value`. */
  | { is: "mark"; value: number; mask: number }
  | { is: "clear"; mask: number }
  | { is: "log"; prefix: string }
  | { is: "nflog"; group: number; prefix: string }
  | { is: "masquerade"; ports?: PortRange }
  | { is: "snat"; to: string; ports?: PortRange }
  | { is: "dnat"; to: string }
  | { is: "dscp"; value: number }
  /** Refuses a new TCP connection beyond this many. */
  | { is: "limit connections"; above: number };

/** Who decides about a packet, and what. */
export interface Decision {
  decider: Decider;
  direction: Direction;
  action: RuleAction;
}

/** One line of a chain. All matches must hold; no action = counted only. */
export interface NetRule {
  match: Match[];
  action?: Action;
  comments?: string[];
  /** What is decided about packets that come here; it is not written, and the first line of a chain with it counts them. */
  decides?: Decision;
}

/** A chain of ours. */
export interface Chain {
  name: string;
  rules: NetRule[];
}

/** The bits of the packet mark that are ours, from the lowest bit of the mask upwards. Source: Calico's felix/dataplane/driver.go. */
export interface Marks {
  /** Policy said Allow; also: accepted in an earlier table. */
  accept: number;
  /** Policy said Pass: the rest of the tier is skipped. */
  pass: number;
  /** Policy said Deny. */
  drop: number;
  /** Every block of a rule so far matches; also: came from a workload. */
  scratch0: number;
  /** This block of a rule matches. */
  scratch1: number;
  /** 0 without WireGuard. */
  wireguard: number;
}

/** @returns undefined when the mask has too few bits. */
export function marksOf(mask: number, withWireguard: boolean): Marks | undefined {
  const bits: number[] = [];
  for (let i = 0; i < 32; i++) if ((mask >>> i) & 1) bits.push((1 << i) >>> 0);
  const [accept, pass, drop, scratch0, scratch1, wireguard] = bits;
  if (scratch1 === undefined || (withWireguard && wireguard === undefined)) return undefined;
  return {
    accept: accept!,
    pass: pass!,
    drop: drop!,
    scratch0: scratch0!,
    scratch1,
    wireguard: withWireguard ? wireguard! : 0,
  };
}

/** A port that host policy never cuts. */
export interface Failsafe {
  protocol: string;
  port: number;
  /** Only for this network. */
  net?: string;
}

/** What rendering depends on. */
export interface NetfilterSettings {
  family: Family;
  marks: Marks;
  /** `cali`: interfaces that begin so belong to workloads. */
  interfacePrefixes: readonly string[];
  filterAllow: "accept" | "return";
  mangleAllow: "accept" | "return";
  deny: "drop" | "reject";
  endpointToHost: "drop" | "accept" | "return" | "reject";
  vxlan: boolean;
  vxlanPort: number;
  ipip: boolean;
  wireguardPort?: number;
  wireguardHostEncryption: boolean;
  /** Its devices, of both families. */
  wireguardDevices: readonly string[];
  /** Devices of tunnels that are on and have an address of this family. */
  tunnels: readonly string[];
  allowVxlanFromWorkloads: boolean;
  allowIpipFromWorkloads: boolean;
  conntrackInvalidCheck: boolean;
  failsafeIn: readonly Failsafe[];
  failsafeOut: readonly Failsafe[];
  logPrefix: string;
  logLimit?: { rate: string; burst: number };
  /** NFLOG before each verdict. */
  flowLogs: boolean;
  /** NFLOG, to a group of our own, before everything that drops: while somebody watches. */
  dropLogs: boolean;
  /** What filter has not judged is dropped behind it. */
  flushGuard: boolean;
  natPorts?: PortRange;
  natOutgoingAddress?: string;
  natOutgoingInterface?: string;
  natExcludesHosts: boolean;
  serviceLoops: "drop" | "reject" | "disabled";
}

/** Calico's defaults, for one family. */
export function defaultSettings(family: Family): NetfilterSettings {
  const tcp = (...ports: number[]): Failsafe[] => ports.map((port) => ({ protocol: "tcp", port }));
  const udp = (...ports: number[]): Failsafe[] => ports.map((port) => ({ protocol: "udp", port }));
  const cluster = tcp(179, 2379, 2380, 5473, 6443, 6666, 6667);
  return {
    family,
    marks: marksOf(0xffff0000, false)!,
    interfacePrefixes: ["cali"],
    filterAllow: "accept",
    mangleAllow: "accept",
    deny: "drop",
    endpointToHost: "drop",
    vxlan: false,
    vxlanPort: 4789,
    ipip: false,
    wireguardHostEncryption: false,
    wireguardDevices: ["wireguard.cali", "wg-v6.cali"],
    tunnels: [],
    allowVxlanFromWorkloads: false,
    allowIpipFromWorkloads: false,
    conntrackInvalidCheck: true,
    failsafeIn: [...tcp(22), ...udp(68), ...cluster],
    failsafeOut: [...udp(53, 67), ...cluster],
    logPrefix: "calico-packet",
    flowLogs: false,
    dropLogs: false,
    flushGuard: false,
    natExcludesHosts: false,
    serviceLoops: "drop",
  };
}

/** All bits of `mask` are set. */
export const markSet = (mask: number): Match => ({ is: "mark", value: mask, mask });
/** No bit of `mask` is set. */
export const markClear = (mask: number): Match => ({ is: "mark", value: 0, mask });
/** Sets all bits of `mask`. */
export const setMark = (mask: number): Action => ({ is: "mark", value: mask, mask });
/** Clears all bits of `mask`. */
export const clearMark = (mask: number): Action => ({ is: "clear", mask });
/** Goes to a chain and comes back. */
export const jump = (chain: string): Action => ({ is: "jump", chain });
/** Goes to a chain; its return is ours. */
export const goTo = (chain: string): Action => ({ is: "goto", chain });

/** A line whose counters tell how often this was decided. */
export const deciding = (decides: Decision, line: NetRule): NetRule => ({ ...line, decides });

/** A line. */
export function rule(match: Match[], action?: Action, ...comments: string[]): NetRule {
  return comments.length > 0 ? { match, action, comments } : { match, action };
}
