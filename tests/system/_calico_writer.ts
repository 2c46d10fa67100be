import type { KeyValue, Store, Write } from "../../datastore/store.ts";
import { prefixRange } from "../../datastore/store.ts";

/**
 * Assigns and releases addresses with Calico's own protocol of many requests (libcalico-go/lib/ipam): affinity pending,
 * block, affinity confirmed; handle first, block second; each by compare-and-swap. Written anew here, sharing nothing with
 * `ipam/`, to race against it.
 */
export class CalicoWriter {
  constructor(
    private readonly store: Store,
    private readonly node: string,
    /** All blocks of the pool, in the order in which this node tries them: `10.9.0.0/28`. */
    private readonly blocks: string[],
    private readonly size: number,
  ) {}

  /** One address, or undefined when there is none or the race was lost too often. */
  async assign(handle: string): Promise<string | undefined> {
    for (const cidr of await this.#own()) {
      const address = await this.#fromOwn(cidr, handle);
      if (address) return address;
    }
    for (const cidr of this.blocks) {
      if (await this.#get(blockKey(cidr))) continue;
      if (!await this.#claim(cidr)) continue;
      const address = await this.#fromBlock(cidr, handle, true);
      if (address) return address;
    }
    for (const cidr of this.blocks) {
      const address = await this.#fromBlock(cidr, handle, false);
      if (address) return address;
    }
    return undefined;
  }

  /** Releases all addresses of a handle: each block, then the handle's count. */
  async release(handle: string): Promise<void> {
    const stored = await this.#get(handleKey(handle));
    if (!stored) return;
    for (const cidr of Object.keys(parse(stored).block)) {
      const count = await this.#releaseFrom(cidr, handle);
      if (count > 0) await this.#count(handle, cidr, -count);
    }
  }

  /** Gives up every empty block of the node in Calico's three steps. */
  async releaseAffinities(): Promise<void> {
    for (const cidr of await this.#own()) {
      const affinity = await this.#get(affinityKey(this.node, cidr));
      const block = await this.#get(blockKey(cidr));
      if (!affinity || !block) continue;
      const value = parse(block);
      if (value.affinity !== `host:${this.node}` || value.allocations.some((a) => a !== null)) continue;
      const pending = { put: affinity.key, value: JSON.stringify({ state: "pendingDeletion", deleted: false }) };
      const revision = await this.#cas(affinity.key, affinity.revision, pending);
      if (revision === undefined) continue;
      if (await this.#cas(block.key, block.revision, { delete: block.key }) === undefined) continue;
      await this.#cas(affinity.key, revision, { delete: affinity.key });
    }
  }

  async #own(): Promise<string[]> {
    const { values } = await this.store.read([prefixRange(`/calico/ipam/v2/host/${this.node}/ipv4/block/`)]);
    return [...values.keys()].map((key) => key.slice(key.lastIndexOf("/") + 1).replace("-", "/"));
  }

  /** Confirms an affinity that is not, after writing the block to fail whoever holds its old revision. */
  async #fromOwn(cidr: string, handle: string): Promise<string | undefined> {
    const affinity = await this.#get(affinityKey(this.node, cidr));
    const block = await this.#get(blockKey(cidr));
    if (!affinity) return undefined;
    if (!block) return await this.#claim(cidr) ? this.#fromBlock(cidr, handle, true) : undefined;
    if (parse(block).affinity !== `host:${this.node}`) {
      await this.#cas(affinity.key, affinity.revision, { delete: affinity.key });
      return undefined;
    }
    if (JSON.parse(affinity.value).state !== "confirmed") {
      const pending = await this.#state(cidr, affinity.revision, "pending");
      if (pending === undefined) return undefined;
      if (await this.#cas(block.key, block.revision, { put: block.key, value: bumped(block.value) }) === undefined) {
        return undefined;
      }
      if (await this.#state(cidr, pending, "confirmed") === undefined) return undefined;
    }
    return this.#fromBlock(cidr, handle, true);
  }

  async #claim(cidr: string): Promise<boolean> {
    const key = affinityKey(this.node, cidr);
    let revision = await this.#state(cidr, 0n, "pending");
    if (revision === undefined) {
      const there = await this.#get(key);
      if (!there) return false;
      revision = JSON.parse(there.value).state === "confirmed"
        ? there.revision
        : await this.#state(cidr, there.revision, "pending");
      if (revision === undefined) return false;
    }
    const made = await this.#cas(blockKey(cidr), 0n, { put: blockKey(cidr), value: this.#newBlock(cidr) });
    const block = made === undefined ? await this.#get(blockKey(cidr)) : undefined;
    if (made === undefined && (!block || parse(block).affinity !== `host:${this.node}`)) {
      await this.#cas(key, revision, { delete: key });
      return false;
    }
    await this.#state(cidr, revision, "confirmed");
    return true;
  }

  async #fromBlock(cidr: string, handle: string, isOwn: boolean): Promise<string | undefined> {
    for (let i = 0; i < 20; i++) {
      const stored = await this.#get(blockKey(cidr));
      if (!stored) return undefined;
      const block = parse(stored);
      if (isOwn && block.affinity !== `host:${this.node}`) return undefined;
      const ordinal = block.unallocated.shift();
      if (ordinal === undefined) return undefined;
      const index = block.attributes?.length ?? 0;
      block.attributes = [...(block.attributes ?? []), { handle_id: handle, secondary: { node: this.node } }];
      block.allocations[ordinal] = index;
      if (!await this.#count(handle, cidr, 1)) return undefined;
      const value = bumped(JSON.stringify(block), ordinal);
      if (await this.#cas(stored.key, stored.revision, { put: stored.key, value }) !== undefined) {
        const [a, b, c, d] = cidr.split("/")[0]!.split(".").map(Number);
        return `${a}.${b}.${c}.${d! + ordinal}`;
      }
      await this.#count(handle, cidr, -1);
    }
    return undefined;
  }

  async #releaseFrom(cidr: string, handle: string): Promise<number> {
    for (let i = 0; i < 100; i++) {
      const stored = await this.#get(blockKey(cidr));
      if (!stored) return 0;
      const block = parse(stored);
      const mine = block.allocations.flatMap((
        a,
        o,
      ) => (a !== null && block.attributes![a]!.handle_id === handle ? [o] : []));
      if (mine.length === 0) return 0;
      for (const o of mine) {
        block.allocations[o] = null;
        block.unallocated.push(o);
        delete block.sequenceNumberForAllocation[String(o)];
      }
      const used = (block.attributes ?? []).flatMap((_, a) => (block.allocations.includes(a) ? [a] : []));
      block.attributes = used.map((a) => block.attributes![a]!);
      block.allocations = block.allocations.map((a) => (a === null ? null : used.indexOf(a)));
      const isGone = block.affinity === null && block.allocations.every((a) => a === null);
      const write: Write = isGone ? { delete: stored.key } : { put: stored.key, value: bumped(JSON.stringify(block)) };
      if (await this.#cas(stored.key, stored.revision, write) !== undefined) return mine.length;
    }
    throw new Error(`release of ${handle} conflicted 100 times`);
  }

  async #count(handle: string, cidr: string, by: number): Promise<boolean> {
    for (let i = 0; i < 100; i++) {
      const stored = await this.#get(handleKey(handle));
      const block = stored ? parse(stored).block : {};
      const count = (block[cidr] ?? 0) + by;
      if (count > 0) block[cidr] = count;
      else delete block[cidr];
      const key = handleKey(handle);
      if (!stored && Object.keys(block).length === 0) return true;
      const write: Write = Object.keys(block).length === 0
        ? { delete: key }
        : { put: key, value: JSON.stringify({ block, deleted: false }) };
      if (await this.#cas(key, stored?.revision ?? 0n, write) !== undefined) return true;
    }
    return false;
  }

  #newBlock(cidr: string): string {
    const all = Array.from({ length: this.size }, (_, i) => i);
    const block = {
      cidr,
      affinity: `host:${this.node}`,
      affinity_claim_time: new Date().toISOString().replace(/\.\d+Z/, "Z"),
      allocations: all.map(() => null),
      unallocated: all,
      attributes: null,
      sequenceNumber: "@",
      sequenceNumberForAllocation: {},
      deleted: false,
    };
    return JSON.stringify(block).replace(
      '"@"',
      `${BigInt(Date.now()) * 1_000_000n + BigInt(Math.floor(Math.random() * 1e6))}`,
    );
  }

