import type { Clock } from "../../lib/clock.ts";
import { Problem } from "../../lib/problem.ts";

interface Waiter {
  /** What is missing, undefined = nothing; throws when it is hopeless. */
  missing: () => string | undefined;
  done: PromiseWithResolvers<void>;
  over: AbortController;
}

/** Those who wait until an endpoint is in force. */
export class Waiters {
  readonly #waiting = new Map<Waiter, string>();
  constructor(private readonly clock: Clock, private readonly wake: () => void) {}

  /** Keys that are waited for. */
  keys(): Iterable<string> {
    return this.#waiting.values();
  }

  /** Waits for `key`; see Dataplane.enforced(). */
  add(key: string, deadlineMs: number, missing: () => string | undefined): Promise<void> {
    const waiter: Waiter = { missing, done: Promise.withResolvers(), over: new AbortController() };
    this.#waiting.set(waiter, key);
    this.clock.sleep(deadlineMs, waiter.over.signal).then(() => this.#late(waiter, deadlineMs), () => {});
    this.wake();
    return waiter.done.promise;
  }

  /** To be called when something changed: answers all whose wait is over. */
  settle(): void {
    for (const waiter of [...this.#waiting.keys()]) {
      try {
        if (waiter.missing() === undefined) this.#end(waiter);
      } catch (error) {
        this.#end(waiter, error);
      }
    }
  }

  /** Nobody needs to wait any longer. */
  rejectAll(why: Problem): void {
    for (const waiter of [...this.#waiting.keys()]) this.#end(waiter, why);
  }

  #late(waiter: Waiter, deadlineMs: number): void {
    const key = this.#waiting.get(waiter);
    if (key === undefined) return;
    let why: string;
    try {
      why = waiter.missing() ?? "the agent did not get round to it";
    } catch (error) {
      return this.#end(waiter, error);
    }
    const what = `endpoint is not in force after ${deadlineMs} ms: ${why}`;
    this.#end(waiter, new Problem({ code: "not-ready", what, where: key }));
  }

  #end(waiter: Waiter, error?: unknown): void {
    this.#waiting.delete(waiter);
    waiter.over.abort();
    if (error === undefined) waiter.done.resolve();
    else waiter.done.reject(error);
  }
}
