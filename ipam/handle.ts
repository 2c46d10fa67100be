import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { messageOf, Problem } from "../lib/problem.ts";

/**
 * The stored value of a handle (Calico: libcalico-go model/ipam_handle.go): how many addresses it holds in each block, by
 * the block's CIDR as text. Never changed in place. Calico's counts may be too high, so they are no proof of an address.
 */
export interface Handle {
  readonly counts: ReadonlyMap<string, number>;
  /** The stored object, for its unknown members. */
  readonly stored: { readonly [member: string]: Json };
}

/** A handle that holds nothing yet. */
export const newHandle: Handle = { counts: new Map(), stored: {} };

/** Reads a stored handle. @throws Problem "undecodable". */
export function decodeHandle(text: string, where: string): Handle {
  let stored: Json;
  try {
    stored = parseJson(text);
  } catch (error) {
    throw new Problem({ code: "undecodable", what: `IPAM handle is not JSON: ${messageOf(error)}`, where });
  }
  if (!isObject(stored)) throw new Problem({ code: "undecodable", what: "IPAM handle is not a JSON object", where });
  const block = stored.block ?? {};
  const isCount = (n: Json) => typeof n === "number" && Number.isInteger(n);
  if (!isObject(block) || !Object.values(block).every(isCount)) {
    throw new Problem({ code: "undecodable", what: "IPAM handle has a bad block map", where });
  }
  return { counts: new Map(Object.entries(block) as [string, number][]), stored };
}

/** The value to store, with blocks in order of their text. */
export function encodeHandle(handle: Handle): string {
  const { block: _b, deleted: _d, ...rest } = handle.stored;
  const block = Object.fromEntries([...handle.counts].sort(([a], [b]) => (a < b ? -1 : 1)));
  return writeJson({ block, deleted: false, ...rest });
}

/** Adds `count` (negative: subtracts) to the count of a block; a block at zero or below is left out. */
export function addCount(handle: Handle, block: string, count: number): Handle {
  return setCount(handle, block, (handle.counts.get(block) ?? 0) + count);
}

/** Sets the count of a block; zero or less leaves the block out. */
export function setCount(handle: Handle, block: string, count: number): Handle {
  const counts = new Map(handle.counts);
  if (count > 0) counts.set(block, count);
  else counts.delete(block);
  return { ...handle, counts };
}

/** True when the handle names no block any more: its key is deleted then. */
export const isSpent = (handle: Handle): boolean => handle.counts.size === 0;
