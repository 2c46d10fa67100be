import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { Wake } from "../lib/wake.ts";

/** What became of one key. */
export interface Acted {
  /** Something was written. */
  wrote: boolean;
  /** The key is in doubt again after this time, whatever happens until then. */
  againMs?: number;
}

/**
 * Brings one key in order; at most one call for each key at a time. Throws Problem "unavailable" when the datastore is away,
 * others when this key cannot be brought in order now.
 */
export type Act = (key: string, signal: AbortSignal) => Promise<Acted>;

/** What a worker works with. */
export interface WorkerParts {
  name: string;
  act: Act;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
}

/** Keys at the same time. */
const width = 16;
/** Between two tries of a key that fails. */
const retry = { firstMs: 50, maxMs: 60_000 };
const idleMs = 60_000;

/** Brings keys in doubt in order, each key by one at a time, until nothing is in doubt. What fails is tried for ever. */
export class Worker {
  readonly #parts: WorkerParts;
  readonly #doubted = new Set<string>();
  readonly #failing = new Map<string, { backoff: Backoff; atMs: number; why: string }>();
  /** Keys that asked for another look, and when. */
  readonly #later = new Map<string, number>();
  readonly #wake: Wake;
  /** Keys that needed a write since the start. */
  written = 0;

  constructor(parts: WorkerParts) {
    this.#parts = parts;
    this.#wake = new Wake(parts.clock);
  }

  /** These keys may not be as they should be. */
  doubt(keys: Iterable<string>): void {
    for (const key of keys) this.#doubted.add(key);
    if (this.#doubted.size > 0) this.#wake.call();
  }

  /** Keys that fail, and why. */
  failing(): Map<string, string> {
    return new Map([...this.#failing].map(([key, { why }]) => [key, why]));
  }

  /** Keys that wait. */
  get waiting(): number {
    return this.#doubted.size;
  }

  /** Works until the signal. Who else may write is not our matter: each write names the revision that it replaces. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log, name } = this.#parts;
    const away = new Backoff({ firstMs: 100, maxMs: 5_000, clock, random });
    while (!signal.aborted) {
      const now = clock.monotonicMs();
      this.#takeDue(now);
      if (this.#doubted.size === 0) {
        const due = [...[...this.#failing.values()].map(({ atMs }) => atMs), ...this.#later.values()];
        await this.#wake.sleep(Math.min(...due, now + idleMs) - now, signal);
        continue;
      }
      if (await this.#round(signal)) away.reset();
      else {
        log.warn("the datastore cannot be written now", { controller: name, waiting: this.#doubted.size });
        await away.wait(signal).catch(() => {}); // aborted: the loop looks for that
      }
    }
    // Whoever works next, perhaps we again, begins with these; until then they are not our failures.
    this.doubt([...this.#failing.keys(), ...this.#later.keys()]);
    this.#failing.clear();
    this.#later.clear();
  }

  #takeDue(now: number): void {
    for (const [key, { atMs }] of this.#failing) if (atMs <= now) this.#doubted.add(key);
    for (const [key, atMs] of this.#later) {
      if (atMs > now) continue;
      this.#later.delete(key);
      this.#doubted.add(key);
    }
  }

  /** Acts on every key in doubt; false when the datastore is away, and what is left stays in doubt. */
  async #round(signal: AbortSignal): Promise<boolean> {
    const keys = [...this.#doubted];
    this.#doubted.clear();
    let isThere = true;
    const lane = async () => {
      for (let key = keys.pop(); key !== undefined; key = keys.pop()) {
        if (isThere && !signal.aborted && await this.#try(key, signal)) continue;
        isThere = false;
        this.#doubted.add(key);
      }
    };
    await Promise.all(Array.from({ length: Math.min(width, keys.length) }, lane));
    return isThere || signal.aborted;
  }

  /** One key; false when the datastore is away. @throws what is a bug. */
  async #try(key: string, signal: AbortSignal): Promise<boolean> {
    const { act, name, clock, random, log } = this.#parts;
    try {
      const { wrote, againMs } = await act(key, signal);
      if (wrote) this.written++;
      if (againMs === undefined) this.#later.delete(key);
      else this.#later.set(key, clock.monotonicMs() + againMs);
      if (this.#failing.delete(key)) log.info("in order again", { controller: name, key });
      return true;
    } catch (error) {
      if (signal.aborted && error === signal.reason) return false;
      if (!isProblem(error)) throw error;
      if (error.code === "unavailable") return false;
      const backoff = this.#failing.get(key)?.backoff ?? new Backoff({ ...retry, clock, random });
      const atMs = clock.monotonicMs() + backoff.next();
      this.#failing.set(key, { backoff, atMs, why: messageOf(error) });
      // Somebody was faster, or our copy is behind: the next look has the newer one.
      if (!isProblem(error, "conflict", "exists")) {
        log.warn("cannot be brought in order now", { controller: name, key, why: messageOf(error) });
      }
      return true;
    }
  }
}
