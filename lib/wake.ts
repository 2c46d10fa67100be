import type { Clock } from "./clock.ts";

/** What a loop sleeps on: it wakes when it is called, or when its time has come. A call before it sleeps is not lost. */
export class Wake {
  #called = Promise.withResolvers<void>();
  constructor(private readonly clock: Clock) {}

  /** Wakes the loop, or keeps it from falling asleep. */
  call(): void {
    this.#called.resolve();
  }

  /** Sleeps until a call, at most `ms`, or until the signal. */
  async sleep(ms: number, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const timer = this.clock.sleep(ms, AbortSignal.any([signal, over.signal]));
    await Promise.race([this.#called.promise, timer.catch(() => {})]);
    over.abort();
    this.#called = Promise.withResolvers();
  }
}
