import { createHash } from "node:crypto";
import type { BGPConfigurationSpec } from "../datastore/kinds/bgp_configuration.ts";
import { durationMs } from "../datastore/duration.ts";
import type { BGPFilter } from "../datastore/kinds/bgp_filter.ts";
import type { Node } from "../datastore/kinds/node.ts";
import { routeOwner, type RouteSettings } from "../ipam/pools/route_owner.ts";
import {
  type Cidr,
  compareIp,
  contains,
  type Family,
  formatCidr,
  formatIp,
  type Ip,
  overlaps,
  parseCidr,
  tryParseCidr,
  tryParseCidrOrIp,
  tryParseIp,
  tryParseNet,
} from "../lib/ip.ts";
import type { Findings, Resources, Surroundings } from "./resources.ts";
import { serviceAddresses } from "./services.ts";
import { type BfdTimers, extrasOf, type SessionExtras } from "./extras.ts";

/** A node of the cluster as BGP sees it. */
export interface BgpNode {
  name: string;
  labels: Record<string, string>;
  /** Canonical text; a family without a usable address is absent. */
  address: Partial<Record<Family, string>>;
  /** Absent = the cluster's. */
  asNumber?: number;
  /** Set = a route reflector. */
  clusterId?: string;
  /** Its own port from BGPConfiguration `node.<name>`. */
  listenPort?: number;
  /** Families in which it has a WireGuard address. */
  wireguard: Set<Family>;
}

/** A community, standard (two numbers of 16 bits) or large (three of 32). */
export type Community = [number, number] | [number, number, number];

/** An IP pool as the filters see it. */
export interface PoolInput {
  cidr: Cidr;
  /** False: disableBGPExport. */
  exported: boolean;
  /** True: BIRD puts routes into the pool into the kernel; false: the agent, or nobody, does. */
  birdPrograms: boolean;
}

/** What differs between IPv4 and IPv6. All lists are sorted, so that equal inputs give equal text. */
export interface FamilyInputs {
  v: Family;
  /** Our address; absent = no BGP in this family, though static and kernel routes stay. */
  address?: string;
  /** Kernel metric of an ordinary route, N in the filters. */
  normalPriority: number;
  /** Own blocks. Those that are not confirmed are announced, and so is every address in them. */
  blocks: { cidr: Cidr; confirmed: boolean }[];
  /** Announced ranges and addresses of services; never programmed. */
  serviceRoutes: string[];
  /** What BIRD must not put into the kernel, since kube-proxy owns it. */
  kernelRejects: string[];
  /** A route reflector passes on what lies in these. */
  reflectorAccepts: string[];
  advertisements: { cidr: string; communities: Community[] }[];
  pools: PoolInput[];
  /** Nodes whose routes go through our WireGuard device, by their address. */
  wireguardNextHops: string[];
}

/** Everything that decides about this node's BIRD: the inputs of peers, filters and configuration text. */
export interface Speaker {
  node: string;
  /** IPv4 form; also for IPv6 sessions. */
  routerId: string;
  asNumber: number;
  /** The AS of nodes that have none of their own. */
  globalAs: number;
  clusterId?: string;
  log: "none" | "info" | "debug";
  /** Port that we listen at; absent = 179. */
  listenPort?: number;
  /** Port of nodes that have none of their own. */
  globalListenPort?: number;
  /** Listen at the node's address only. */
  bindNodeIp: boolean;
  ignoredInterfaces: string[];
  mesh: {
    enabled: boolean;
    /** `name/key` of the password; it may be missing in `passwords`. */
    passwordRef?: string;
    restartTimeS?: number;
    extras: SessionExtras;
  };
  /** Timers of BFD, for all sessions that use it. */
  bfdTimers: BfdTimers;
  /** All nodes of the cluster with us, sorted by name. */
  nodes: BgpNode[];
  families: Record<Family, FamilyInputs>;
  filters: Map<string, BGPFilter>;
  passwords: Map<string, string>;
}

/** Local preference + kernel metric of a route is always this (2^31 - 1), as in Calico. */
export const birdMax = 2147483647;

const defaultAs = 64512;
const defaultPriority = 1024;
const excludeLabel = "node.kubernetes.io/exclude-from-external-load-balancers";

/**
 * The inputs of this node's speaker. Objects that cannot be used are left out and named in `findings`.
 * @returns undefined when the cluster has no Node resource of our name: then nothing can be said and what runs stays.
 */
