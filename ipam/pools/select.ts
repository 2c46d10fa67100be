import { bits, type Cidr, contains, type Family, formatCidr, sameIp, tryParseCidr } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";
import type { HostReserved, Use } from "../request.ts";
import type { Pool } from "./pool.ts";

/** What decides which pools an address may come from. */
export interface PoolQuestion {
  family: Family;
  use: Use;
  /** The node's name (for messages) and labels. */
  node: string;
  nodeLabels: Record<string, string>;
  /** Absent = no labels: `env != 'prod'` matches, `env == 'prod'` does not. */
  namespace?: Record<string, string>;
  /** Names or CIDRs. Given: these and no others, their selectors and assignment mode are not looked at. */
  requested?: string[];
  hostReserved?: HostReserved;
}

/** Pools in the order in which they are tried, or why there is none. */
export type PoolChoice =
  | { pools: Pool[]; /** Pools that select the node, of any use. */ selecting: Pool[] }
  | { problem: Problem };

/**
 * The pools that a request may use (Calico: ipam.go determinePools). Enabled pools of the family by name; requested ones in
 * the order given; else those with automatic assignment whose selectors match; then those that allow the use.
 * @param pools all pools that could be read, sorted by name.
 */
export function choosePools(pools: Pool[], q: PoolQuestion): PoolChoice {
  const longest = bits(q.family) - reservedBits(q.hostReserved);
  const usable = pools.filter((p) => p.enabled && p.cidr.v === q.family && p.blockSize <= longest);
  if (usable.length === 0) return refuse("exhausted", "cannot find a qualified ippool");
  const requested = q.requested?.length ? requestedPools(pools, usable, q.family, q.requested) : undefined;
  if (requested instanceof Problem) return { problem: requested };
  const selecting = requested ?? usable.filter((p) => !p.manual && selects(p, q));
  if (selecting.length === 0) return refuse("exhausted", `no configured Calico pools for node ${q.node}`);
  const allowed = selecting.filter((p) => p.uses.includes(q.use));
  if (allowed.length === 0) {
    return refuse("exhausted", `cannot find a qualified ippool, no pools match the required use (${q.use})`);
  }
  return { pools: allowed, selecting };
}

/** True when the pool's node selector matches; it is what keeps a node's empty block from being released. */
export const selectsNode = (pool: Pool, labels: Record<string, string>): boolean => pool.nodeSelector.matches(labels);

/** The pool that holds an address or network; pools never overlap. */
export const poolHolding = (pools: Pool[], cidr: Cidr): Pool | undefined => pools.find((p) => contains(p.cidr, cidr));

function selects(pool: Pool, q: PoolQuestion): boolean {
  return selectsNode(pool, q.nodeLabels) && (pool.namespaceSelector?.matches(q.namespace ?? {}) ?? true);
}

function requestedPools(all: Pool[], usable: Pool[], family: Family, requested: string[]): Pool[] | Problem {
  const found: Pool[] = [];
  for (const text of requested) {
    const cidr = tryParseCidr(text) ?? all.find((p) => p.name === text)?.cidr;
    if (!cidr) {
      return new Problem({ code: "bad-input", what: `error parsing pool "${text}": invalid CIDR address: ${text}` });
    }
    if (cidr.v !== family) return new Problem({ code: "bad-input", what: `"${text}" isn't a IPv${family} address` });
    const pool = usable.find((p) => sameIp(p.cidr, cidr));
    if (!pool) {
      const what = `the given pool (${formatCidr(cidr)}) does not exist, or is not enabled`;
      return new Problem({ code: "bad-input", what, todo: "See `tortie ctl get ippools -o wide`." });
    }
    if (!found.includes(pool)) found.push(pool);
  }
  return found;
}

/** Bits that the reserved addresses need: blocks must be bigger than what the host keeps of each. */
function reservedBits(host: HostReserved | undefined): number {
  const count = host ? host.start + host.end : 0;
  return count === 0 ? 0 : count.toString(2).length;
}

const refuse = (code: "exhausted", what: string): PoolChoice => ({
  problem: new Problem({ code, what, todo: "See `tortie ctl get ippools -o wide`." }),
});
