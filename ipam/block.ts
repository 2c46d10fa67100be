import { type Cidr, contains, type Ip, ipAt, size, tryParseCidr } from "../lib/ip.ts";
import { isObject, type Json, parseJson, sameJson, writeJson } from "../lib/json64.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { parseRfc3339, rfc3339 } from "../lib/clock.ts";
import type { HostReserved } from "./request.ts";

/**
 * One entry of a block's `attributes`: `handle_id`, `secondary` (the owner's attributes), `alternateOwnerAttrs`
 * (KubeVirt), or only `releasedAt` (released, cooling down). Members that we do not know are kept.
 */
export type Attribute = { readonly [member: string]: Json };

/**
 * A block as stored (Calico: libcalico-go model/block.go), never changed in place: every edit below gives a new one.
 * `sequenceNumber` is that of the stored value; encodeBlock() writes one more, as every write of a block must.
 */
export interface Block {
  readonly cidr: Cidr;
  /** `host:<node>`, `virtual:<name>`, or null: nobody's. */
  readonly affinity: string | null;
  /** When the owner claimed it, RFC 3339; undefined = unknown, counts as long ago. */
  readonly claimTime: string | undefined;
  /** Per ordinal: index into `attributes`, or null = free. */
  readonly allocations: readonly (number | null)[];
  /** Free ordinals in the order in which they are given; freed ones go to the end. */
  readonly unallocated: readonly number[];
  readonly attributes: readonly Attribute[];
  readonly sequenceNumber: bigint;
  /** Per ordinal: the block's sequence number before the write that assigned it. */
  readonly sequenceOf: ReadonlyMap<number, bigint>;
  /** The stored object, for its unknown members. */
  readonly stored: { readonly [member: string]: Json };
}

/** What an edit needs besides the block. */
export interface Cooling {
  nowMs: number;
  /** Seconds before a released address may be given again; 0 or less: at once. */
  cooldownS: number;
}

const reservedHandle = "windows-reserved-ipam-handle";
const maxBlockBits = 12;

/**
 * Reads a stored block.
 * @throws Problem "undecodable" when it is not JSON, or when its numbers contradict each other so that an edit could give
 * an address twice: allocations of another length than the block's size, indexes or ordinals out of range.
 */
export function decodeBlock(text: string, where: string): Block {
  const stored = objectOf(text, where);
  const cidr = typeof stored.cidr === "string" ? tryParseCidr(stored.cidr) : undefined;
  if (!cidr || size(cidr) > 1n << BigInt(maxBlockBits)) throw broken(where, "cidr");
  const count = Number(size(cidr));
  const attributes = listOf(stored.attributes, where, "attributes");
  if (!attributes.every(isObject)) throw broken(where, "attributes");
  const allocations = listOf(stored.allocations, where, "allocations");
  const isIndex = (x: Json) => x === null || isOrdinal(x, attributes.length);
  if (allocations.length !== count || !allocations.every(isIndex)) throw broken(where, "allocations");
  const unallocated = listOf(stored.unallocated, where, "unallocated");
  if (!unallocated.every((x) => isOrdinal(x, count))) throw broken(where, "unallocated");
  const affinity = stored.affinity ?? null;
  if (affinity !== null && typeof affinity !== "string") throw broken(where, "affinity");
  return {
    cidr,
    affinity,
    claimTime: typeof stored.affinity_claim_time === "string" ? stored.affinity_claim_time : undefined,
    allocations: allocations as (number | null)[],
    unallocated: unallocated as number[],
    attributes: attributes as Attribute[],
    sequenceNumber: bigOf(stored.sequenceNumber ?? 0, where, "sequenceNumber"),
    sequenceOf: sequencesOf(stored.sequenceNumberForAllocation, where),
    stored,
  };
}

/**
 * The value to store: members in Calico's order, unknown ones after them, `sequenceNumber` one higher than the block's
 * (so that whoever holds the old value notices). A block that was never assigned from has `attributes: null`, as Go writes.
 */
export function encodeBlock(block: Block): string {
  const { cidr: _c, affinity: _a, affinity_claim_time: _t, ...rest } = block.stored;
  const sequences = Object.fromEntries([...block.sequenceOf].map(([ordinal, n]) => [String(ordinal), n]));
  const untouched = block.attributes.length === 0 && (block.stored.attributes ?? null) === null;
  const value = {
    cidr: block.stored.cidr,
    affinity: block.affinity,
    affinity_claim_time: block.claimTime,
    allocations: block.allocations,
    unallocated: block.unallocated,
    attributes: untouched ? null : block.attributes,
    sequenceNumber: block.sequenceNumber + 1n,
    sequenceNumberForAllocation: sequences,
    deleted: false,
  };
  return writeJson({ ...value, ...without(rest, Object.keys(value)) });
}