export function inputsOf(resources: Resources, around: Surroundings, findings: Findings): Speaker | undefined {
  const own = resources.nodes.get(around.node);
  if (!own) {
    findings.add(
      "this node has no Node resource, its BGP configuration stays as it is",
      `Node ${around.node}`,
      "Start `tortie node` on it, or set NODENAME to the name it has in the cluster",
      "not-found",
    );
    return undefined;
  }
  const config = resources.bgpConfigurations.get("default")?.spec ?? {};
  const ownConfig = resources.bgpConfigurations.get(`node.${around.node}`)?.spec ?? {};
  for (const name of resources.bgpConfigurations.keys()) {
    if (name !== "default" && !name.startsWith("node.")) {
      findings.add("is ignored: only `default` and `node.<name>` are read", `BGPConfiguration ${name}`);
    }
  }
  const nodes = bgpNodes(resources, findings);
  const self = nodes.find((n) => n.name === around.node)!;
  const globalAs = config.asNumber || defaultAs;
  const services = serviceAddresses(config, around, own.metadata.labels?.[excludeLabel] === "true", findings);
  const family = (v: Family): FamilyInputs => ({
    v,
    address: self.address[v],
    normalPriority: priorityOf(config, v, findings),
    blocks: ownBlocks(resources.affinities, v, findings),
    ...services[v],
    advertisements: advertisementsOf(ownConfig.prefixAdvertisements ? ownConfig : config, v, findings),
    pools: poolsOf(resources, around, v, findings),
    wireguardNextHops: self.wireguard.has(v)
      ? nodes.filter((n) => n !== self && n.wireguard.has(v) && n.address[v]).map((n) => n.address[v]!).sort()
      : [],
  });
  const defaults = resources.bgpConfigurations.get("default");
  const { extras, bfdTimers } = extrasOf(defaults?.metadata, "BGPConfiguration default", findings);
  return {
    node: around.node,
    routerId: routerIdOf(around, self, findings),
    asNumber: self.asNumber ?? globalAs,
    globalAs,
    clusterId: self.clusterId,
    log: logLevel(ownConfig.logSeverityScreen || config.logSeverityScreen || "Info"),
    listenPort: ownConfig.listenPort || config.listenPort || undefined,
    globalListenPort: config.listenPort || undefined,
    bindNodeIp: config.bindMode === "NodeIP",
    ignoredInterfaces: (config.ignoredInterfaces ?? []).filter((i) => printable(i, findings)),
    mesh: {
      enabled: config.nodeToNodeMeshEnabled ?? true,
      passwordRef: passwordRef(config.nodeMeshPassword),
      restartTimeS: restartTime(
        config.nodeMeshMaxRestartTime,
        "BGPConfiguration default, spec.nodeMeshMaxRestartTime",
        findings,
      ),
      extras,
    },
    bfdTimers,
    nodes,
    families: { 4: family(4), 6: family(6) },
    filters: resources.bgpFilters,
    passwords: around.passwords,
  };
}

/** Whole seconds of a Go duration, rounded half up as Calico does; undefined when absent or not a duration. */
function seconds(duration: string | undefined): number | undefined {
  const ms = duration === undefined ? undefined : durationMs(duration);
  return ms === undefined ? undefined : Math.round(ms / 1000);
}

/** A restart time in seconds. BGP has 12 bits for it (RFC 4724). */
export function restartTime(duration: string | undefined, where: string, findings: Findings): number | undefined {
  const given = seconds(duration);
  if (given === undefined || (given >= 0 && given <= 4095)) return given;
  const taken = Math.min(Math.max(given, 0), 4095);
  findings.add(`${given} s is not within 0 and 4095 s, ${taken} s is taken`, where);
  return taken;
}

/** A keepalive time in seconds. It cannot be above the hold time, which stays at BIRD's 240 s as in Calico. */
export function keepaliveTime(duration: string | undefined, where: string, findings: Findings): number | undefined {
  const given = seconds(duration);
  if (given === undefined || given === 0 || (given > 0 && given <= 240)) return given || undefined;
  findings.add(`${given} s is not within 1 and 240 s, the default is taken`, where);
  return undefined;
}

function priorityOf(config: BGPConfigurationSpec, v: Family, findings: Findings): number {
  const given = (v === 4 ? config.ipv4NormalRoutePriority : config.ipv6NormalRoutePriority) ?? defaultPriority;
  if (isPriority(given)) return given;
  findings.add(
    `${given} is no route priority, ${defaultPriority} is taken`,
    `BGPConfiguration, ipv${v}NormalRoutePriority`,
  );
  return defaultPriority;
}

