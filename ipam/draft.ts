import { type Cidr, type Family, formatCidr } from "../lib/ip.ts";
import { writeJson } from "../lib/json64.ts";
import { isProblem } from "../lib/problem.ts";
import { affinityKey, affinityPrefix, blockKey, type BlockOwner, handleKey, ipamConfigKey } from "../datastore/keys.ts";
import { type Compare, type Event, prefixRange, type Range, type Write } from "../datastore/store.ts";
import { type Block, collectCooled, type Cooling, encodeBlock, isEmpty, newBlock } from "./block.ts";
import { encodeHandle, type Handle, isSpent } from "./handle.ts";
import type { Extra, HostReserved } from "./request.ts";
import type { Affinity, IpamConfig, Stored, View } from "./view.ts";

/** What a plan takes from outside: time and chance of one moment. */
export interface Moment {
  nowMs: number;
  /** First sequence number of a block made now: Unix time in nanoseconds. */
  sequence: bigint;
  /** In [0, 1). */
  random: () => number;
  /** Block number at which a node begins in a pool of `count` blocks. */
  startBlock: (node: string, pool: Cidr, count: bigint) => bigint;
  /**
   * How handles count. `exact`: the addresses that a block holds. `asked`: as Calico, the number still wanted when a block
   * was reached, which leaves handles behind after a release; for comparing with Calico only.
   * DIFFERS: so ours count exactly.
   */
  counting: "exact" | "asked";
}

/** A transaction in the making, ready for Store.txn(). */
export interface Plan {
  compare: Compare[];
  write: Write[];
  /** Every compared key and range: what is needed to plan again. */
  onConflict: (string | Range)[];
  /** Mod and create revision, at the view, of each key that is written; 0n = it did not exist. */
  before: Map<string, { revision: bigint; created: bigint }>;
}

/** Most compares, writes and reads of one transaction; etcd takes 128. */
export const maxOperations = 120;
/** Most bytes of values in one transaction; etcd takes 1.5 MiB. */
const maxBytes = 1_000_000;

/**
 * What several requests together want to change, on top of a view that stays as it is. Reads see the changes made so far;
 * each key is written once however often it changes. A child() can be dropped without a trace, or merged.
 */
export class Draft {
  #blocks = new Map<string, Block | undefined>();
  #handles = new Map<string, Handle | undefined>();
  #affinities = new Map<string, Affinity | undefined>();
  /** What is relied upon, with its revision when it was first looked at: that of the content which the changes start from. */
  #keys = new Map<string, bigint>();
  #prefixes = new Map<string, bigint>();
  #extra: Extra = { compare: [], write: [] };

  constructor(readonly view: View, readonly at: Moment, private readonly parent?: Draft) {}

  /** A draft on top of this one. */
  child(): Draft {
    return new Draft(this.view, this.at, this);
  }

