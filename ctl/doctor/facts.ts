import type { Undecodable } from "../../datastore/codec.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { HostEndpoint } from "../../datastore/kinds/host_endpoint.ts";
import type { IPPool } from "../../datastore/kinds/ip_pool.ts";
import type { Node } from "../../datastore/kinds/node.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Variant } from "../../kernel/netfilter/chain.ts";
import type { Address } from "../../kernel/rtnetlink/address.ts";
import type { Link } from "../../kernel/rtnetlink/link.ts";
import type { Route } from "../../kernel/rtnetlink/route.ts";
import type { TunnelDevice } from "../../kernel/rtnetlink/tunnel_device.ts";
import type { WireguardState } from "../../kernel/rtnetlink/wireguard.ts";
import type { NetworkSettings } from "../../agent/desired.ts";
import type { Look } from "../ipam_look.ts";

/** Everything that checks may judge. Collectors fill it in, each its own member, and judge nothing. */
export interface Facts {
  connection: ConnectionFacts;
  etcd: EtcdMember[];
  objects: ObjectFacts;
  ipam: Look;
  host: HostFacts;
  agent: AgentFacts;
  bird: BirdFacts;
  /** Kernel switches by path below /proc/sys. */
  switches: ReadonlyMap<string, string>;
  interfaces: InterfaceFacts;
  /** The main table, both families. */
  routes: readonly Route[];
  wireguard: readonly WireguardState[];
  firewall: FirewallFacts;
  /** Tracked flows, and how many there may be. */
  flows: { count: number; max: number };
  disks: readonly DiskFact[];
  /** Programs that we run, and whether they are installed. */
  programs: ReadonlyMap<string, boolean>;
  cni: CniFacts;
  credentials: readonly CredentialFact[];
  ways: readonly WayFact[];
  strangers: readonly StrangerFact[];
}

/** How the datastore answers. */
export interface ConnectionFacts {
  endpoints: readonly string[];
  /** Why it does not answer; undefined when it does. */
  away?: string;
  /** Median of a few small reads; undefined when it does not answer. */
  latencyMs?: number;
  /** Endpoints that do not answer while another one does. */
  silent: readonly { endpoint: string; why: string }[];
}

/** What one member of etcd says of itself. */
export interface EtcdMember {
  endpoint: string;
  sizeBytes: number;
  /** Undefined when it does not say. */
  quotaBytes?: number;
  alarms: readonly string[];
  /** Its clock less ours, in ms, exact to a second; undefined when it does not say. */
  clockAheadMs?: number;
}

/** The objects of the cluster that checks look into. */
export interface ObjectFacts {
  /** ClusterInformation says that everybody may work; undefined = there is none. */
  ready: boolean | undefined;
  nodes: readonly Node[];
  pools: readonly IPPool[];
  tiers: ReadonlySet<string>;
  /** Policies of every kind, enforced and staged. */
  policies: readonly Resource[];
  hostEndpoints: readonly HostEndpoint[];
  endpoints: readonly WorkloadEndpoint[];
  undecodable: readonly Undecodable[];
  /** The network's settings on this host, without the agent's own environment. */
  settings: NetworkSettings;
  /** Our rules stand at the end of the kernel's chains (chainInsertMode Append). */
  appendsRules: boolean;
}

/** Who this host is. */
export interface HostFacts {
  nodeName: string;
  hostName: string;
  /** What the file says that keeps the node's name; undefined = there is none. */
  keptName: string | undefined;
}

/** The agent of this host. */
export interface AgentFacts {
  socket: string;
  /** Why it does not answer; undefined when it does. */
  silent?: string;
  /** What it says of itself. */
  node?: string;
  ready?: boolean;
  why?: string;
  /** Its mirror's revision. */
  revision?: bigint;
  policyFailed: readonly { where: string; why: string }[];
  refused: readonly { object: string; why: string }[];
  /** Program that it runs, while another one has taken that file's place. */
  replacedProgram?: string;
  /** Deletions that etcd has not seen yet: how many, and the age of the oldest. */
  pending: { count: number; oldestMs: number };
}

/** BIRD on this host; `running` false where none answers. */
export interface BirdFacts {
  running: boolean;
  /** A BIRD belongs to this host. */
  wanted: boolean;
  configFile: string;
  /** Name of the text in the file, and of the one that runs; "" = not one of ours. */
  fileText?: string;
  runningText?: string;
  /** The file was changed since we wrote it. */
  edited: boolean;
  sessions: readonly { name: string; peer: string; state: string; lastError?: string }[];
}

/** Interfaces of the host. */
export interface InterfaceFacts {
  links: ReadonlyMap<number, Link>;
  tunnels: ReadonlyMap<string, TunnelDevice>;
  addresses: readonly Address[];
}

/** A chain of iptables: what becomes of the rest, and its rules as iptables-save prints them. */
export interface ChainFact {
  policy: string;
  rules: readonly string[];
}

/** Packet filters of the host. */
export interface FirewallFacts {
  /** What is in each variant: chains by `4 filter FORWARD`. */
  tables: Readonly<Record<Variant, ReadonlyMap<string, ChainFact>>>;
  /** Base chains of nftables' tables that are neither iptables' nor Calico's. */
  foreign: readonly { table: string; chain: string; hook: string; drops: string }[];
}

/** A file system that we write to. */
export interface DiskFact {
  path: string;
  usedPercent: number;
  freeBytes: number;
}

/** What the container runtime finds. */
export interface CniFacts {
  confDir: string;
  binDir: string;
  /** Configurations in the order of their names; `plugins` is empty and `broken` says why when it cannot be read. */
  files: readonly { name: string; plugins: readonly string[]; broken?: string }[];
  /** Our plugin's names, and the program behind each; undefined = there is none. */
  plugins: ReadonlyMap<string, string | undefined>;
  /** Folders that runtimes are configured to look into, with the file that says so. */
  runtimeDirs: readonly { dir: string; saidIn: string }[];
}

/** A file that lets somebody in. */
export interface CredentialFact {
  file: string;
  usedFor: string;
  /** Why it cannot be used as it is. */
  problem?: string;
  /** Unix time in ms at which it expires. */
  expiresMs?: number;
  nowMs: number;
}

/** A way to another node, tried with packets that may not be split. */
export interface WayFact {
  node: string;
  address: string;
  is: "host" | "tunnel";
  device: string;
  mtuBytes: number;
  /** Whether small packets, and those as large as the device takes, come back. */
  small: boolean;
  large: boolean;
}

/** A program beside us that does what we do. */
export interface StrangerFact {
  program: string;
  pid: number;
}
