import { Clock, systemClock } from "./clock.ts";

/** How long to wait after each failure, in milliseconds. */
export interface BackoffOptions {
  firstMs: number;
  maxMs: number;
  /** 0..1 source; half of each delay is random, so that a fleet does not come back in step. */
  random?: () => number;
  clock?: Clock;
}

/** Exponential back-off with jitter: `await backoff.wait(signal)` after a failure, `backoff.reset()` after a success. */
export class Backoff {
  #failures = 0;
  constructor(private readonly options: BackoffOptions) {}

  /** The delay that the next failure will cost, in milliseconds. */
  next(): number {
    const { firstMs, maxMs, random = Math.random } = this.options;
    const full = Math.min(maxMs, firstMs * 2 ** this.#failures++);
    return full * (0.5 + random() / 2);
  }

  /** Waits next() milliseconds; rejects when `signal` is aborted. */
  wait(signal?: AbortSignal): Promise<void> {
    return (this.options.clock ?? systemClock).sleep(this.next(), signal);
  }

  /** To be called when something worked. */
  reset(): void {
    this.#failures = 0;
  }
}
