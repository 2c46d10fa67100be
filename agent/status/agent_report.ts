import { type Clock, rfc3339 } from "../../lib/clock.ts";
import { writeJson } from "../../lib/json64.ts";
import type { Logger } from "../../lib/log.ts";
import { messageOf } from "../../lib/problem.ts";
import { statusKeys } from "../../datastore/keys.ts";
import type { Lease, Store } from "../../datastore/store.ts";
import type { StatusSettings } from "./settings.ts";

interface Held {
  lease: Lease;
  ttlMs: number;
  /** Resolves when it is lost. */
  lost: Promise<void>;
}

const deadlineMs = 2_000;
/** The first report waits so long, at most one interval: what dies again at once has not lived. */
const settleMs = 10_000;
/** After a write that failed, or a lease that was lost. */
const againMs = 1_000;

/** What a report works with. */
export interface AgentReportOptions {
  store: Pick<Store, "txn" | "lease">;
  node: string;
  clock: Clock;
  log: Logger;
}

/**
 * Tells in the datastore that this agent lives: `status` under a lease, so that it goes when the agent is gone for
 * `ttlMs`, and `last_reported_status`, which stays. One lease is kept alive; Felix asks for a new one each time. It is not
 * given back at the end: a restart is no absence.
 * Source: Calico's felix/daemon/daemon.go.
 */
export class AgentReport {
  readonly #options: AgentReportOptions;
  readonly #startMs: number;
  #held: Held | undefined;
  #first = true;
  #nextMs: number | undefined;

  constructor(options: AgentReportOptions) {
    this.#options = options;
    this.#startMs = options.clock.monotonicMs();
  }

  /** Reports when it is time. @returns in how many milliseconds it is time again; Infinity = never. */
  async step({ intervalMs, ttlMs, region }: Pick<StatusSettings, "intervalMs" | "ttlMs" | "region">): Promise<number> {
    const { clock, log } = this.#options;
    if (intervalMs === 0) {
      await this.#giveBack();
      return Infinity;
    }
    const now = clock.monotonicMs();
    this.#nextMs ??= now + Math.min(settleMs, intervalMs);
    const isLost = this.#held?.lease.lost.aborted === true;
    if (isLost) log.info("the lease of the agent's status was lost, a new one is taken");
    const isOther = this.#held !== undefined && this.#held.ttlMs !== ttlMs;
    if (now < this.#nextMs && !isLost && !isOther) return Math.min(this.#nextMs - now, intervalMs);
    try {
      await this.#report(ttlMs, region);
      this.#first = false;
      this.#nextMs = now + intervalMs;
    } catch (error) {
      log.warn("the agent's status could not be told", { why: messageOf(error) });
      this.#nextMs = now + Math.min(againMs, intervalMs);
    }
    return this.#nextMs - now;
  }

  /** Resolves when the lease that is held now is lost: it is time for a step. Undefined when none is held. */
  get lost(): Promise<void> | undefined {
    return this.#held?.lost;
  }

  async #report(ttlMs: number, region: string): Promise<void> {
    const old = this.#held;
    const isGood = old !== undefined && old.ttlMs === ttlMs && !old.lease.lost.aborted;
    if (old?.lease.lost.aborted) this.#held = undefined;
    if (!isGood || !await this.#putUnder(old, region).then(() => true, () => false)) {
      // A lease that etcd has forgotten is not noticed before its next renewal.
      const next = ttlMs > 0 ? await this.#take(ttlMs) : undefined;
      try {
        await this.#putUnder(next, region);
      } catch (error) {
        await next?.lease[Symbol.asyncDispose](); // else it would be renewed for ever
        throw error;
      }
      this.#held = next;
      await old?.lease[Symbol.asyncDispose]();
    }
  }

  async #take(ttlMs: number): Promise<Held> {
    const lease = await this.#options.store.lease(Math.max(1, Math.ceil(ttlMs / 1000)), { deadlineMs });
    const lost = new Promise<void>((resolve) => {
      if (lease.lost.aborted) resolve();
      else lease.lost.addEventListener("abort", () => resolve(), { once: true });
    });
    return { lease, ttlMs, lost };
  }

  async #putUnder(held: Held | undefined, region: string): Promise<void> {
    const { store, node, clock } = this.#options;
    const keys = statusKeys(node, region || undefined);
    const value = writeJson({
      time: rfc3339(clock.now()),
      uptime: (clock.monotonicMs() - this.#startMs) / 1000,
      first_update: this.#first,
    });
    const status = { put: keys.status, value, ...(held && { lease: held.lease.id }) };
    await store.txn({ compare: [], write: [status, { put: keys.lastReported, value }] }, { deadlineMs });
  }

  async #giveBack(): Promise<void> {
    const lease = this.#held?.lease;
    this.#held = undefined;
    await lease?.[Symbol.asyncDispose]();
  }
}
