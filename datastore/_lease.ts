import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import type { Lease } from "./store.ts";

/** A lease that the server granted, and the two calls it needs. */
export interface GrantedLease {
  id: string;
  ttlS: number;
  /** Renews it; answers its new time to live in seconds, 0 or less when the server does not know it. */
  renew(signal: AbortSignal): Promise<number>;
  revoke(): Promise<void>;
}

/** What keeping alive needs of the process. */
export interface LeaseDeps {
  clock: Clock;
  log: Logger;
  random: () => number;
  signal: AbortSignal;
}

/**
 * Renews a granted lease every third of its life until it is disposed, which revokes it. While the server is away it tries
 * on with back-off: a lease outlives an etcd that was down. `lost` is aborted when the server says that it is gone.
 */
export function keptAlive(granted: GrantedLease, deps: LeaseDeps): Lease {
  const lost = new AbortController();
  const stop = new AbortController();
  const loop = renewUntilLost(granted, deps, AbortSignal.any([stop.signal, deps.signal]), lost);
  return {
    id: granted.id,
    lost: lost.signal,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await loop;
      if (lost.signal.aborted) return;
      try {
        await granted.revoke();
      } catch (error) {
        deps.log.info("lease not revoked, it runs out by itself", { lease: granted.id, why: messageOf(error) });
      }
    },
  };
}

/** A lease that runs out by itself. */
export function leftAlone(id: string): Lease {
  const never = new AbortController().signal;
  return { id, lost: never, [Symbol.asyncDispose]: () => Promise.resolve() };
}

async function renewUntilLost(
  granted: GrantedLease,
  deps: LeaseDeps,
  signal: AbortSignal,
  lost: AbortController,
): Promise<void> {
  const everyMs = granted.ttlS * 1000 / 3;
  const backoff = new Backoff({ firstMs: 50, maxMs: Math.min(5_000, everyMs), random: deps.random, clock: deps.clock });
  const pause = (wait: Promise<void>) => wait.catch(() => {}); // only an abort rejects it, and the loop looks for that
  for (let ok = true; !signal.aborted;) {
    await pause(ok ? deps.clock.sleep(everyMs, signal) : backoff.wait(signal));
    if (signal.aborted) return;
    try {
      if (await granted.renew(signal) <= 0) return lost.abort(new Error("lease expired"));
      ok = true;
      backoff.reset();
    } catch (error) {
      if (signal.aborted) return;
      if (!isProblem(error)) throw error;
      ok = false;
      deps.log.warn("lease cannot be renewed now", { lease: granted.id, why: error.message });
    }
  }
}
