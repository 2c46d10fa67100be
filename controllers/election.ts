import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { Compacted, Restored, type Store } from "../datastore/store.ts";

/** Key of the lock that the working instance holds; outside of Calico's keys. */
export const lockKey = "/tortie/locks/controllers";
/** A dead holder's lock goes after this time, so another takes over within it. */
const leaseS = 9;

/** What an instance stands for election with. */
export interface ElectionParts {
  store: Store;
  /** Name of this instance, for people: what stands in the lock. */
  holder: string;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
}

/**
 * Yields a signal each time that this instance becomes the one that works; it is aborted when the lock is lost or taken
 * away. Who is asked for the next term has given the last one up. Until `signal`.
 */
export async function* terms(parts: ElectionParts, signal: AbortSignal): AsyncGenerator<AbortSignal, void> {
  const { store, holder, clock, log, random } = parts;
  const backoff = new Backoff({ firstMs: 100, maxMs: 3_000, clock, random });
  while (!signal.aborted) {
    try {
      const { values, revision } = await store.read([lockKey], { signal });
      const other = values.get(lockKey);
      if (other) {
        log.info("another instance works, this one waits", { holder: other.value });
        await untilDeleted(store, revision, signal);
        continue;
      }
      await using lease = await store.lease(leaseS, { signal });
      const write = [{ put: lockKey, value: holder, lease: lease.id }];
      const taken = await store.txn({ compare: [{ key: lockKey, revision: 0n }], write }, { signal });
      if (!taken.committed) continue;
      backoff.reset();
      yield* term(parts, taken.revision, AbortSignal.any([signal, lease.lost]));
    } catch (error) {
      if (signal.aborted) return;
      if (!isProblem(error) && !(error instanceof Compacted) && !(error instanceof Restored)) throw error;
      log.warn("no election now", { why: messageOf(error) });
      await backoff.wait(signal).catch(() => {}); // aborted: the loop looks for that
    }
  }
}

/** One term: over when `lost`, or when somebody deletes the lock. */
async function* term(
  { store, log }: ElectionParts,
  revision: bigint,
  lost: AbortSignal,
): AsyncGenerator<AbortSignal, void> {
  const over = new AbortController(), given = new AbortController();
  const until = AbortSignal.any([lost, given.signal]);
  const watched = untilDeleted(store, revision, until)
    .catch((error) => log.warn("the lock cannot be watched, it is given up", { why: messageOf(error) }))
    .finally(() => over.abort(new Error("the lock is gone")));
  log.info("this instance works");
  try {
    yield AbortSignal.any([lost, over.signal]);
  } finally {
    given.abort(new Error("the term is given up"));
    await watched;
    log.info("this instance does not work any more");
  }
}

/** Resolves when the lock is deleted after `revision`, or at the signal. @throws Compacted, Restored, Problem. */
async function untilDeleted(store: Store, revision: bigint, signal: AbortSignal): Promise<void> {
  const range = { start: lockKey, end: lockKey + "\0" };
  for await (const { events } of store.watch(range, revision + 1n, { signal })) {
    if (events.some((event) => event.value === undefined)) return;
  }
}
