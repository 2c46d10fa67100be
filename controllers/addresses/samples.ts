import { type Cidr, size } from "../../lib/ip.ts";
import { reservedIn } from "../../ipam/usage.ts";
import type { Pool } from "../../ipam/pools/pool.ts";
import { poolHolding } from "../../ipam/pools/select.ts";
import type { View } from "../../ipam/view.ts";
import { allocationsIn, blocksOf, nodeOf } from "./allocations.ts";
import type { Findings } from "./leaks.ts";

/** Numbers by pool, and within it by node. */
export type PerPoolAndNode = Map<string, Map<string, number>>;

/** Where a number belongs that has no pool, no node, or no owner of its block. Source: Calico's metrics. */
const noPool = "no_ippool", unknownNode = "unknown_node", noAffinity = "no_affinity";

/** What is told of addresses: everything by pool and node, sizes by pool. */
export interface AddressSamples {
  inUse: PerPoolAndNode;
  /** On another node than the one that owns the block. */
  borrowed: PerPoolAndNode;
  candidates: PerPoolAndNode;
  blocks: PerPoolAndNode;
  sizes: Map<string, { size: number; reserved: number }>;
}

/** The pool that holds a block, by name. */
export const poolNameOf = (pools: Pool[], block: Cidr): string => poolHolding(pools, block)?.name ?? noPool;

/** Adds `by` to one number. */
export function count(numbers: PerPoolAndNode, pool: string, node = unknownNode, by = 1): void {
  const perNode = numbers.get(pool) ?? new Map<string, number>();
  numbers.set(pool, perNode.set(node, (perNode.get(node) ?? 0) + by));
}

/**
 * The numbers of all pools. Every node of Kubernetes is named, with zero when it has none, so that a ratio can be made.
 * Source: Calico kube-controllers/pkg/controllers/node/ipam.go updateMetrics.
 */
export function addressSamples(
  view: View,
  nodes: string[],
  reserved: readonly Cidr[],
  findings?: Findings,
): AddressSamples {
  const pools = view.pools();
  const zeroed = (): PerPoolAndNode =>
    new Map(pools.map(({ name }) => [name, new Map(nodes.map((node) => [node, 0]))]));
  const [inUse, borrowed, candidates] = [zeroed(), zeroed(), zeroed()];
  const blocks: PerPoolAndNode = new Map();
  for (const block of blocksOf(view)) {
    const pool = poolNameOf(pools, block.cidr), owner = nodeOf(block.affinity);
    count(blocks, pool, owner ?? noAffinity);
    for (const { owner: { node } } of allocationsIn(block)) {
      count(inUse, pool, node);
      if (node && node !== owner) count(borrowed, pool, node);
    }
  }
  for (const { block, owner } of findings?.candidates ?? []) count(candidates, poolNameOf(pools, block), owner.node);
  const sizes = new Map(pools.map(({ name, cidr }) => {
    return [name, { size: Number(size(cidr)), reserved: Number(reservedIn(reserved, cidr)) }];
  }));
  return { inUse, borrowed, candidates, blocks, sizes };
}

/** The sum over all pools, by node. */
export function perNode(numbers: PerPoolAndNode): Map<string, number> {
  const sums = new Map<string, number>();
  for (const nodes of numbers.values()) {
    for (const [node, n] of nodes) sums.set(node, (sums.get(node) ?? 0) + n);
  }
  return sums;
}
