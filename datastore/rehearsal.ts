import { MemoryStore } from "./memory.ts";
import { Resources, type ResourcesOptions } from "./resources.ts";
import { resourcePrefix } from "./kind.ts";
import { storeWith } from "./store_with.ts";
import {
  type CallOptions,
  Compacted,
  type Compare,
  type KeyValue,
  prefixRange,
  type Store,
  type Txn,
  type TxnResult,
} from "./store.ts";

/** What becomes of one key. */
export interface KeyChange {
  key: string;
  /** Undefined = it does not exist. */
  before: KeyValue | undefined;
  /** Undefined = it is deleted. */
  after: string | undefined;
}

/** Times a list is tried again when its revision is compacted away meanwhile. */
const tries = 3;

/**
 * Writes tried out on a copy of all resources in memory, with every check and every reference. What they come to, and
 * all that the checks looked at, can then be one transaction of the real store.
 */
export class Rehearsal {
  /** Resources of the copy. Revisions are those of the real store. */
  readonly resources: Resources;
  readonly #memory: MemoryStore;
  readonly #compared = new Map<string, Compare>();

  private constructor(
    /** Everything stored about resources, as the copy found it. */
    readonly before: readonly KeyValue[],
    private readonly revision: bigint,
    real: Store,
    options: ResourcesOptions,
  ) {
    this.#memory = new MemoryStore();
    this.#memory.restore({ revision, values: new Map(before.map((kv) => [kv.key, kv])) });
    const copy = storeWith(this.#memory, {
      txn: (txn, options) => this.#overhear(txn, options),
      // What lies beside the resources is not copied.
      list: (range, page, options) =>
        range.start.startsWith(resourcePrefix)
          ? this.#memory.list(range, page, options)
          : real.list(range, page, { ...options, at: undefined }),
    });
    this.resources = new Resources(copy, { ...options, author: undefined });
  }

  /** Copies a store's resources at one revision. */
  static async of(store: Store, options: ResourcesOptions): Promise<Rehearsal> {
    for (let left = tries;; left--) {
      const before: KeyValue[] = [];
      try {
        const revision = await store.list(prefixRange(resourcePrefix), (kvs) => void before.push(...kvs));
        return new Rehearsal(before, revision, store, options);
      } catch (error) {
        if (!(error instanceof Compacted) || left <= 1) throw error;
      }
    }
  }

  /** Everything stored about resources after the writes. */
  async after(): Promise<KeyValue[]> {
    const after: KeyValue[] = [];
    await this.#memory.list(prefixRange(resourcePrefix), (kvs) => void after.push(...kvs));
    return after;
  }

  /** The keys that the writes change, by key. */
  async changes(): Promise<KeyChange[]> {
    const before = new Map(this.before.map((kv) => [kv.key, kv]));
    const after = new Map((await this.after()).map((kv) => [kv.key, kv.value]));
    return [...new Set([...before.keys(), ...after.keys()])].sort()
      .map((key) => ({ key, before: before.get(key), after: after.get(key) }))
      .filter(({ before, after }) => before?.value !== after);
  }

  /** What must hold in the real store for the writes to be right: each changed key as it was, and what checks read. */
  async compares(): Promise<Compare[]> {
    const changed = (await this.changes()).map(({ key, before }) => ({ key, revision: before?.revision ?? 0n }));
    const compared = new Map<string, Compare>(changed.map((c) => [c.key, c]));
    for (const [name, c] of this.#compared) if (!compared.has(name)) compared.set(name, c);
    return [...compared.values()];
  }

  async #overhear(txn: Txn, options: CallOptions | undefined): Promise<TxnResult> {
    const result = await this.#memory.txn(txn, options);
    if (result.committed) this.#note(txn);
    return result;
  }

  /** What was compared with writes of the rehearsal itself holds by itself. */
  #note({ compare }: Txn): void {
    for (const c of compare) {
      if ("range" in c) {
        this.#compared.set(`${c.range.start} ${c.range.end}`, { range: c.range, unchangedSince: this.revision });
      } else if (c.revision <= this.revision) this.#compared.set(c.key, c);
    }
  }
}
