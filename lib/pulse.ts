/** Tells any number of followers that something happened; beats that come while a follower is busy count as one. */
export class Pulse {
  readonly #followers = new Set<() => void>();

  /** It happened. */
  beat(): void {
    for (const follower of this.#followers) follower();
  }

  /** Yields after each beat, until the signal. */
  async *beats(signal: AbortSignal): AsyncGenerator<void> {
    let beaten = false, wake = () => {};
    const follower = () => {
      beaten = true;
      wake();
    };
    this.#followers.add(follower);
    signal.addEventListener("abort", follower, { once: true });
    try {
      while (!signal.aborted) {
        if (!beaten) await new Promise<void>((resolve) => wake = resolve);
        if (signal.aborted) return;
        beaten = false;
        yield;
      }
    } finally {
      this.#followers.delete(follower);
      signal.removeEventListener("abort", follower);
    }
  }
}