/**
 * A block that does not exist yet, all free but for the addresses that the host reserves for itself.
 * @param sequence Unix time in nanoseconds, or more when the block existed before: a sequence number never comes twice.
 */
export function newBlock(
  cidr: Cidr,
  text: string,
  owner: string,
  at: { nowMs: number; sequence: bigint },
  host?: HostReserved,
): Block {
  const count = Number(size(cidr));
  const isHosts = (o: number) => host !== undefined && (o < host.start || o >= count - host.end);
  const ordinals = Array.from({ length: count }, (_, o) => o);
  return {
    cidr,
    affinity: owner,
    claimTime: rfc3339(at.nowMs),
    allocations: ordinals.map((o) => (isHosts(o) ? 0 : null)),
    unallocated: ordinals.filter((o) => !isHosts(o)),
    attributes: host ? [{ handle_id: host.handle, secondary: { note: host.note } }] : [],
    sequenceNumber: at.sequence,
    sequenceOf: new Map(),
    stored: { cidr: text },
  };
}

/** The same block with another owner; null takes owner and claim time away. */
export function withOwner(block: Block, owner: string | null, nowMs: number): Block {
  return { ...block, affinity: owner, claimTime: owner === null ? undefined : rfc3339(nowMs) };
}

/** Takes up to `count` free addresses from the front of the queue, stepping over those that `isReserved`, which stay. */
export function takeNext(
  block: Block,
  count: number,
  attribute: Attribute,
  isReserved: (ip: Ip) => boolean,
): { block: Block; ordinals: number[] } {
  const ordinals: number[] = [];
  for (const ordinal of block.unallocated) {
    if (ordinals.length >= count) break;
    if (isFree(block, ordinal) && !ordinals.includes(ordinal) && !isReserved(ipAt(block.cidr, ordinal))) {
      ordinals.push(ordinal);
    }
  }
  return { block: ordinals.length ? allocate(block, ordinals, attribute) : block, ordinals };
}

/** Takes one given address. The caller has seen that isFree(). */
export function takeOrdinal(block: Block, ordinal: number, attribute: Attribute): Block {
  return allocate(block, [ordinal], attribute);
}

/**
 * Releases ordinals: they cool down (attribute with only `releasedAt`), and what has cooled long enough becomes free.
 * @param renumber gives the released ordinals a new sequence number, as Calico does in a release by address.
 */
export function releaseOrdinals(block: Block, ordinals: number[], cooling: Cooling, renumber: boolean): Block {
  if (ordinals.length === 0) return block;
  const cooled: Attribute = { releasedAt: rfc3339(cooling.nowMs) };
  const allocations = [...block.allocations];
  const sequenceOf = new Map(block.sequenceOf);
  for (const ordinal of ordinals) {
    allocations[ordinal] = block.attributes.length;
    if (renumber) sequenceOf.set(ordinal, block.sequenceNumber);
  }
  return collectCooled({ ...block, allocations, sequenceOf, attributes: [...block.attributes, cooled] }, cooling);
}

/**
 * Frees what has cooled down, in ordinal order at the end of the queue, and drops attributes that nothing points to. Gives
 * the same object back when there is nothing to do.
 * DIFFERS: `releasedAt` has whole seconds, so Calico's cooldown of n seconds may end up to 1 s early; ours lasts n to n+1 s.
 */
export function collectCooled(block: Block, cooling: Cooling): Block {
  const isOver = block.attributes.map((a) => hasCooled(a, cooling));
  const freed = block.allocations.flatMap((a, ordinal) => (a !== null && isOver[a] ? [ordinal] : []));
  const allocations = block.allocations.map((a) => (a !== null && isOver[a] ? null : a));
  const used = new Set(allocations);
  if (freed.length === 0 && block.attributes.every((_, i) => used.has(i))) return block;
  const kept = block.attributes.flatMap((_, i) => (used.has(i) ? [i] : []));
  const renumbered = new Map(kept.map((old, index) => [old, index]));
  const isFreed = new Set(freed);
  return {
    ...block,
    allocations: allocations.map((a) => (a === null ? null : renumbered.get(a)!)),
    unallocated: [...block.unallocated.filter((o) => !isFreed.has(o)), ...freed],
    attributes: kept.map((i) => block.attributes[i]!),
    sequenceOf: new Map([...block.sequenceOf].filter(([ordinal]) => !isFreed.has(ordinal))),
    stored: { ...block.stored, attributes: [] },
  };
}

