import type { Cidr, Family } from "../lib/ip.ts";

/** What a rule does with a packet that matches. `pass` leaves the tier; `log` logs and goes on. */
export type RuleAction = "allow" | "deny" | "pass" | "log";

/** A protocol as the rule names it: a number, or a lower-case name (tcp, udp, icmp, icmpv6, sctp, udplite). */
export type Protocol = number | string;

/** Ports from `min` to `max`, both included. */
export interface PortRange {
  min: number;
  max: number;
}

/** Name of an IP set, as Calico makes it: `s:…`, `n:…`, `svc:…`, `svcnoport:…`. */
export type SetId = string;

/** What a rule asks of one side of a packet. All parts must hold; an empty list asks nothing. */
export interface SideMatch {
  /** The address is in one of these … */
  nets: Cidr[];
  /** … and in none of these. */
  notNets: Cidr[];
  /** The port is in one of the ranges, or (address, protocol, port) is in one of `namedPortSets`. */
  ports: PortRange[];
  namedPortSets: SetId[];
  notPorts: PortRange[];
  notNamedPortSets: SetId[];
  /** The address is in each of these sets … */
  sets: SetId[];
  /** … and in none of these. */
  notSets: SetId[];
  /** (address, protocol, port) is in each of these sets. */
  serviceSets: SetId[];
}

/** ICMP type, and code unless any. */
export interface IcmpMatch {
  type: number;
  code?: number;
}

/** The side of a rule as its author wrote it, for explanations. */
export interface SideWords {
  selector?: string;
  notSelector?: string;
  namespaceSelector?: string;
  serviceAccounts?: { names?: string[]; selector?: string };
  services?: { name: string; namespace?: string };
}

/** One rule, with selectors and named ports resolved to sets. */
export interface Rule {
  action: RuleAction;
  /** Matches no packet: a rule that could not be understood. It is there so that the others keep their numbers. */
  never?: true;
  ipVersion?: Family;
  protocol?: Protocol;
  notProtocol?: Protocol;
  icmp?: IcmpMatch;
  notIcmp?: IcmpMatch;
  source: SideMatch;
  destination: SideMatch;
  /** Enforced by an application-layer proxy only; in the kernel the rule matches as if it had none. */
  http?: { methods?: string[]; paths?: { exact?: string; prefix?: string }[] };
  annotations?: Record<string, string>;
  words: { source: SideWords; destination: SideWords };
}

/** `Kind:namespace/name` or `Kind:name`. */
export type PolicyId = string;

/** Direction as seen from the endpoint: ingress goes to it. */
export type Direction = "ingress" | "egress";

/** A policy that at least one local endpoint needs. */
export interface ActivePolicy {
  id: PolicyId;
  kind: string;
  namespace?: string;
  name: string;
  tier: string;
  /** Calculated and shown, never enforced. */
  staged: boolean;
  /** Canonical selector of the endpoints. */
  selector: string;
  ingress: Rule[];
  egress: Rule[];
  doNotTrack: boolean;
  preDnat: boolean;
  applyOnForward: boolean;
  performanceHints: string[];
}

/** A profile that a local endpoint names. `missing` = there is none of that name, and its rules deny everything. */
export interface ActiveProfile {
  name: string;
  missing: boolean;
  ingress: Rule[];
  egress: Rule[];
}

/** The policies of one tier for one endpoint, in the order in which they are asked. */
export interface TierPolicies {
  name: string;
  /** What happens when none decides. A tier without an object acts as Deny and says ``. */
  defaultAction: "Deny" | "Pass" | "";
  ingress: PolicyId[];
  egress: PolicyId[];
}

/** Limits on an endpoint's packets of one direction; what is absent is not limited. */
export interface TrafficLimits {
  packetsPerS?: number;
  packetBurst?: number;
  /** Connections at a time. */
  connections?: number;
}

/** An endpoint of this node and what applies to it. */
export interface PolicedEndpoint {
  id: string;
  kind: "workload" | "host";
  /** `cali…`; for a host endpoint a name, `*`, or `` when only its addresses say where it is. */
  interfaceName: string;
  nets: Cidr[];
  /** Profile names in their order. */
  profiles: string[];
  tiers: TierPolicies[];
  /** Host endpoints only. */
  untrackedTiers: TierPolicies[];
  preDnatTiers: TierPolicies[];
  forwardTiers: TierPolicies[];
  /** Workloads only: `spec.qosControls`. */
  limits?: Partial<Record<Direction, TrafficLimits>>;
}

/** What an IP set holds: networks (`10.0.0.2/32`), or address, protocol and port (`10.0.0.2,tcp:8080`). */
export type SetType = "net" | "ipPort";

/** What changed since the last flush. To be applied top down; removals come last. */
export interface PolicyDelta {
  setsAdded: { id: SetId; type: SetType; members: string[] }[];
  setsChanged: { id: SetId; add: string[]; remove: string[] }[];
  policies: ActivePolicy[];
  profiles: ActiveProfile[];
  endpoints: PolicedEndpoint[];
  endpointsRemoved: string[];
  profilesRemoved: string[];
  policiesRemoved: PolicyId[];
  setsRemoved: SetId[];
}
