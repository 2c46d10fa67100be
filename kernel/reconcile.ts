import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/problem.ts";

/** One sort of thing in the outside world that we own a marked part of. 40-150 lines, no state of its own. */
export interface Port<K, V> {
  /** "route main ip4": name in logs, metrics and health. */
  readonly name: string;
  /** What is there and carries our mark; a throw means unknown, and then nothing is touched. */
  list(): Promise<Map<K, V>>;
  /** list() of these keys alone, for ports where that is much cheaper. Without it a doubt about one key lists all. */
  read?(keys: readonly K[]): Promise<Map<K, V>>;
  same(have: V, want: V): boolean;
  /** One batch; answers which keys failed and why, the others hold. */
  apply(put: [K, V][], remove: K[]): Promise<Map<K, Error>>;
}

/** One thing that is not as wanted. */
export interface Failure {
  why: string;
  /** Monotonic time of the first failure and of the next try, in milliseconds. */
  sinceMs: number;
  retryAtMs: number;
  /** Failures in a row. */
  times: number;
}

/** What a flush did and what is left. */
export interface Report<K = unknown> {
  port: string;
  put: number;
  removed: number;
  /** How many of them nobody had asked for anew: someone else had changed what is there. */
  drift: number;
  /** What is not in sync, and why. */
  failed: ReadonlyMap<K, Failure>;
  /** Set when the port could not be read: nothing was touched. */
  unread: Failure | undefined;
  /** In how many milliseconds a flush has something to try again; undefined = nothing waits. */
  retryInMs: number | undefined;
}

/** Half of a flush: "make" only puts, "break" only removes. Over several ports: make in order, then break backwards. */
export type Phase = "make" | "break";

/** Totals since the start; what metrics show. */
export interface Counts {
  lists: number;
  puts: number;
  removes: number;
  failures: number;
}

/** How a Reconciler behaves. */
export interface ReconcilerOptions {
  clock: Clock;
  /** 0..1 source of the back-off's jitter. */
  random: () => number;
  /** Back-off of a failing key: from this, doubling, up to that. Default 100 and 30,000. */
  firstRetryMs?: number;
  maxRetryMs?: number;
  /**
   * How writes are proved. "list" reads the port again after each batch; "ack" trusts the port's answer by key, for ports
   * whose kernel acknowledges each entry and tells of later changes, which become doubt(). Default "list".
   */
  verify?: "list" | "ack";
}

/**
 * The one loop from desired to actual: diff, least change, verify. What fails waits alone, with back-off; the rest goes
 * on. Nothing is read or written at rest. `want` and `doubt` only remember; `flush` does the work, one at a time.
 */
export class Reconciler<K, V> {
  readonly #port: Port<K, V>;
  readonly #options: Required<ReconcilerOptions>;
  readonly #want = new Map<K, V>();
  readonly #have = new Map<K, V>();
  /** What may be other than `have` says: everything, or these keys. */
  #doubted: "all" | Set<K> = "all";
  /** Keys whose want changed since they were last compared. */
  #changed = new Set<K>();
  readonly #failed = new Map<K, Failure>();
  #unread: Failure | undefined;
  #last: Promise<unknown> = Promise.resolve();
  readonly #queued = new Map<Phase | undefined, Promise<Report<K>>>();
  /** Keys whose wish changed since they were last written, so that the rest is known to be drift. */
  readonly #wished = new Set<K>();
  readonly #counts: Counts = { lists: 0, puts: 0, removes: 0, failures: 0 };

  constructor(port: Port<K, V>, options: ReconcilerOptions) {
    this.#port = port;
    this.#options = { firstRetryMs: 100, maxRetryMs: 30_000, verify: "list", ...options };
  }

  /** The port's name. */
  get name(): string {
    return this.#port.name;
  }

  /** Totals since the start. */
  get counts(): Readonly<Counts> {
    return this.#counts;
  }

