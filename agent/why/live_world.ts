import { World } from "./world.ts";
import type { Clock } from "../../lib/clock.ts";
import { resourcePrefix } from "../../datastore/kind.ts";
import { Compacted, type KeyValue, prefixRange, Restored, type Store } from "../../datastore/store.ts";

/** A World is not made anew more often, however fast the datastore changes: 10,000 endpoints take a second. */
const leastMs = 2_000;
const range = prefixRange(resourcePrefix);

/** The datastore's present state for questions about packets, kept up to date while somebody asks. */
export class LiveWorld {
  #world: World | undefined;
  #madeAtMs = -Infinity;
  #changed = true;

  private constructor(private readonly stored: Map<string, KeyValue>, private readonly clock: Clock) {}

  /** Lists everything, and follows changes until the signal. @throws Problem of the store for the list. */
  static async open(store: Store, clock: Clock, signal: AbortSignal): Promise<LiveWorld> {
    const stored = new Map<string, KeyValue>();
    const revision = await store.list(range, (kvs) => kvs.forEach((kv) => stored.set(kv.key, kv)));
    const world = new LiveWorld(stored, clock);
    world.#follow(store, revision, signal).catch(() => {}); // what was known stays; names may be old
    return world;
  }

  /** As it is now, or was two seconds ago. */
  now(): World {
    const now = this.clock.monotonicMs();
    if (this.#world && (!this.#changed || now < this.#madeAtMs + leastMs)) return this.#world;
    this.#changed = false;
    this.#world = new World([...this.stored.values()]);
    this.#madeAtMs = this.clock.monotonicMs();
    return this.#world;
  }

  async #follow(store: Store, from: bigint, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const { events } of store.watch(range, from + 1n, { signal })) {
          for (const { key, value, revision, created } of events) {
            if (value === undefined) this.stored.delete(key);
            else this.stored.set(key, { key, value, revision, created });
          }
          this.#changed ||= events.length > 0;
        }
      } catch (error) {
        if (!(error instanceof Compacted || error instanceof Restored)) throw error;
        const anew: KeyValue[] = [];
        from = await store.list(range, (kvs) => void anew.push(...kvs));
        this.stored.clear();
        for (const kv of anew) this.stored.set(kv.key, kv);
        this.#changed = true;
      }
    }
  }
}