/** True when nobody holds or cools the ordinal. */
export const isFree = (block: Block, ordinal: number): boolean => block.allocations[ordinal] === null;

/** Ordinals held under `handle`. What follows a carriage return in a stored handle is ignored (Calico: sanitizeHandle). */
export function ordinalsOf(block: Block, handle: string): number[] {
  const isHandles = block.attributes.map((a) => handleOf(a) === handle);
  return block.allocations.flatMap((a, ordinal) => (a !== null && isHandles[a] ? [ordinal] : []));
}

/** The handle of an attribute; undefined when it has none. */
export function handleOf(attribute: Attribute | undefined): string | undefined {
  const handle = attribute?.handle_id;
  return typeof handle === "string" ? handle.split("\r")[0] : undefined;
}

/** The attribute of an ordinal; undefined when it is free. */
export function attributeOf(block: Block, ordinal: number): Attribute | undefined {
  const index = block.allocations[ordinal];
  return index === null || index === undefined ? undefined : block.attributes[index];
}

/** True for an address that was released and may not be given yet. */
export const isCooling = (attribute: Attribute | undefined): boolean => typeof attribute?.releasedAt === "string";

/** True when nothing is assigned but what the host reserves for itself. An address that cools down counts as assigned. */
export function isEmpty(block: Block): boolean {
  return block.allocations.every((a) => a === null || isHostReserved(block.attributes[a]));
}

/** True for the attribute of addresses that a Windows host keeps for itself. */
export const isHostReserved = (attribute: Attribute | undefined): boolean =>
  handleOf(attribute)?.toLowerCase() === reservedHandle;

/** The number of `ip` in the block; undefined when it lies outside. */
export function ordinalAt(block: Block, ip: Ip): number | undefined {
  return contains(block.cidr, ip) ? Number(ip.n - block.cidr.n) : undefined;
}

/** An attribute as Calico writes it; empty parts are left out. */
export function attribute(handle: string | undefined, secondary: Record<string, string>): Attribute {
  return {
    ...(handle === undefined ? {} : { handle_id: handle }),
    ...(Object.keys(secondary).length === 0 ? {} : { secondary }),
  };
}

function allocate(block: Block, ordinals: number[], wanted: Attribute): Block {
  const found = block.attributes.findIndex((a) => sameJson(a, wanted));
  const index = found < 0 ? block.attributes.length : found;
  const allocations = [...block.allocations];
  const sequenceOf = new Map(block.sequenceOf);
  for (const ordinal of ordinals) {
    allocations[ordinal] = index;
    sequenceOf.set(ordinal, block.sequenceNumber);
  }
  return {
    ...block,
    allocations,
    sequenceOf,
    unallocated: block.unallocated.filter((o) => !ordinals.includes(o)),
    attributes: found < 0 ? [...block.attributes, wanted] : block.attributes,
  };
}

function hasCooled(attribute: Attribute, { nowMs, cooldownS }: Cooling): boolean {
  if (!isCooling(attribute)) return false;
  const since = parseRfc3339(attribute.releasedAt as string);
  return cooldownS <= 0 || since === undefined || nowMs - since >= (cooldownS + 1) * 1000;
}

function sequencesOf(value: Json | undefined, where: string): Map<number, bigint> {
  if (value === undefined || value === null) return new Map();
  if (!isObject(value)) throw broken(where, "sequenceNumberForAllocation");
  return new Map(
    Object.entries(value).map(([ordinal, n]) => [Number(ordinal), bigOf(n, where, "sequenceNumberForAllocation")]),
  );
}

function bigOf(value: Json, where: string, field: string): bigint {
  if (typeof value === "bigint" && value >= 0n) return value;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  throw broken(where, field);
}

const isOrdinal = (x: Json, end: number) => typeof x === "number" && Number.isInteger(x) && x >= 0 && x < end;

function listOf(value: Json | undefined, where: string, field: string): Json[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw broken(where, field);
  return value;
}

function objectOf(text: string, where: string): Record<string, Json> {
  let value: Json;
  try {
    value = parseJson(text);
  } catch (error) {
    throw new Problem({ code: "undecodable", what: `stored value is not JSON: ${messageOf(error)}`, where });
  }
  if (!isObject(value)) throw new Problem({ code: "undecodable", what: "stored value is not a JSON object", where });
  return value;
}

const without = (value: Record<string, Json>, members: string[]) =>
  Object.fromEntries(Object.entries(value).filter(([member]) => !members.includes(member)));

const broken = (where: string, field: string) =>
  new Problem({
    code: "undecodable",
    what: `IPAM block has a bad ${field}`,
    where,
    todo: "Look at it with `tortie ctl ipam check`.",
  });