  #state(cidr: string, revision: bigint, state: string): Promise<bigint | undefined> {
    const key = affinityKey(this.node, cidr);
    return this.#cas(key, revision, { put: key, value: JSON.stringify({ state, deleted: false }) });
  }

  #get = (key: string): Promise<KeyValue | undefined> => this.store.get(key);

  async #cas(key: string, revision: bigint, write: Write): Promise<bigint | undefined> {
    const result = await this.store.txn({ compare: [{ key, revision }], write: [write] });
    return result.committed ? result.revision : undefined;
  }
}

interface Stored {
  affinity: string | null;
  allocations: (number | null)[];
  unallocated: number[];
  attributes: { handle_id?: string; secondary?: Record<string, string> }[] | null;
  sequenceNumberForAllocation: Record<string, unknown>;
  block: Record<string, number>;
}

const blockKey = (cidr: string) => `/calico/ipam/v2/assignment/ipv4/block/${cidr.replace("/", "-")}`;
const affinityKey = (node: string, cidr: string) => `/calico/ipam/v2/host/${node}/ipv4/block/${cidr.replace("/", "-")}`;
const handleKey = (handle: string) => `/calico/ipam/v2/handle/${handle}`;

/** Long integers become texts marked with `#`; bumped() and JSON.stringify() bring them back as they were. */
const parse = (kv: KeyValue): Stored => JSON.parse(kv.value.replace(/([:[,])(\d{16,})(?=[,\]}])/g, '$1"#$2"'));

/** The text with its sequence number one higher; `ordinal` is numbered as assigned by this write. */
function bumped(text: string, ordinal?: number): string {
  const plain = text.replace(/"#(\d+)"/g, "$1");
  const now = BigInt(/"sequenceNumber":(\d+)/.exec(plain)![1]!);
  const next = plain.replace(/"sequenceNumber":\d+/, `"sequenceNumber":${now + 1n}`);
  if (ordinal === undefined) return next;
  return next.replace(
    /"sequenceNumberForAllocation":\{(\}?)/,
    (_, empty) => `"sequenceNumberForAllocation":{"${ordinal}":${now}${empty || ","}`,
  );
}
