import { bits, type Cidr } from "../lib/ip.ts";
import { type BlockOwner, blockOwnerOf } from "../datastore/keys.ts";
import { Problem } from "../lib/problem.ts";
import { type Block, isEmpty, withOwner } from "./block.ts";
import { type Draft, isAbandoned } from "./draft.ts";
import { blockAt, blockCount } from "./pools/blocks.ts";
import type { Pool } from "./pools/pool.ts";
import { poolHolding, selectsNode } from "./pools/select.ts";
import { parseRfc3339 } from "../lib/clock.ts";

/** What became of the wish to give up a block. */
export type Released = "released" | "not empty" | "not owned";

/**
 * Gives up an owner's block: the affinity goes, and the block too when it is empty, else it stays without owner and can
 * only be borrowed from (Calico: releaseBlockAffinity). An affinity to another owner's block is stale and goes.
 */
export function releaseAffinity(draft: Draft, owner: BlockOwner, cidr: Cidr, mustBeEmpty: boolean): Released {
  const block = draft.block(cidr);
  if (!block && draft.blockExists(cidr)) return "not empty";
  if (block && block.affinity !== null && block.affinity !== owner) {
    draft.dropAffinity(owner, cidr);
    return "not owned";
  }
  if (block && mustBeEmpty && !isEmpty(block)) return "not empty";
  const known = draft.affinity(owner, cidr) !== undefined || block?.affinity === owner;
  draft.dropAffinity(owner, cidr);
  if (block && isEmpty(block)) draft.setBlock(cidr, undefined);
  else if (block && block.affinity !== null) draft.setBlock(cidr, withOwner(block, null, draft.at.nowMs));
  return known ? "released" : "not owned";
}

/** Makes a block the owner's. False when it is somebody else's or nobody's with addresses in use. */
export function claimAffinity(draft: Draft, owner: BlockOwner, cidr: Cidr): boolean {
  const block = draft.block(cidr);
  if (block ? block.affinity !== owner : draft.blockExists(cidr)) {
    draft.dropAffinity(owner, cidr);
    return false;
  }
  draft.confirm(owner, cidr);
  if (!block) draft.setBlock(cidr, draft.makeBlock(cidr, owner, undefined, undefined));
  return true;
}

/**
 * The blocks of a network that lies in an enabled pool.
 * @throws Problem "bad-input" when it lies in none, or is smaller than a block.
 */
export function blocksOf(cidr: Cidr, pools: Pool[], text: string): Cidr[] {
  const pool = poolHolding(pools.filter((p) => p.enabled), { ...cidr, len: bits(cidr.v) });
  if (!pool) {
    throw new Problem({ code: "bad-input", what: `The requested CIDR (${text}) is not within any configured pools.` });
  }
  if (cidr.len > pool.blockSize) {
    throw new Problem({ code: "bad-input", what: `The requested CIDR (${text}) is smaller than the minimum.` });
  }
  const within = cidr.len < pool.cidr.len ? pool.cidr : cidr;
  const count = blockCount(within, pool.blockSize);
  if (count > 65536n) {
    throw new Problem({ code: "bad-input", what: `The requested CIDR (${text}) has ${count} blocks.` });
  }
  return Array.from({ length: Number(count) }, (_, i) => blockAt(within, pool.blockSize, BigInt(i)));
}

/**
 * Gives up the owner's block when it is empty and its pool does not select the node any more.
 * @param pool the pool that holds the block; undefined: nothing is done.
 * @returns whether it was given up.
 */
export function releaseIfUnselected(
  draft: Draft,
  block: Block,
  pool: Pool | undefined,
  labels: Record<string, string>,
): boolean {
  const owner = blockOwnerOf(block.affinity);
  if (!pool || !owner || !isEmpty(block) || selectsNode(pool, labels)) return false;
  return releaseAffinity(draft, owner, block.cidr, true) === "released";
}

/** Writes a block after a release: one that nobody owns and nothing is left of is deleted. */
export function keepOrDelete(draft: Draft, block: Block): void {
  draft.setBlock(block.cidr, isAbandoned(block) ? undefined : block);
}

/** How long ago the block got its owner; Infinity when it does not say. */
export function ageMs(block: Block, nowMs: number): number {
  const since = block.claimTime === undefined ? undefined : parseRfc3339(block.claimTime);
  return since === undefined ? Infinity : nowMs - since;
}
