import { bits, type Cidr, cidrOf, contains, formatCidr, formatIp, ipAt, sameIp } from "../../lib/ip.ts";
import { isObject } from "../../lib/json64.ts";
import { type Block, isCooling } from "../../ipam/block.ts";
import { encapsulationTo } from "../../ipam/pools/encapsulation.ts";
import type { Pool } from "../../ipam/pools/pool.ts";
import { routeOwner, type RouteSettings, standsIn } from "../../ipam/pools/route_owner.ts";
import type { ClusterRoute } from "../desired.ts";
import type { ResolvedNodes } from "./cluster_nodes.ts";

/** Addresses that a node has: its blocks, and single ones that it borrowed from another's. */
export interface Owned {
  dst: Cidr;
  node: string;
}

/** What of a block is whose. Source: Calico's felix/calc/l3_route_resolver.go routesFromBlock. */
export function ownedIn({ cidr, affinity, allocations, attributes }: Block): Owned[] {
  const host = affinity?.startsWith("host:") ? affinity.slice("host:".length) : undefined;
  const nodes = attributes.map((a) => {
    const node = isObject(a.secondary) && !isCooling(a) ? a.secondary.node : undefined;
    return typeof node === "string" && node !== "" && node !== host ? node : undefined;
  });
  const owned: Owned[] = host === undefined ? [] : [{ dst: cidr, node: host }];
  if (nodes.every((n) => n === undefined)) return owned;
  allocations.forEach((index, ordinal) => {
    const node = index === null ? undefined : nodes[index];
    if (node !== undefined) owned.push({ dst: cidrOf(ipAt(cidr, ordinal), bits(cidr.v)), node });
  });
  return owned;
}

/** What routes depend on besides the blocks. */
export interface RouteContext {
  node: string;
  nodes: ResolvedNodes;
  /** Longest prefix first. */
  pools: readonly Pool[];
  owner: RouteSettings;
}

/** How this node sends to what a node has; undefined = it is ours, or no route of the agent's leads there. */
export function clusterRoute({ dst, node }: Owned, context: RouteContext): ClusterRoute | undefined {
  const { nodes, pools, owner } = context;
  const remote = nodes.others.get(node);
  if (node === context.node || !remote) return undefined;
  const single = dst.len === bits(dst.v);
  // A host's own address inside a pool must not go through the tunnel that it is an end of.
  if (single && nodes.hostAddresses.has(formatIp(dst))) return undefined;
  const pool = pools.find((p) => contains(p.cidr, dst));
  if (!pool || routeOwner(pool, owner) !== "agent") return undefined;
  const host = remote.address[dst.v]?.ip;
  const subnet = nodes.own?.address[dst.v]?.cidr;
  switch (encapsulationTo(pool, subnet, host)) {
    case "none":
      if (!host || (standsIn(owner) && !(subnet && contains(subnet, host)))) return undefined;
      return { dst, by: "direct", via: host };
    case "ipip":
      return host?.v === 4 ? { dst, by: "ipip", via: host } : undefined;
    case "vxlan": {
      const vtep = remote.vtep[dst.v];
      return vtep && { dst, by: "vxlan", via: single && sameIp({ v: dst.v, n: dst.n }, vtep.ip) ? undefined : vtep.ip };
    }
  }
}

/** Nodes that have addresses to give and none of their own of that version: nobody reaches their pods. */
export function homeless(owned: Iterable<Owned>, { nodes }: Pick<RouteContext, "nodes">): ResolvedNodes["findings"] {
  const found = new Map<string, string>();
  for (const { dst, node } of owned) {
    const remote = nodes.others.get(node);
    if (!remote || remote.address[dst.v] || found.has(node)) continue;
    found.set(node, `it has no IPv${dst.v} address that can be used, and ${formatCidr(dst)} is behind it`);
  }
  return [...found].map(([node, why]) => ({ node, why }));
}

