import { contains, formatCidr, formatIp, type Ip, ipAt, parseIp, tryParseCidrOrIp } from "../lib/ip.ts";
import { isObject, type Json } from "../lib/json64.ts";
import { parseRfc3339 } from "../lib/clock.ts";
import type { Node } from "../datastore/kinds/node.ts";
import type { WorkloadEndpoint } from "../datastore/kinds/workload_endpoint.ts";
import { type Attribute, attributeOf, type Block, handleOf, isCooling, isHostReserved } from "../ipam/block.ts";
import type { View } from "../ipam/view.ts";

/** An address that IPAM has given, and who uses it. */
export interface Allocation {
  ip: Ip;
  block: Block;
  handle: string | undefined;
  sequenceNumber: bigint;
  /** Attributes of the owner, such as pod, namespace, node, type. */
  attributes: Record<string, string>;
  /** What IPAM recorded of it, as one line. */
  words: string;
  /** Node that it was given to; "" when nobody says. */
  node: string;
  borrowed: boolean;
  cooling: boolean;
  /** Who uses it: `Workload(ns/name)`, `Node(name)`. */
  users: string[];
  /** Why it cannot be judged here; then it counts as used. */
  unjudged?: string;
}

/** What IPAM's records and the objects that use addresses say of each other. */
export interface Check {
  allocations: Allocation[];
  /** Given and used by nobody. */
  leaked: Allocation[];
  /** Used and not given, with its users. */
  outsidePools: [ip: string, users: string[]][];
  notAllocated: [ip: string, users: string[]][];
  /** Users of each address. */
  users: Map<string, string[]>;
  /** Handles that no block names, with the revision of their value. */
  idleHandles: { id: string; revision: bigint }[];
  usedHandles: number;
  /** Handles that blocks name and that do not exist. */
  missingHandles: string[];
  brokenBlocks: [cidr: string, why: string][];
  tunnels: number;
  workloads: number;
}

/** What is compared with IPAM's records. */
export interface Users {
  nodes: readonly Node[];
  endpoints: readonly WorkloadEndpoint[];
}

/**
 * Compares IPAM's records with who uses addresses: workload endpoints and tunnels of nodes. Addresses of load balancers are
 * known to Kubernetes alone and are not judged.
 * DIFFERS: Calico counts IPv4 tunnels alone, so that it calls the others leaked. Source: calicoctl commands/ipam/check.go.
 */
export function checkIpam(view: View, { nodes, endpoints }: Users): Check {
  const users = new Map<string, string[]>();
  const use = (text: string | undefined, who: string): number => {
    const ip = text ? tryParseCidrOrIp(text) : undefined;
    if (ip) users.set(formatIp(ip), [...users.get(formatIp(ip)) ?? [], who]);
    return ip ? 1 : 0;
  };
  let tunnels = 0, workloads = 0;
  for (const node of nodes) {
    for (const text of tunnelAddresses(node)) tunnels += use(text, `Node(${node.metadata.name})`);
  }
  for (const { metadata, spec } of endpoints) {
    const who = `Workload(${metadata.namespace}/${metadata.name})`;
    for (const text of spec.ipNetworks ?? []) workloads += use(text, who);
  }
  const blocks = [...view.blocks(4), ...view.blocks(6)].map((stored) => stored.value);
  const allocations = blocks.flatMap((block) => allocationsIn(block, users));
  const given = new Set(allocations.map(({ ip }) => formatIp(ip)));
  const pools = view.pools().filter((pool) => pool.enabled);
  const strays = [...users].filter(([ip]) => !given.has(ip));
  const isInPool = (ip: string) => pools.some((pool) => contains(pool.cidr, parseIp(ip)));
  const named = new Set(allocations.flatMap((a) => a.handle ?? []));
  const handles = view.handles();
  const existing = new Set(handles.map((h) => h.id));
  return {
    allocations,
    leaked: allocations.filter((a) => a.users.length === 0 && !a.cooling && !a.unjudged),
    outsidePools: strays.filter(([ip]) => !isInPool(ip)),
    notAllocated: strays.filter(([ip]) => isInPool(ip)),
    users,
    idleHandles: handles.filter((h) => !named.has(h.id)).map(({ id, revision }) => ({ id, revision })),
    usedHandles: handles.filter((h) => named.has(h.id)).length,
    missingHandles: [...named].filter((id) => !existing.has(id)),
    brokenBlocks: blocks.flatMap((block) => {
      const why = faultOf(block);
      return why ? [[formatCidr(block.cidr), why] as [string, string]] : [];
    }),
    tunnels,
    workloads,
  };
}

