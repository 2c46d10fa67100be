import type { Clock } from "../../lib/clock.ts";
import { Problem } from "../../lib/problem.ts";

/** How often is looked whether the server is silent still. */
const sliceMs = 100;

/**
 * Waits for a server that answers many calls one after another. A call gives up when the server has answered nobody for
 * the given time: behind a hundred others it may take longer, as long as it goes on.
 */
export class Patience {
  #lastAnswer = 0;
  constructor(private readonly clock: Clock) {}

  /**
   * Runs `work`; its result is dropped when it comes too late, and what it did is then unknown.
   * @throws Problem "unavailable" when nothing was answered for `ms`.
   */
  async within<T>(ms: number, work: () => Promise<T>, what: string): Promise<T> {
    const stop = new AbortController();
    const done = work().then((value) => {
      this.#lastAnswer = this.clock.monotonicMs();
      return { value };
    });
    const late = this.#silence(ms, stop.signal);
    late.catch(() => {});
    done.catch(() => {});
    try {
      const first = await Promise.race([done, late]);
      if (first) return first.value;
      throw new Problem({ code: "unavailable", what: `${what}: etcd has not answered for ${ms} ms` });
    } finally {
      stop.abort(new Error("answered"));
    }
  }

  /**
   * Resolves when there was no answer for `ms`; rejects when it is aborted. Only time in which this process could have
   * heard one counts: on a machine that starves us, a late timer says nothing of the server.
   */
  async #silence(ms: number, signal: AbortSignal): Promise<void> {
    let seen = this.#lastAnswer, silentMs = 0;
    while (silentMs < ms) {
      const slice = Math.min(sliceMs, ms - silentMs);
      await this.clock.sleep(slice, signal);
      silentMs = this.#lastAnswer === seen ? silentMs + slice : this.clock.monotonicMs() - this.#lastAnswer;
      seen = this.#lastAnswer;
    }
  }
}
