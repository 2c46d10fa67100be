import { type Cidr, contains, type Family, ipAt } from "../lib/ip.ts";
import { affinityPrefix, blockFamilyPrefix, type BlockOwner, blockOwnerOf } from "../datastore/keys.ts";
import { type Attribute, attribute, type Block, isEmpty, takeNext } from "./block.ts";
import type { Draft } from "./draft.ts";
import { blockCount, blocksInOrder, inOrder } from "./pools/blocks.ts";
import type { Pool } from "./pools/pool.ts";
import type { AssignedAddress, AssignRequest } from "./request.ts";
import { ageMs } from "./affinities.ts";

/** A search for addresses of one IP version: where it may look, and what it has found. */
export interface Search {
  readonly draft: Draft;
  readonly request: AssignRequest;
  readonly family: Family;
  /** `host:<node>` or `virtual:<name>`. */
  readonly owner: BlockOwner;
  readonly pools: Pool[];
  readonly count: number;
  readonly found: AssignedAddress[];
  /** Per block in order: how many were still wanted, how many were taken; what the handle counts. */
  readonly takes: Take[];
}

/** Addresses taken from one block. */
export interface Take {
  block: Cidr;
  asked: number;
  taken: number;
}

/** How long an empty block is its owner's before another node may take it (Calico: EmptyBlockMinReclaimAge). */
export const reclaimAgeMs = 60_000;

/** Addresses still wanted. */
export const missing = (s: Search): number => s.count - s.found.length;

/** Takes from the owner's blocks in key order. A claim on somebody else's block is stale and goes; a lost block is made again. */
export function takeOwn(s: Search, blocks: Cidr[]): void {
  for (const cidr of blocks) {
    if (missing(s) === 0) return;
    const pool = s.pools.find((p) => contains(p.cidr, cidr));
    if (!pool || s.draft.view.reservations().whole(cidr)) continue;
    const block = s.draft.block(cidr);
    if (!block && s.draft.blockExists(cidr)) continue;
    if (block && block.affinity !== s.owner) s.draft.dropAffinity(s.owner, cidr);
    else takeOwned(s, pool, block ?? s.draft.makeBlock(cidr, s.owner, undefined, s.request.hostReserved));
  }
}

/**
 * Takes from a block that the owner has not used yet: the first in its order that nobody has, or that is its own without an
 * affinity; else the longest empty one of another owner.
 * @returns whether the owner now has one block more; undefined when there is none to be had.
 */
export function takeNew(s: Search): "claimed" | "own" | undefined {
  const empty: { pool: Pool; block: Block }[] = [];
  for (const pool of s.pools) {
    for (const cidr of blocksInOrder(pool.cidr, pool.blockSize, startIn(s, pool), (b) => reservedTo(s, b))) {
      const block = s.draft.block(cidr);
      if (!block) {
        if (!s.draft.blockExists(cidr) && claim(s, pool, cidr, undefined)) return "claimed";
      } else if (block.affinity === s.owner) {
        if (takeOwned(s, pool, block)) return "own";
      } else if (block.affinity !== null && isEmpty(block)) empty.push({ pool, block });
    }
  }
  return reclaim(s, empty) ? "claimed" : undefined;
}

/** Takes from any block of the pools, whoever owns it. @returns CIDRs of the pools that had too few. */
export function borrow(s: Search): string[] {
  const exhausted: string[] = [];
  for (const pool of s.pools) {
    if (missing(s) === 0) break;
    const inPool = s.draft.blocks(s.family).filter((b) => contains(pool.cidr, b.cidr) && b.cidr.len === pool.blockSize);
    for (const block of inOrder(pool.cidr, pool.blockSize, startIn(s, pool), inPool)) {
      if (missing(s) === 0) break;
      if (!s.draft.view.reservations().whole(block.cidr)) take(s, pool, block);
    }
    if (missing(s) > 0) exhausted.push(pool.text);
  }
  if (missing(s) > 0) s.draft.relyOnAll(blockFamilyPrefix(s.family));
  return exhausted;
}

/** The attribute that the request's addresses point to. */
export const attributeFor = (request: AssignRequest): Attribute => attribute(request.handle, request.attributes);

/** The block number at which the node begins in a pool. Blocks of one address are begun anywhere, not to meet others. */
function startIn(s: Search, pool: Pool): bigint {
  const count = blockCount(pool.cidr, pool.blockSize);
  const { startBlock, random } = s.draft.at;
  const single = pool.blockSize === (s.family === 4 ? 32 : 128);
  return single ? BigInt(Math.floor(random() * 2 ** 52)) % count : startBlock(s.request.node, pool.cidr, count);
}

function reservedTo(s: Search, block: Cidr): bigint | undefined {
  const reservations = s.draft.view.reservations();
  return reservations.whole(block) ? reservations.endOf(block) : undefined;
}

/** DIFFERS: the longest claimed first (Calico: the first in order), so that a block just claimed stays with its node. */
function reclaim(s: Search, empty: { pool: Pool; block: Block }[]): boolean {
  const { nowMs } = s.draft.at;
  const old = empty.filter(({ block }) => ageMs(block, nowMs) >= reclaimAgeMs);
  const oldestFirst = old.sort((a, b) => {
    const [x, y] = [ageMs(a.block, nowMs), ageMs(b.block, nowMs)];
    return x === y ? 0 : y - x;
  });
  for (const { pool, block } of oldestFirst) {
    if (!claim(s, pool, block.cidr, block)) continue;
    const owner = blockOwnerOf(block.affinity);
    if (owner) s.draft.dropAffinity(owner, block.cidr);
    return true;
  }
  return false;
}

/** Makes the block the owner's and takes from it, in one write; exact beside other processes that claim for the owner. */
function claim(s: Search, pool: Pool, cidr: Cidr, before: Block | undefined): boolean {
  const fresh = s.draft.makeBlock(cidr, s.owner, before, s.request.hostReserved);
  if (!takeOwned(s, pool, fresh)) return false;
  s.draft.relyOnAll(affinityPrefix(s.owner, s.family));
  return true;
}

function takeOwned(s: Search, pool: Pool, block: Block): boolean {
  if (!take(s, pool, block)) return false;
  s.draft.confirm(s.owner, block.cidr);
  return true;
}

function take(s: Search, pool: Pool, block: Block): boolean {
  const asked = missing(s);
  const reservations = s.draft.view.reservations();
  const { block: after, ordinals } = takeNext(block, asked, attributeFor(s.request), reservations.has);
  if (ordinals.length === 0) return false;
  s.draft.setBlock(block.cidr, after);
  s.draft.relyOn(pool.key);
  s.takes.push({ block: block.cidr, asked, taken: ordinals.length });
  s.found.push(...ordinals.map((o) => ({ ip: ipAt(block.cidr, o), block: block.cidr })));
  return true;
}

/** Text of networks for messages: `[10.0.0.0/24 10.0.1.0/24]`. */
export const listed = (cidrs: string[]): string => `[${cidrs.join(" ")}]`;
