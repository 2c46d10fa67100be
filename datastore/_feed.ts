import type { Clock } from "../lib/clock.ts";
import type { Change } from "./_replica.ts";
import type { KeyValue } from "./store.ts";

/** Shortest time between two batches of a consumer: what comes meanwhile becomes one. */
const coalesceMs = 10;

/** What one consumer has not seen yet, the last state of each key. */
export class Feed {
  #pending = new Map<string, KeyValue | undefined>();
  #resync = false;
  #wake = Promise.withResolvers<void>();
  #takenAt: number;

  constructor(private readonly clock: Clock) {
    this.#takenAt = clock.monotonicMs();
  }

  /** @param resync the changes are what a new list was found to differ in. */
  push(changes: Change[], resync: boolean): void {
    for (const [key, value] of changes) this.#pending.set(key, value);
    this.#resync ||= resync;
    if (changes.length > 0) this.#wake.resolve();
  }

  /** Wakes take() for the last time. */
  end(): void {
    this.#wake.resolve();
  }

  /**
   * Everything that is pending, as soon as there is something and the last batch is 10 ms old. Rejects with the reason of
   * `signal`; empty after end().
   */
  async take(signal: AbortSignal): Promise<{ set: KeyValue[]; deleted: string[]; resync: boolean }> {
    await orRejected(this.#wake.promise, signal);
    const early = this.#takenAt + coalesceMs - this.clock.monotonicMs();
    if (early > 0 && this.#pending.size > 0) await this.clock.sleep(early, signal);
    const pending = this.#pending;
    const resync = this.#resync;
    this.#pending = new Map();
    this.#resync = false;
    this.#wake = Promise.withResolvers();
    this.#takenAt = this.clock.monotonicMs();
    const set = [...pending.values()].filter((kv) => kv !== undefined);
    const deleted = [...pending].flatMap(([key, kv]) => (kv === undefined ? [key] : []));
    return { set, deleted, resync };
  }
}

/** `promise`, or a rejection with the signal's reason. */
export async function orRejected<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await promise;
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const stop = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