/** How many things are wrong; missing handles are told and not counted, as calicoctl does. */
export const problemCount = (check: Check): number =>
  check.leaked.length + check.outsidePools.length + check.notAllocated.length + check.idleHandles.length +
  check.brokenBlocks.length;

/** Why nobody is thought to use an address, for people. */
export function leakReason({ attributes, handle }: Allocation, nodes: ReadonlySet<string>): string {
  const { pod, namespace, type, node } = attributes;
  const gone = node !== undefined && !nodes.has(node) ? `, and node ${node} does not exist` : "";
  if (pod) return `no workload endpoint of pod ${namespace ?? ""}/${pod} has it${gone}`;
  if (type?.endsWith("TunnelAddress")) return `it is no ${type} of node ${node ?? "?"}${gone}`;
  return `no workload endpoint has it${handle ? "" : ", and it has no handle"}${gone}`;
}

/** Unix time in ms at which an address was given; undefined when its owner's attributes do not say it. */
export function givenAt({ attributes }: Allocation): number | undefined {
  // Calico writes RFC 3339, and Go's own form in some places.
  const text = attributes.timestamp?.replace(/^(\S+) (\S+) \+0000 UTC$/, "$1T$2Z");
  return text === undefined ? undefined : parseRfc3339(text);
}

function tunnelAddresses({ spec }: Node): (string | undefined)[] {
  return [
    spec.ipv4VXLANTunnelAddr,
    spec.ipv6VXLANTunnelAddr,
    spec.wireguard?.interfaceIPv4Address,
    spec.wireguard?.interfaceIPv6Address,
    spec.bgp?.ipv4IPIPTunnelAddr,
  ];
}

function allocationsIn(block: Block, users: ReadonlyMap<string, string[]>): Allocation[] {
  return block.allocations.flatMap((index, ordinal): Allocation[] => {
    const attribute = index === null ? undefined : attributeOf(block, ordinal);
    if (!attribute) return [];
    const ip = ipAt(block.cidr, ordinal);
    const attributes = textsOf(attribute.secondary);
    const owner = block.affinity?.startsWith("host:") ? block.affinity.slice("host:".length) : "";
    const node = attributes.node || owner;
    const reserved = isHostReserved(attribute);
    const virtual = block.affinity?.startsWith("virtual:") || attributes.type === "LoadBalancer";
    return [{
      ip,
      block,
      handle: reserved ? undefined : handleOf(attribute),
      sequenceNumber: block.sequenceOf.get(ordinal) ?? 0n,
      attributes,
      words: wordsOf(attribute),
      node,
      borrowed: node !== owner,
      cooling: isCooling(attribute),
      users: [...users.get(formatIp(ip)) ?? [], ...(reserved ? ["Reserved for Windows"] : [])],
      ...(virtual && { unjudged: "addresses of load balancers are known to Kubernetes alone" }),
    }];
  });
}

/** `Main:<handle> Extra:<k=v,…>`, as calicoctl writes it. */
function wordsOf(attribute: Attribute): string {
  const pairs = (value: Json | undefined) =>
    Object.entries(textsOf(value)).sort().map(([k, v]) => `${k}=${v}`).join(",");
  const other = pairs(attribute.alternateOwnerAttrs);
  return `Main:${handleOf(attribute) ?? "<none>"} Extra:${pairs(attribute.secondary)}${other && ` Alternate:${other}`}`;
}

function textsOf(value: Json | undefined): Record<string, string> {
  if (!isObject(value)) return {};
  return Object.fromEntries(Object.entries(value).filter(([, v]) => typeof v === "string")) as Record<string, string>;
}

/** What contradicts itself in a block. Source: check.go, validateBlock. */
function faultOf({ allocations, attributes, unallocated }: Block): string | undefined {
  const used = new Set(allocations.filter((index) => index !== null));
  const idle = attributes.findIndex((_, index) => !used.has(index));
  if (idle >= 0) return `attribute index ${idle} exists but is not indexed by an allocation`;
  const seen = new Set<number>();
  for (const ordinal of unallocated) {
    if (seen.has(ordinal)) return `ordinal ${ordinal} appears more than once in Unallocated array`;
    if (allocations[ordinal] !== null) return `ordinal ${ordinal} is allocated but appears in Unallocated`;
    seen.add(ordinal);
  }
  const given = allocations.filter((index) => index !== null).length;
  if (given + seen.size === allocations.length) return undefined;
  return `expected ${allocations.length} addresses in this block, but Unallocated (${seen.size}) + Allocated (${given}) = ${
    seen.size + given
  }`;
}