  /** Wants `value` at `key`, or nothing. A changed wish of a failing key is tried at once. */
  want(key: K, value: V | undefined): void {
    const old = this.#want.get(key);
    if (value === old || (value !== undefined && old !== undefined && this.#port.same(old, value))) return;
    if (value === undefined) this.#want.delete(key);
    else this.#want.set(key, value);
    this.#failed.delete(key);
    this.#changed.add(key);
    this.#wished.add(key);
  }

  /** Wants exactly this; what was wanted before and is not in `all` is wanted no more. */
  wantAll(all: ReadonlyMap<K, V>): void {
    for (const key of [...this.#want.keys()]) if (!all.has(key)) this.want(key, undefined);
    for (const [key, value] of all) this.want(key, value);
  }

  /** Set while the port cannot be read. */
  get unread(): Failure | undefined {
    return this.#unread;
  }

  /** How many keys are wanted. */
  get size(): number {
    return this.#want.size;
  }

  /** What is wanted at `key`. */
  wanted(key: K): V | undefined {
    return this.#want.get(key);
  }

  /**
   * What is there may have changed: the next flush reads the port. `keys` that are neither wanted nor known to be there
   * raise no doubt; without `keys` (a period is over, notifications were lost) everything does.
   */
  doubt(keys?: Iterable<K>): void {
    if (keys === undefined) this.#doubted = "all";
    else if (this.#doubted !== "all") {
      for (const key of keys) if (this.#want.has(key) || this.#have.has(key)) this.#doubted.add(key);
    }
  }

  /** True when `key` is there as wanted, as far as is known, and nothing is to be done for it. */
  holds(key: K): boolean {
    return this.#doubted !== "all" && !this.#doubted.has(key) && !this.#changed.has(key) && !this.#failed.has(key) &&
      this.#agrees(key);
  }

  /** Nothing is to be done, nothing is in doubt, nothing failed. */
  get inSync(): boolean {
    return this.retryInMs === undefined;
  }

  /** What is not in sync and why. */
  get failed(): ReadonlyMap<K, Failure> {
    return this.#failed;
  }

  /**
   * Makes the outside as wanted as far as possible; a phase does half of it. Calls during a flush share the next one.
   * Never rejects for the port.
   */
  flush(phase?: Phase): Promise<Report<K>> {
    const queued = this.#queued.get(phase);
    if (queued) return queued;
    const run = this.#last.then(() => {
      this.#queued.delete(phase);
      return this.#flushOnce(phase);
    });
    this.#queued.set(phase, run);
    this.#last = run.catch(() => {});
    return run;
  }

  async #flushOnce(phase: Phase | undefined): Promise<Report<K>> {
    if (!await this.#look()) return this.#report();
    const { put, remove } = this.#difference(phase);
    if (put.length + remove.length === 0) return this.#report();
    const drift =
      [...put.map(([key]) => key), ...remove].filter((key) => !this.#wished.delete(key) && !this.#failed.has(key))
        .length;
    await this.#write(put, remove);
    if (this.#options.verify === "list") await this.#verify(put, remove);
    return this.#report(put.length, remove.length, drift);
  }

  /** Reads what is in doubt; false when it cannot be read or is not due yet. */
  async #look(): Promise<boolean> {
    const doubted = this.#doubted;
    if (doubted !== "all" && doubted.size === 0) return true;
    if (this.#unread && this.#unread.retryAtMs > this.#options.clock.monotonicMs()) return false;
    this.#doubted = new Set(); // doubt raised while it is read must stay
    try {
      this.#counts.lists++;
      if (doubted === "all" || !this.#port.read) this.#replace(this.#have.keys(), await this.#port.list());
      else this.#replace(doubted, await this.#port.read([...doubted]));
      this.#unread = undefined;
      return true;
    } catch (error) {
      this.#doubted = "all";
      this.#counts.failures++;
      this.#unread = this.#failure(this.#unread, error);
      return false;
    }
  }

  /** `found` is all that is there of `keys`. */
  #replace(keys: Iterable<K>, found: Map<K, V>): void {
    for (const key of [...keys]) {
      this.#changed.add(key);
      this.#have.delete(key);
    }
    for (const [key, value] of found) {
      this.#changed.add(key);
      this.#have.set(key, value);
    }
  }

  #difference(phase: Phase | undefined): { put: [K, V][]; remove: K[] } {
    const now = this.#options.clock.monotonicMs();
    const put: [K, V][] = [], remove: K[] = [];
    const keys = this.#changed;
    for (const [key, failure] of this.#failed) if (failure.retryAtMs <= now) keys.add(key);
    this.#changed = new Set();
    for (const key of keys) {
      const want = this.#want.get(key);
      if (this.#agrees(key)) this.#settle(key);
      else if (phase === (want === undefined ? "make" : "break")) this.#changed.add(key);
      else if ((this.#failed.get(key)?.retryAtMs ?? 0) > now) continue;
      else if (want === undefined) remove.push(key);
      else put.push([key, want]);
    }
    return { put, remove };
  }

  #settle(key: K): void {
    this.#failed.delete(key);
    this.#wished.delete(key);
  }

  /** What we know to be there is what is wanted. */
  #agrees(key: K): boolean {
    const want = this.#want.get(key), have = this.#have.get(key);
    return want === undefined ? have === undefined : have !== undefined && this.#port.same(have, want);
  }

  async #write(put: [K, V][], remove: K[]): Promise<void> {
    let errors: Map<K, Error>;
    try {
      errors = await this.#port.apply(put, remove);
    } catch (error) {
      // What was done is unknown: everything of the batch failed, and the port is read before the next try.
      const cause = error instanceof Error ? error : new Error(String(error));
      errors = new Map([...put.map(([key]) => key), ...remove].map((key) => [key, cause]));
      this.#doubted = "all";
    }
    for (const [key, value] of put) if (this.#done(key, errors)) this.#have.set(key, value);
    for (const key of remove) if (this.#done(key, errors)) this.#have.delete(key);
    this.#counts.puts += put.length;
    this.#counts.removes += remove.length;
  }

  #done(key: K, errors: Map<K, Error>): boolean {
    const error = errors.get(key);
    if (!error) return this.#failed.delete(key) || true;
    this.#fail(key, error);
    return false;
  }

  #fail(key: K, error: Error): void {
    this.#counts.failures++;
    this.#failed.set(key, this.#failure(this.#failed.get(key), error));
  }

  /** Reads again what was written: a write that was answered but does not hold has failed. */
  async #verify(put: [K, V][], remove: K[]): Promise<void> {
    if (this.#doubted !== "all") { for (const key of [...put.map(([key]) => key), ...remove]) this.#doubted.add(key); }
    if (!await this.#look()) return;
    for (const [key, value] of put) {
      const have = this.#have.get(key);
      if (this.#failed.has(key) || (have !== undefined && this.#port.same(have, value))) continue;
      this.#fail(key, new Error("written, but it is not there as written"));
    }
    for (const key of remove) {
      if (!this.#failed.has(key) && this.#have.has(key)) this.#fail(key, new Error("removed, but it is still there"));
    }
    for (const key of [...this.#changed]) {
      if (this.#agrees(key)) this.#changed.delete(key);
    }
  }

  #failure(before: Failure | undefined, error: unknown): Failure {
    const { clock, random, firstRetryMs, maxRetryMs } = this.#options;
    const now = clock.monotonicMs();
    const times = (before?.times ?? 0) + 1;
    const delay = Math.min(maxRetryMs, firstRetryMs * 2 ** (times - 1)) * (0.5 + random() / 2);
    return { why: messageOf(error), sinceMs: before?.sinceMs ?? now, retryAtMs: now + delay, times };
  }

  #report(put = 0, removed = 0, drift = 0): Report<K> {
    const { failed } = this;
    return { port: this.#port.name, put, removed, drift, failed, unread: this.#unread, retryInMs: this.retryInMs };
  }

  /**
   * In how many milliseconds a flush has something to do; undefined = never by itself. While the port cannot be read
   * nothing else can be done.
   */
  get retryInMs(): number | undefined {
    const doubt = this.#doubted === "all" || this.#doubted.size > 0;
    if (!this.#unread && (this.#changed.size > 0 || doubt)) return 0;
    const waits = (this.#unread ? [this.#unread] : [...this.#failed.values()]).map((f) => f.retryAtMs);
    return waits.length === 0 ? undefined : Math.max(0, Math.min(...waits) - this.#options.clock.monotonicMs());
  }
}
