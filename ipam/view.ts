import { type Cidr, type Family, sameIp, tryParseCidrOrIp } from "../lib/ip.ts";
import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import {
  affinityKey,
  affinityPrefix,
  blockFamilyPrefix,
  blockKey,
  type BlockOwner,
  cidrOfKey,
  handleKey,
  handlePrefix,
  ipamConfigKey,
  ipamPrefix,
  nodeKey,
  nodePrefix,
  poolPrefix,
  readyKey,
  reservationPrefix,
} from "../datastore/keys.ts";
import { type KeyValue, prefixRange, type Store } from "../datastore/store.ts";
import { type Block, decodeBlock } from "./block.ts";
import { decodeHandle, type Handle } from "./handle.ts";
import { decodePool, type Pool } from "./pools/pool.ts";
import { type Reservations, reservationsOf } from "./reservations.ts";

/**
 * A picture of etcd at one revision: the mirror, or a snapshot. Complete up to `revision` for the IPAM keys, pools,
 * reservations, nodes and the ClusterInformation; single values may be newer.
 */
export interface Reader {
  readonly revision: bigint;
  get(key: string): KeyValue | undefined;
  /** All values whose key begins with `prefix`, in key order. */
  list(prefix: string): KeyValue[];
  /** Up to which revision the values below `prefix` are complete, when that is later than `revision`. */
  completeTo?(prefix: string): bigint;
}

/** A decoded value with its key and mod revision. */
export interface Stored<T> {
  readonly value: T;
  readonly key: string;
  readonly revision: bigint;
}

/** Settings of address management, `/calico/ipam/v2/config`. */
export interface IpamConfig {
  /** Only the owner of a block takes addresses of it. */
  strict: boolean;
  /** New blocks may be claimed. */
  autoAllocate: boolean;
  /** Most blocks of a node; 0 = not set. */
  maxBlocks: number;
  /** Seconds before a released address may be given again. */
  cooldownS: number;
}

/** A node's claim on a block. */
export interface Affinity {
  /** `host:<node>` or `virtual:<name>`. */
  owner: BlockOwner;
  cidr: Cidr;
  state: "confirmed" | "pending" | "pendingDeletion";
  /** The stored object, for its unknown members. */
  stored: { readonly [member: string]: Json };
}

/**
 * Everything a decision needs, decoded when asked for and kept, at one revision. A value that cannot be decoded is left out
 * and is in `problems`; it still exists() and so is never written over.
 */
export interface View {
  readonly revision: bigint;
  /** False while datastoreReady is false or the ClusterInformation is absent. */
  ready(): boolean;
  /** @throws Problem "undecodable". */
  config(): IpamConfig;
  /** All pools by name, bytewise. */
  pools(): Pool[];
  reservations(): Reservations;
  /** Labels of a node; undefined when it has no Node resource. */
  nodeLabels(node: string): Record<string, string> | undefined;
  /** An owner's affinities in key order. */
  affinities(owner: BlockOwner, v: Family): Stored<Affinity>[];
  affinity(owner: BlockOwner, cidr: Cidr): Stored<Affinity> | undefined;
  block(cidr: Cidr): Stored<Block> | undefined;
  /** Blocks of an IP version in key order. */
  blocks(v: Family): Stored<Block>[];
  /** @throws Problem "undecodable". */
  handle(id: string): Stored<Handle> | undefined;
  /** All handles that are understood, with their ids. */
  handles(): (Stored<Handle> & { id: string })[];
  /** Mod revision of a key; 0n when it does not exist. */
  revisionOf(key: string): bigint;
  /** Up to which revision the values below a prefix are known. */
  completeTo(prefix: string): bigint;
  /** Create revision of a key; 0n when it does not exist. */
  createdOf(key: string): bigint;
  /** Values that were looked at and not understood. */
  problems(): Problem[];
}

/** Keeps decoded values as long as the KeyValue lives, so that a warm mirror's blocks are parsed once a revision. */
export type Decoded = WeakMap<KeyValue, unknown>;

