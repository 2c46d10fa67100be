/** The only source of time and timers. Tests pass a fake; nothing else in the project reads `Date` or sets a timer. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now(): number;
  /** Milliseconds of a clock that never steps; for measuring. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with the signal's reason when aborted first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep(ms, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const stop = () => {
        clearTimeout(timer);
        reject(signal!.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", stop);
        resolve();
      }, ms);
      signal?.addEventListener("abort", stop, { once: true });
    });
  },
};

/** RFC 3339, whole seconds, `Z`: `2026-11-21T08:31:42Z`, as Calico writes times. */
export const rfc3339 = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");

/** Milliseconds since 1970 of an RFC 3339 time; undefined when it is not one. */
export function parseRfc3339(text: string): number | undefined {
  if (!/^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(text)) return undefined;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : ms;
}

/**
 * Go's `time.String()` of a UTC time, as Calico writes allocation timestamps: `2026-11-21 08:31:42.556 +0000 UTC`.
 * Trailing zeros of the fraction are left out, the fraction too when it is zero.
 */
export function goTimestamp(ms: number): string {
  const [day, time] = new Date(ms).toISOString().replace("Z", "").split("T") as [string, string];
  return `${day} ${time.replace(/\.?0+$/, (zeros) => (time.includes(".") ? "" : zeros))} +0000 UTC`;
}

/**
 * Runs `work` with a deadline.
 * @param onLate makes the error to throw when `ms` pass first. The work is told by its signal and its result is dropped.
 */
export async function withDeadline<T>(
  ms: number,
  work: (signal: AbortSignal) => Promise<T>,
  onLate: () => Error,
  clock: Clock = systemClock,
): Promise<T> {
  const stop = new AbortController();
  const late = clock.sleep(ms, stop.signal).then(() => {
    throw onLate();
  });
  late.catch(() => {});
  const done = work(stop.signal);
  done.catch(() => {});
  try {
    return await Promise.race([done, late]);
  } finally {
    stop.abort(new Error("deadline race is over"));
  }
}

/** A fake clock: time passes only by `advance()`, which runs the sleeps that end meanwhile, in order. */
export class FakeClock implements Clock {
  #now: number;
  #sleeps: { at: number; resolve: () => void }[] = [];

  constructor(nowMs = Date.UTC(2026, 0, 2, 3, 4, 5)) {
    this.#now = nowMs;
  }

  now(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#now;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const entry = { at: this.#now + ms, resolve };
      this.#sleeps.push(entry);
      signal?.addEventListener("abort", () => {
        this.#sleeps = this.#sleeps.filter((s) => s !== entry);
        reject(signal.reason);
      }, { once: true });
    });
  }

  /** Lets `ms` pass. Each due sleeper wakes at its own time, and its continuations run before the next one's. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const due = this.#sleeps.filter((s) => s.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#now = Math.max(this.#now, due.at);
      this.#sleeps = this.#sleeps.filter((s) => s !== due);
      due.resolve();
      for (let i = 0; i < 20; i++) await Promise.resolve();
    }
    this.#now = end;
  }
}