/** All routes from scratch, by destination: the plain form of ClusterRoutes. Of two for one, that of the smaller block. */
export function clusterRoutes(
  blocks: ReadonlyMap<string, readonly Owned[]>,
  context: RouteContext,
): Map<string, ClusterRoute> {
  const resolved = [...blocks].map(([key, owned]): [string, Resolved[]] => [key, resolve(owned, context)]);
  return merge(new Map(resolved));
}

interface Resolved {
  key: string;
  route: ClusterRoute;
}

const resolve = (owned: readonly Owned[], context: RouteContext): Resolved[] =>
  owned.flatMap((o) => {
    const route = clusterRoute(o, context);
    return route ? [{ key: formatCidr(o.dst), route }] : [];
  });

function merge(resolved: ReadonlyMap<string, readonly Resolved[]>): Map<string, ClusterRoute> {
  const found = new Map<string, ClusterRoute>(), from = new Map<string, string>();
  for (const [block, all] of resolved) {
    for (const { key, route } of all) {
      const other = found.has(key) ? from.get(key) : undefined;
      if (other !== undefined && prefixOf(other) >= prefixOf(block)) continue;
      found.set(key, route);
      if (route.dst.len === bits(route.dst.v)) from.set(key, block);
    }
  }
  return found;
}

/** Prefix length at the end of a block's key: `…/10.0.0.0-26`. */
const prefixOf = (key: string): number => Number(key.slice(key.lastIndexOf("-") + 1));

/** The cluster's routes, kept up to date block by block. */
export class ClusterRoutes {
  readonly #blocks = new Map<string, readonly Owned[]>();
  readonly #resolved = new Map<string, readonly Resolved[]>();
  #dirty = new Set<string>();
  #context: RouteContext | undefined;
  #routes: ReadonlyMap<string, ClusterRoute> = new Map();
  #revision = 0;

  /** A block's owners; undefined = it is gone. @returns true when that differs from before. */
  set(key: string, owned: readonly Owned[] | undefined): boolean {
    const before = this.#blocks.get(key);
    if (before === owned || (before && owned && sameOwned(before, owned))) return false;
    if (owned) this.#blocks.set(key, owned);
    else this.#blocks.delete(key);
    this.#dirty.add(key);
    this.#revision++;
    return true;
  }

  /** Whose what is, of all blocks. */
  *owned(): Generator<Owned> {
    for (const all of this.#blocks.values()) yield* all;
  }

  /** Another number whenever owned() is other than before. */
  get revision(): number {
    return this.#revision;
  }

  /** The routes in a context; the same map while nothing in it changed. An equal context must be the same object. */
  flush(context: RouteContext): ReadonlyMap<string, ClusterRoute> {
    const dirty = context === this.#context ? this.#dirty : this.#blocks.keys();
    let changed = false;
    for (const key of new Set([...dirty, ...this.#dirty])) {
      const now = resolve(this.#blocks.get(key) ?? [], context), before = this.#resolved.get(key) ?? [];
      if (sameResolved(before, now)) continue;
      changed = true;
      if (now.length > 0) this.#resolved.set(key, now);
      else this.#resolved.delete(key);
    }
    this.#context = context;
    this.#dirty = new Set();
    if (changed) this.#routes = merge(this.#resolved);
    return this.#routes;
  }
}

const sameOwned = (a: readonly Owned[], b: readonly Owned[]): boolean =>
  a.length === b.length && a.every((o, i) => o.node === b[i]!.node && sameIp(o.dst, b[i]!.dst));

function sameResolved(a: readonly Resolved[], b: readonly Resolved[]): boolean {
  return a.length === b.length && a.every(({ key, route }, i) => {
    const other = b[i]!.route;
    const sameVia = route.via === other.via || (!!route.via && !!other.via && sameIp(route.via, other.via));
    return key === b[i]!.key && route.by === other.by && sameVia;
  });
}
