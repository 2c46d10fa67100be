import {
  bits,
  type Cidr,
  cidrOf,
  contains,
  type Family,
  formatCidr,
  formatIp,
  type Ip,
  ipAt,
  tryParseCidr,
} from "../lib/ip.ts";
import { isProblem, Problem } from "../lib/problem.ts";
import { blockKey, handleKey } from "../datastore/keys.ts";
import { keepOrDelete, releaseIfUnselected } from "./affinities.ts";
import { attributeOf, type Block, handleOf, isCooling, ordinalAt, ordinalsOf, releaseOrdinals } from "./block.ts";
import type { Draft } from "./draft.ts";
import { addCount, setCount } from "./handle.ts";
import { poolHolding } from "./pools/select.ts";
import type { ReleaseAddress, ReleaseOutcome, ReleaseRequest } from "./request.ts";

/** What planning a release came to, before it is committed. */
export type ReleasePlanned = Omit<ReleaseOutcome, "commit">;

/** Plans a release into the draft. With a problem the draft is to be dropped. Needs no ready datastore. */
export function planRelease(draft: Draft, request: ReleaseRequest): ReleasePlanned {
  try {
    const result = "handle" in request ? byHandle(draft, request.handle) : byAddress(draft, request.addresses);
    if (!result.problem && request.with) draft.add(request.with());
    return result;
  } catch (error) {
    if (isProblem(error, "undecodable")) return { ...nothing(), problem: error };
    throw error;
  }
}

/**
 * Everything that the handle's blocks hold under it. Counts of blocks that hold nothing of it (any more) are dropped, so
 * that no stale handle stays.
 */
function byHandle(draft: Draft, id: string): ReleasePlanned {
  const name = id.split("\r")[0]!;
  draft.relyOn(handleKey(name));
  let handle = draft.handle(name);
  if (!handle) return { ...nothing(), missing: true };
  const released: Ip[] = [];
  for (const text of handle.counts.keys()) {
    const cidr = tryParseCidr(text);
    const block = cidr && draft.block(cidr);
    if (cidr && !block && draft.blockExists(cidr)) throw unreadable(cidr);
    const ordinals = block ? ordinalsOf(block, name) : [];
    if (block) releaseFrom(draft, block, ordinals, false);
    if (cidr && !block) draft.relyOn(blockKey(cidr));
    released.push(...ordinals.map((o) => ipAt(block!.cidr, o)));
    if (draft.at.counting === "exact") handle = setCount(handle, text, 0);
    else handle = addCount(handle, text, -ordinals.length);
  }
  draft.setHandle(name, handle);
  return { ...nothing(), released };
}

/** Single addresses, wherever they are. A foreign handle or sequence number refuses the whole request. */
function byAddress(draft: Draft, addresses: ReleaseAddress[]): ReleasePlanned {
  const result = nothing();
  const wanted = new Map(addresses.map((a) => [formatIp(a.ip), a]));
  const perBlock = new Map<string, { block: Block; ordinals: number[] }>();
  for (const address of wanted.values()) {
    const block = holderOf(draft, address.ip);
    const ordinal = block && ordinalAt(block, address.ip);
    const attribute = block && ordinal !== undefined ? attributeOf(block, ordinal) : undefined;
    if (!block || ordinal === undefined || !attribute || isCooling(attribute)) {
      result.unallocated.push(address.ip);
      continue;
    }
    const problem = mismatch(block, ordinal, address);
    if (problem) return { ...nothing(), problem };
    const key = formatCidr(block.cidr);
    const group = perBlock.get(key) ?? { block, ordinals: [] };
    perBlock.set(key, { block, ordinals: [...group.ordinals, ordinal] });
    result.released.push(address.ip);
  }
  for (const { block, ordinals } of perBlock.values()) {
    const handles = ordinals.map((o) => handleOf(attributeOf(block, o)));
    releaseFrom(draft, block, ordinals, true);
    for (const handle of handles) if (handle !== undefined) countDown(draft, handle, block.cidr);
  }
  return result;
}

/** The block that holds an address, relied upon: by the pool's block size, else by looking at all blocks. */
function holderOf(draft: Draft, ip: Ip): Block | undefined {
  const pool = poolHolding(draft.view.pools(), cidrOf(ip, bits(ip.v)));
  if (pool) {
    const cidr = cidrOf(ip, pool.blockSize);
    draft.relyOn(blockKey(cidr));
    if (!draft.block(cidr) && draft.blockExists(cidr)) throw unreadable(cidr);
    return draft.block(cidr);
  }
  const block = draft.blocks(ip.v as Family).find((b) => contains(b.cidr, ip));
  if (block) draft.relyOn(blockKey(block.cidr));
  return block;
}

function mismatch(block: Block, ordinal: number, wanted: ReleaseAddress): Problem | undefined {
  const handle = handleOf(attributeOf(block, ordinal)) ?? "";
  const sequence = block.sequenceOf.get(ordinal) ?? 0n;
  const ip = formatIp(wanted.ip);
  if (wanted.handle !== undefined && wanted.handle.split("\r")[0] !== handle) {
    const what = `update conflict: ${ip} is held by "${handle}", not by "${wanted.handle}"`;
    return new Problem({ code: "conflict", what, where: formatCidr(block.cidr) });
  }
  if (wanted.sequenceNumber !== undefined && wanted.sequenceNumber !== sequence) {
    const what = `update conflict: ${ip} has sequence number ${sequence}, not ${wanted.sequenceNumber}`;
    return new Problem({ code: "conflict", what, where: formatCidr(block.cidr) });
  }
  return undefined;
}

function releaseFrom(draft: Draft, block: Block, ordinals: number[], renumber: boolean): void {
  if (ordinals.length === 0) return draft.relyOn(blockKey(block.cidr));
  const after = releaseOrdinals(block, ordinals, draft.cooling(), renumber);
  keepOrDelete(draft, after);
  const node = after.affinity?.startsWith("host:") ? after.affinity.slice(5) : undefined;
  const labels = node === undefined ? undefined : draft.view.nodeLabels(node);
  const pool = poolHolding(draft.view.pools().filter((p) => p.enabled), after.cidr);
  if (labels) releaseIfUnselected(draft, after, pool, labels);
}

/** One address less; a handle that the block holds nothing of any more forgets the block. */
function countDown(draft: Draft, id: string, cidr: Cidr): void {
  draft.relyOn(handleKey(id));
  const handle = draft.handle(id);
  if (!handle) return;
  const text = formatCidr(cidr);
  const block = draft.block(cidr);
  const left = block ? ordinalsOf(block, id).length : 0;
  const isGone = draft.at.counting === "exact" && left === 0;
  draft.setHandle(id, isGone ? setCount(handle, text, 0) : addCount(handle, text, -1));
}

const unreadable = (cidr: Cidr) =>
  new Problem({
    code: "undecodable",
    what: "the block cannot be read, so nothing of it is released",
    where: blockKey(cidr),
  });
const nothing = (): ReleasePlanned => ({ released: [], missing: false, unallocated: [] });
