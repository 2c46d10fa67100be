import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/log.ts";
import { messageOf } from "../../lib/problem.ts";
import { hostEndpointStatusKey, statusKeys } from "../../datastore/keys.ts";
import { prefixRange, type Range, type Store, type Write } from "../../datastore/store.ts";

/** Changes of one write: below etcd's 128. */
const mostAtOnce = 100;
const deadlineMs = 2_000;
/** All that is told is looked at after so many times the least time between two writes. */
const resyncAfter = 180;

/** What a report works with. */
export interface EndpointReportOptions {
  store: Pick<Store, "read" | "txn">;
  node: string;
  region: string;
  clock: Clock;
  /** 0..1 source of jitter. */
  random: () => number;
  log: Logger;
}

/**
 * Keeps the states of this node's endpoints in the datastore: what nobody wants any more is deleted, also what an earlier
 * process left. One write at a time, at least `delayMs` between two; all that waits goes in one. What others change there
 * is put right at the next look, after 180 times that.
 * DIFFERS: Felix writes one endpoint at a time, and leaves everything there for ever when it is told to report no more.
 * Source: Calico's felix/statusrep/status_reporter.go.
 */
export class EndpointReport {
  readonly #options: EndpointReportOptions;
  #wanted: ReadonlyMap<string, string> = new Map();
  /** What the datastore holds; undefined = it has to be looked at. */
  #known: Map<string, string> | undefined;
  #nextWriteMs = 0;
  #nextLookMs = Infinity;

  constructor(options: EndpointReportOptions) {
    this.#options = options;
  }

  /** From now on this is to be told, by key. */
  want(states: ReadonlyMap<string, string>): void {
    this.#wanted = states;
  }

  /** Writes what is due. @returns in how many milliseconds something is due again; Infinity = only after want(). */
  async step(delayMs: number): Promise<number> {
    const { clock, random, log } = this.#options;
    const now = clock.monotonicMs();
    if (now >= this.#nextLookMs) this.#known = undefined;
    if (this.#known && this.#pending().length === 0) return this.#wanted.size === 0 ? Infinity : this.#nextLookMs - now;
    if (now < this.#nextWriteMs) return this.#nextWriteMs - now;
    // A delay of 0 is no reason to write without end.
    const pauseMs = Math.max(delayMs, 10) * (0.95 + random() / 10);
    this.#nextWriteMs = now + pauseMs;
    try {
      this.#known ??= await this.#look(delayMs);
      await this.#write(this.#known);
    } catch (error) {
      // What became of the write is not known.
      this.#known = undefined;
      log.warn("states of endpoints could not be told", { why: messageOf(error) });
      return Math.max(pauseMs, 1_000);
    }
    return this.#pending().length > 0 ? pauseMs : this.#wanted.size === 0 ? Infinity : this.#nextLookMs - now;
  }

  async #look(delayMs: number): Promise<Map<string, string>> {
    const { store, clock, random } = this.#options;
    const { values } = await store.read(this.#ranges(), { deadlineMs });
    this.#nextLookMs = clock.monotonicMs() + resyncAfter * Math.max(delayMs, 1_000) * (1 + random() / 10);
    return new Map([...values].map(([key, { value }]) => [key, value]));
  }

  #ranges(): Range[] {
    const { node, region } = this.#options;
    const { status } = statusKeys(node, region || undefined);
    const hostEndpoints = hostEndpointStatusKey(node, "");
    return [prefixRange(`${status.slice(0, -"status".length)}workload/`), prefixRange(hostEndpoints)];
  }

  #pending(): Write[] {
    const known = this.#known ?? new Map<string, string>();
    const puts = [...this.#wanted].filter(([key, value]) => known.get(key) !== value);
    const gone = [...known.keys()].filter((key) => !this.#wanted.has(key));
    return [...puts.map(([put, value]) => ({ put, value })), ...gone.map((key) => ({ delete: key }))];
  }

  async #write(known: Map<string, string>): Promise<void> {
    const write = this.#pending().slice(0, mostAtOnce);
    if (write.length === 0) return;
    await this.#options.store.txn({ compare: [], write }, { deadlineMs });
    for (const one of write) {
      if ("delete" in one) known.delete(one.delete);
      else known.set(one.put, one.value);
    }
  }
}
