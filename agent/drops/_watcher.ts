import type { Clock } from "../../lib/clock.ts";
import { Wake } from "../../lib/wake.ts";
import type { Drop, DropReport } from "./report.ts";

/** Drops told a second, and at once after silence. */
const perSecond = 50;
const burst = 100;
/** Reports that wait for a slow reader. */
const mostWaiting = 500;

/** One who watches: at most so many drops a second, the rest counted. */
export class Watcher {
  readonly #wake: Wake;
  #waiting: DropReport[] = [];
  #leftOut = 0;
  #tokens = burst;
  #filledAtMs: number;
  #failure: { error: unknown } | undefined;
  #readAtMs: number;

  constructor(private readonly clock: Clock) {
    this.#wake = new Wake(clock);
    this.#filledAtMs = this.#readAtMs = clock.monotonicMs();
  }

  /** For how long nobody has asked what there is. */
  get idleMs(): number {
    return this.clock.monotonicMs() - this.#readAtMs;
  }

  /** These were dropped; `lost` more that nobody knows anything of. */
  push(drops: readonly Drop[], lost: number): void {
    this.#fill();
    this.#leftOut += lost;
    for (const drop of drops) {
      if (this.#tokens < 1 || this.#waiting.length >= mostWaiting) this.#leftOut += drop.packets;
      else {
        this.#tokens--;
        this.#waiting.push(drop);
      }
    }
    this.#wake.call();
  }

  /** Nothing more can come. */
  fail(error: unknown): void {
    this.#failure = { error };
    this.#wake.call();
  }

  /** What there is to tell now, after at most `ms`. @throws what fail() was given. */
  async next(ms: number, signal: AbortSignal): Promise<DropReport[]> {
    this.#readAtMs = this.clock.monotonicMs();
    if (this.#waiting.length === 0) await this.#wake.sleep(ms, signal);
    if (this.#failure) throw this.#failure.error;
    const reports = this.#waiting;
    this.#waiting = [];
    // Told beside others, or alone when nothing else comes.
    if (this.#leftOut > 0) reports.push({ is: "left out", packets: this.#leftOut });
    this.#leftOut = 0;
    return reports;
  }

  #fill(): void {
    const now = this.clock.monotonicMs();
    this.#tokens = Math.min(burst, this.#tokens + (now - this.#filledAtMs) * perSecond / 1000);
    this.#filledAtMs = now;
  }
}