/** True for a kernel metric that has a local preference: 1 to 2^31 - 2. */
export const isPriority = (n: number): boolean => Number.isInteger(n) && n >= 1 && n < birdMax;

/** `name/key` of a reference to a secret. */
export function passwordRef(
  password: { secretKeyRef?: { name?: string; key?: string } } | undefined,
): string | undefined {
  const ref = password?.secretKeyRef;
  return ref && `${ref.name ?? ""}/${ref.key ?? ""}`;
}

/** Calico: Debug and Info are kept, every other level is "none". */
function logLevel(text: string): Speaker["log"] {
  const lower = text.toLowerCase();
  return lower === "debug" || lower === "info" ? lower : "none";
}

function bgpNodes(resources: Resources, findings: Findings): BgpNode[] {
  return [...resources.nodes.values()].map((node) => bgpNode(node, resources, findings))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function bgpNode(node: Node, resources: Resources, findings: Findings): BgpNode {
  const { name, labels } = node.metadata;
  const bgp = node.spec.bgp ?? {};
  const where = `Node ${name}`;
  const address: BgpNode["address"] = {};
  for (const [v, field] of [[4, "ipv4Address"], [6, "ipv6Address"]] as const) {
    const text = bgp[field];
    if (!text) continue;
    const ip = tryParseNet(text)?.ip ?? tryParseIp(text);
    if (ip?.v === v && isPeerable(ip)) address[v] = formatIp(ip);
    else findings.add(`"${text}" is no IPv${v} address for BGP, so it has none`, `${where}, spec.bgp.${field}`);
  }
  const wireguard = new Set<Family>();
  if (node.spec.wireguard?.interfaceIPv4Address) wireguard.add(4);
  if (node.spec.wireguard?.interfaceIPv6Address) wireguard.add(6);
  const listenPort = resources.bgpConfigurations.get(`node.${name}`)?.spec.listenPort || undefined;
  return {
    name,
    labels: labels ?? {},
    address,
    asNumber: bgp.asNumber || undefined,
    clusterId: clusterIdOf(bgp.routeReflectorClusterID ?? "", where, findings),
    listenPort,
    wireguard,
  };
}

/** BIRD takes an IPv4 address; the node of any other value is no reflector. */
function clusterIdOf(text: string, where: string, findings: Findings): string | undefined {
  if (text === "") return undefined;
  const ip = tryParseIp(text);
  if (ip?.v === 4) return formatIp(ip);
  findings.add(
    `"${text}" is not an IPv4 address, the node is no reflector`,
    `${where}, spec.bgp.routeReflectorClusterID`,
  );
  return undefined;
}

/** True for an address that a multihop session can have: not unspecified, multicast, broadcast or IPv6 link-local. */
export const isPeerable = (ip: Ip): boolean =>
  ip.n !== 0n && !notPeerable.some((c) => contains(c, ip)) && !(ip.v === 4 && ip.n === 0xffff_ffffn);

const notPeerable = ["224.0.0.0/4", "ff00::/8", "fe80::/10"].map((c) => parseCidr(c));

/**
 * CALICO_ROUTER_ID: `hash`, or an address; else the node's IPv4 address; else the hash.
 * DIFFERS: Calico writes `router id ;`, which BIRD refuses, on a node with only IPv6 and without the variable.
 */
function routerIdOf(around: Surroundings, self: BgpNode, findings: Findings): string {
  const given = around.env.CALICO_ROUTER_ID ?? "";
  const fallback = self.address[4] ?? hashedRouterId(around.node);
  if (given === "") return fallback;
  if (given === "hash") return hashedRouterId(around.node);
  const ip = tryParseIp(given);
  if (ip?.v === 4 && ip.n !== 0n) return formatIp(ip);
  findings.add(`"${given}" is neither "hash" nor an IPv4 address, ${fallback} is used`, "CALICO_ROUTER_ID");
  return fallback;
}

/** First four bytes of SHA-256 of the name; 32 less in the first when that would be multicast or above, as Calico. */
export function hashedRouterId(node: string): string {
  const [a, b, c, d] = createHash("sha256").update(node).digest();
  return [a! > 223 ? a! - 32 : a, b, c, d].join(".");
}

function ownBlocks(affinities: Map<string, string>, v: Family, findings: Findings): FamilyInputs["blocks"] {
  const blocks: FamilyInputs["blocks"] = [];
  for (const [text, state] of affinities) {
    const cidr = tryParseCidr(text);
    if (!cidr) findings.add(`"${text}" is not a network`, "block affinity of this node", undefined, "undecodable");
    // A pending affinity is a claim that may still fail; Calico's cache drops it.
    else if (cidr.v === v && state !== "pending") {
      blocks.push({ cidr, confirmed: state === "confirmed" || state === "" });
    }
  }
  return blocks.sort((a, b) => compareIp(a.cidr, b.cidr));
}

function poolsOf(resources: Resources, around: Surroundings, v: Family, findings: Findings): PoolInput[] {
  const felix = (name: string) => resources.felixConfigurations.get(name)?.spec.programClusterRoutes;
  const settings: RouteSettings = {
    felix: around.env.FELIX_PROGRAMCLUSTERROUTES || felix(`node.${around.node}`) || felix("default"),
    bgp: resources.bgpConfigurations.get("default")?.spec.programClusterRoutes,
    birdRuns: true,
  };
  const pools: (PoolInput & { name: string })[] = [];
  for (const [name, pool] of resources.ipPools) {
    const cidr = tryParseCidr(pool.spec.cidr);
    if (!cidr) {
      if (v === 4) {
        findings.add(`"${pool.spec.cidr}" is not a network, the pool is ignored`, `IPPool ${name}, spec.cidr`);
      }
      continue;
    }
    if (cidr.v !== v) continue;
    const twin = pools.find((p) => overlaps(p.cidr, cidr));
    if (twin) findings.add(`overlaps with IPPool ${twin.name}; the longer prefix decides`, `IPPool ${name}, spec.cidr`);
    const birdPrograms = routeOwner(pool.spec, settings) === "bird";
    pools.push({ name, cidr, exported: !pool.spec.disableBGPExport, birdPrograms });
  }
  return pools.sort((a, b) => b.cidr.len - a.cidr.len || compareIp(a.cidr, b.cidr))
    .map(({ cidr, exported, birdPrograms }) => ({ cidr, exported, birdPrograms }));
}

function advertisementsOf(
  config: BGPConfigurationSpec,
  v: Family,
  findings: Findings,
): FamilyInputs["advertisements"] {
  const named = new Map((config.communities ?? []).map((c) => [c.name, c.value ?? ""]).reverse() as [string, string][]);
  const out: FamilyInputs["advertisements"] = [];
  for (const [i, entry] of (config.prefixAdvertisements ?? []).entries()) {
    const where = `BGPConfiguration, spec.prefixAdvertisements[${i}]`;
    const cidr = tryParseCidrOrIp(entry.cidr ?? "");
    if (!cidr) {
      if (v === 4) findings.add(`"${entry.cidr}" is not a network, no communities for it`, where);
      continue;
    }
    if (cidr.v !== v) continue;
    const values = (entry.communities ?? []).map((c) => (/^\d/.test(c) && c.includes(":") ? c : named.get(c)));
    const texts = [...new Set(values.filter((c) => c !== undefined))].sort();
    const communities = texts.map(parseCommunity);
    if (values.includes(undefined)) findings.add("names a community that is not defined beside it", where);
    if (communities.includes(undefined)) findings.add("has a community that is not one", where);
    const usable = communities.filter((c) => c !== undefined);
    if (usable.length > 0) out.push({ cidr: formatCidr(cidr), communities: usable });
  }
  return out;
}

/** A community from `1:2` (each below 2^16) or `1:2:3` (each below 2^32); undefined when it is none. */
export function parseCommunity(text: string): Community | undefined {
  if (!/^\d{1,10}(:\d{1,10}){1,2}$/.test(text)) return undefined;
  const parts = text.split(":").map(Number);
  const max = parts.length === 2 ? 0xffff : 0xffff_ffff;
  return parts.every((p) => p <= max) ? (parts as Community) : undefined;
}

/** BIRD's strings have no escapes: a pattern with a quote or a line break cannot be written. */
function printable(pattern: string, findings: Findings): boolean {
  const ok = isPattern(pattern);
  if (!ok) findings.add(`"${pattern}" is not an interface pattern`, "BGPConfiguration default, spec.ignoredInterfaces");
  return ok;
}

/** True for the name of an interface with `*` and `?`, as BIRD takes it between quotes. */
export const isPattern = (text: string): boolean => /^[^"\s\\\p{Cc}]{1,64}$/u.test(text);