/** The decisions' view of a reader. @param decoded kept by the caller over views of one mirror. */
export function viewOf(reader: Reader, decoded: Decoded = new WeakMap()): View {
  const problems = new Map<string, Problem>();
  const decode = <T>(kv: KeyValue, how: (kv: KeyValue) => T): T => {
    if (!decoded.has(kv)) decoded.set(kv, attempt(() => how(kv)));
    const result = decoded.get(kv);
    if (result instanceof Problem) throw result;
    return result as T;
  };
  const tolerant = <T>(kv: KeyValue | undefined, how: (kv: KeyValue) => T): Stored<T> | undefined => {
    if (!kv) return undefined;
    try {
      return { value: decode(kv, how), key: kv.key, revision: kv.revision };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      problems.set(kv.key, error);
      return undefined;
    }
  };
  const all = <T>(prefix: string, how: (kv: KeyValue) => T) =>
    reader.list(prefix).flatMap((kv) => tolerant(kv, how) ?? []);
  let pools: Pool[] | undefined;
  let reservations: Reservations | undefined;
  return {
    revision: reader.revision,
    ready: () => tolerant(reader.get(readyKey), (kv) => specOf(kv).datastoreReady === true)?.value ?? false,
    config: () => configOf(reader.get(ipamConfigKey)),
    pools: () => pools ??= all(poolPrefix, decodePool).map((p) => p.value).sort((a, b) => (a.name < b.name ? -1 : 1)),
    reservations() {
      if (reservations) return reservations;
      const read = all(reservationPrefix, reservedOf);
      for (const { key, value } of read) for (const problem of value.problems) problems.set(key, problem);
      return reservations = reservationsOf(read.flatMap((r) => r.value.cidrs));
    },
    nodeLabels: (node) => tolerant(reader.get(nodeKey(node)), labelsOf)?.value,
    affinities: (owner, v) =>
      reader.list(affinityPrefix(owner, v)).flatMap((kv) => tolerant(kv, (kv) => affinityOf(kv, owner)) ?? []),
    affinity: (owner, cidr) => tolerant(reader.get(affinityKey(owner, cidr)), (kv) => affinityOf(kv, owner)),
    block: (cidr) => tolerant(reader.get(blockKey(cidr)), blockOf),
    blocks: (v) => all(blockFamilyPrefix(v), blockOf),
    handle(id) {
      const kv = reader.get(handleKey(id));
      return kv && { value: decode(kv, (kv) => decodeHandle(kv.value, kv.key)), key: kv.key, revision: kv.revision };
    },
    handles: () =>
      all(handlePrefix, (kv) => decodeHandle(kv.value, kv.key)).map((h) => ({
        ...h,
        id: h.key.slice(handlePrefix.length),
      })),
    revisionOf: (key) => reader.get(key)?.revision ?? 0n,
    createdOf: (key) => reader.get(key)?.created ?? 0n,
    completeTo: (prefix) => reader.completeTo?.(prefix) ?? reader.revision,
    problems: () => [...problems.values()],
  };
}

/** True when the cluster may be worked on: ClusterInformation `default` exists and says datastoreReady. */
export const isReady = (reader: Reader): boolean => viewOf(reader).ready();

/**
 * Reads in one request what decisions need, for callers without a mirror: all of IPAM, pools, reservations and nodes.
 * @throws Problem "unavailable".
 */
export async function coldReader(
  store: Store,
  options: { deadlineMs?: number; signal?: AbortSignal } = {},
): Promise<Reader> {
  const prefixes = [ipamPrefix, poolPrefix, reservationPrefix, nodePrefix];
  const snapshot = await store.read([readyKey, ...prefixes.map(prefixRange)], options);
  const sorted = [...snapshot.values.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  return {
    revision: snapshot.revision,
    get: (key) => snapshot.values.get(key),
    list: (prefix) => sorted.filter((kv) => kv.key.startsWith(prefix)),
  };
}

function attempt<T>(how: () => T): T | Problem {
  try {
    return how();
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
}

function blockOf(kv: KeyValue): Block {
  const block = decodeBlock(kv.value, kv.key);
  const ofKey = cidrOfKey(kv.key);
  if (!ofKey || !sameIp(ofKey, block.cidr)) throw undecodable(kv, "IPAM block whose cidr is not that of its key");
  return block;
}

function affinityOf(kv: KeyValue, owner: BlockOwner): Affinity {
  const cidr = cidrOfKey(kv.key);
  if (!cidr) throw undecodable(kv, "affinity whose key has no CIDR");
  const stored = kv.value.trim() === "" ? {} : objectOf(kv);
  const state = stored.state === "pending" || stored.state === "pendingDeletion" ? stored.state : "confirmed";
  return { owner, cidr, state, stored };
}

function configOf(kv: KeyValue | undefined): IpamConfig {
  if (!kv) return { strict: false, autoAllocate: true, maxBlocks: 0, cooldownS: 0 };
  const stored = objectOf(kv);
  const count = (n: Json | undefined) => (typeof n === "number" && Number.isFinite(n) ? n : 0);
  return {
    strict: stored.strict_affinity === true,
    autoAllocate: stored.auto_allocate_blocks === true,
    maxBlocks: count(stored.maxBlocksPerHost),
    cooldownS: count(stored.ipCooldownSeconds),
  };
}

function labelsOf(kv: KeyValue): Record<string, string> {
  const metadata = objectOf(kv).metadata;
  const labels = isObject(metadata) && isObject(metadata.labels) ? metadata.labels : {};
  return Object.fromEntries(Object.entries(labels).filter((l): l is [string, string] => typeof l[1] === "string"));
}

/** A reservation's networks; an entry that is none is reported and the others hold. */
function reservedOf(kv: KeyValue): { cidrs: Cidr[]; problems: Problem[] } {
  const entries = specOf(kv).reservedCIDRs ?? [];
  if (!Array.isArray(entries)) throw undecodable(kv, "IP reservation with a bad spec.reservedCIDRs");
  const read = entries.map((e) =>
    (typeof e === "string" ? tryParseCidrOrIp(e.trim()) : undefined) ??
      undecodable(kv, `IP reservation with a bad entry ${writeJson(e)}`)
  );
  return {
    cidrs: read.filter((r): r is Cidr => !(r instanceof Problem)),
    problems: read.filter((r): r is Problem => r instanceof Problem),
  };
}

function specOf(kv: KeyValue): Record<string, Json> {
  const spec = objectOf(kv).spec;
  return isObject(spec) ? spec : {};
}

function objectOf(kv: KeyValue): Record<string, Json> {
  let value: Json;
  try {
    value = parseJson(kv.value);
  } catch (error) {
    throw undecodable(kv, `stored value is not JSON: ${messageOf(error)}`);
  }
  if (!isObject(value)) throw undecodable(kv, "stored value is not a JSON object");
  return value;
}

const undecodable = (kv: KeyValue, what: string) => new Problem({ code: "undecodable", what, where: kv.key });