  /** Takes a child's changes over. */
  merge(child: Draft): void {
    for (const [key, value] of child.#blocks) this.#blocks.set(key, value);
    for (const [key, value] of child.#handles) this.#handles.set(key, value);
    for (const [key, value] of child.#affinities) this.#affinities.set(key, value);
    for (const [key, revision] of child.#keys) if (!this.#keys.has(key)) this.#keys.set(key, revision);
    for (const [prefix, revision] of child.#prefixes) {
      if (!this.#prefixes.has(prefix)) this.#prefixes.set(prefix, revision);
    }
    this.add(child.#extra);
  }

  /** The transaction commits only while this key is as the view has it. */
  relyOn(key: string): void {
    if (!this.#keys.has(key)) this.#keys.set(key, this.view.revisionOf(key));
  }

  /** The transaction commits only while nothing below this prefix was made or changed since the view. */
  relyOnAll(prefix: string): void {
    if (!this.#prefixes.has(prefix)) this.#prefixes.set(prefix, this.view.completeTo(prefix));
  }

  /** Settings; the transaction relies on them. @throws Problem "undecodable". */
  config(): IpamConfig {
    this.relyOn(ipamConfigKey);
    return this.view.config();
  }

  /**
   * How released addresses cool down. Must work for a release even when the settings are not understood: then nothing
   * becomes free again until they are.
   */
  cooling(): Cooling {
    try {
      return { nowMs: this.at.nowMs, cooldownS: this.view.config().cooldownS };
    } catch (error) {
      if (!isProblem(error, "undecodable")) throw error;
      return { nowMs: this.at.nowMs, cooldownS: Infinity };
    }
  }

  /** Adds the caller's own compares and writes. */
  add(extra: Extra): void {
    this.#extra.compare.push(...extra.compare);
    this.#extra.write.push(...extra.write);
  }

  /** A block with what has cooled down already freed; undefined when it does not exist or is not understood. */
  block(cidr: Cidr): Block | undefined {
    const changed = this.#find((d) => d.#blocks, blockKey(cidr));
    if (changed) return changed.value;
    const stored = this.view.block(cidr)?.value;
    return stored && collectCooled(stored, this.cooling());
  }

  /** True when the block's key exists, understood or not. */
  blockExists(cidr: Cidr): boolean {
    const changed = this.#find((d) => d.#blocks, blockKey(cidr));
    return changed ? changed.value !== undefined : this.view.revisionOf(blockKey(cidr)) !== 0n;
  }

  /** Blocks of an IP version that exist and are understood. */
  blocks(v: Family): Block[] {
    const changed = this.#changed((d) => d.#blocks);
    const old = this.view.blocks(v).flatMap((
      b,
    ) => (changed.has(b.key) ? [] : [collectCooled(b.value, this.cooling())]));
    return [...old, ...[...changed.values()].filter((b) => b !== undefined && b.cidr.v === v) as Block[]];
  }

  /** Writes a block, or deletes it. */
  setBlock(cidr: Cidr, block: Block | undefined): void {
    this.relyOn(blockKey(cidr));
    this.#blocks.set(blockKey(cidr), block);
  }

  /** A fresh block of `owner`; its sequence numbers go on from an older block's at the same place. */
  makeBlock(cidr: Cidr, owner: BlockOwner, before: Block | undefined, host: HostReserved | undefined): Block {
    const { nowMs, sequence } = this.at;
    const above = before && before.sequenceNumber >= sequence ? before.sequenceNumber : sequence;
    return newBlock(cidr, formatCidr(cidr), owner, { nowMs, sequence: above }, host);
  }

  /** @throws Problem "undecodable". */
  handle(id: string): Handle | undefined {
    const changed = this.#find((d) => d.#handles, handleKey(id));
    return changed ? changed.value : this.view.handle(id)?.value;
  }

  /** Writes a handle; one that names no block is deleted. */
  setHandle(id: string, handle: Handle): void {
    this.relyOn(handleKey(id));
    this.#handles.set(handleKey(id), isSpent(handle) ? undefined : handle);
  }

  /** An owner's affinity to a block. */
  affinity(owner: BlockOwner, cidr: Cidr): Affinity | undefined {
    const changed = this.#find((d) => d.#affinities, affinityKey(owner, cidr));
    return changed ? changed.value : this.view.affinity(owner, cidr)?.value;
  }

  /** An owner's affinities in key order. */
  affinities(owner: BlockOwner, v: Family): Affinity[] {
    const prefix = affinityPrefix(owner, v);
    const changed = this.#changed((d) => d.#affinities);
    const all = new Map<string, Affinity | undefined>(
      this.view.affinities(owner, v).map((a: Stored<Affinity>) => [a.key, a.value]),
    );
    for (const [key, value] of changed) if (key.startsWith(prefix)) all.set(key, value);
    return [...all].filter(([, value]) => value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value!);
  }

  /** Confirms an owner's affinity, or makes it. One of an old form, without state, is left so while its block exists. */
  confirm(owner: BlockOwner, cidr: Cidr): void {
    const key = affinityKey(owner, cidr);
    this.relyOn(key);
    const now = this.affinity(owner, cidr);
    const isWritten = now?.stored.state !== undefined || this.view.revisionOf(blockKey(cidr)) !== 0n;
    if (now?.state === "confirmed" && isWritten) return;
    this.#affinities.set(key, { owner, cidr, state: "confirmed", stored: now?.stored ?? {} });
  }

  /** Deletes an owner's affinity if it exists. */
  dropAffinity(owner: BlockOwner, cidr: Cidr): void {
    const key = affinityKey(owner, cidr);
    this.relyOn(key);
    if (this.affinity(owner, cidr) || this.view.revisionOf(key) !== 0n) this.#affinities.set(key, undefined);
  }

  /** What the caller added to this draft itself. */
  get extra(): Readonly<Extra> {
    return this.#extra;
  }

  /**
   * Keys of which this draft's own changes make values that no other writer makes: its handles, else its blocks. Where they
   * all stand as planned, it was carried out.
   */
  get marks(): string[] {
    const written = (values: Map<string, unknown>) =>
      [...values].filter(([, v]) => v !== undefined).map(([key]) => key);
    const handles = written(this.#handles);
    return handles.length > 0 ? handles : written(this.#blocks);
  }

  /** True when this draft and the child together are one transaction that etcd takes, and no key of `add()` comes twice. */
  fits(child: Draft): boolean {
    const reads = new Set([...this.#readKeys(), ...child.#readKeys()]);
    const written = new Set([...this.#writtenKeys(), ...child.#writtenKeys()]);
    const extras = [...this.#extra.write, ...child.#extra.write].map(keyOf);
    const clash = new Set(extras).size < extras.length || extras.some((key) => written.has(key));
    const compares = reads.size + this.#extra.compare.length + child.#extra.compare.length;
    const most = Math.max(compares, written.size + extras.length);
    return !clash && most <= maxOperations && this.#bytes() + child.#bytes() <= maxBytes;
  }

  /** The transaction, with every key that it needs for planning again when a compare fails. */
  plan(): Plan {
    const keyed = [...this.#keys].map(([key, revision]) => ({ key, revision }));
    const ranged = [...this.#prefixes].map(([p, unchangedSince]) => ({ range: prefixRange(p), unchangedSince }));
    const isNew = (c: Compare) => !("key" in c) || !keyed.some((k) => k.key === c.key && k.revision === c.revision);
    const compare = [...keyed, ...ranged, ...this.#extra.compare.filter(isNew)];
    const asked = new Map<string, string | Range>();
    for (const c of compare) {
      if ("key" in c) asked.set(c.key, c.key);
      else asked.set(`${c.range.start} ${c.range.end}`, c.range);
    }
    const write = this.#writes();
    const { view } = this;
    const before = new Map(
      write.map(keyOf).map((k) => [k, { revision: view.revisionOf(k), created: view.createdOf(k) }]),
    );
    return { compare, write, onConflict: [...asked.values()], before };
  }

  #writes(): Write[] {
    const values: [string, string | undefined][] = [];
    for (const [key, block] of this.#blocks) values.push([key, block && encodeBlock(block)]);
    for (const [key, handle] of this.#handles) values.push([key, handle && encodeHandle(handle)]);
    for (const [key, affinity] of this.#affinities) values.push([key, affinity && encodeAffinity(affinity)]);
    const real = values.filter(([key, value]) => value !== undefined || this.view.revisionOf(key) !== 0n);
    const own = real.map(([key, value]): Write => (value === undefined ? { delete: key } : { put: key, value }));
    return [...own, ...this.#extra.write];
  }

  #readKeys(): string[] {
    return [...this.#keys.keys(), ...this.#prefixes.keys()];
  }

  #writtenKeys(): string[] {
    return [...this.#blocks.keys(), ...this.#handles.keys(), ...this.#affinities.keys()];
  }

  /** A safe guess: an attribute of a block takes some 300 bytes, an ordinal 40. */
  #bytes(): number {
    const blocks = [...this.#blocks.values()].map((
      b,
    ) => (b ? b.attributes.length * 300 + b.allocations.length * 40 : 0));
    const extras = this.#extra.write.map((w) => ("put" in w ? w.value.length : 0));
    return [...blocks, ...extras].reduce((sum, n) => sum + n, 200 * this.#handles.size);
  }

  #find<T>(of: (draft: Draft) => Map<string, T>, key: string): { value: T } | undefined {
    const mine = of(this);
    return mine.has(key) ? { value: mine.get(key)! } : this.parent && this.parent.#find(of, key);
  }

  #changed<T>(of: (draft: Draft) => Map<string, T>): Map<string, T> {
    const all = this.parent ? this.parent.#changed(of) : new Map<string, T>();
    for (const [key, value] of of(this)) all.set(key, value);
    return all;
  }
}

/** The events that a plan makes when it commits at `revision`. */
export function eventsOf(plan: Plan, revision: bigint): Event[] {
  return plan.write.map((w) => {
    if ("delete" in w) return { key: w.delete, value: undefined, revision, created: 0n };
    return { key: w.put, value: w.value, revision, created: plan.before.get(w.put)?.created || revision };
  });
}

/** The key that a write changes. */
export const keyOf = (write: Write): string => ("put" in write ? write.put : write.delete);

/** True when a block that nobody owns has nothing left: it is deleted then. */
export const isAbandoned = (block: Block): boolean => block.affinity === null && isEmpty(block);

function encodeAffinity(affinity: Affinity): string {
  const { state: _s, deleted: _d, ...rest } = affinity.stored;
  return writeJson({ state: affinity.state, deleted: false, ...rest });
}
