import { Backoff } from "../lib/backoff.ts";
import { rfc3339 } from "../lib/clock.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import {
  guardKey,
  guardPrefix,
  type PendingFound,
  pendingPrefix,
  readPending,
  undoPending,
} from "../datastore/pending.ts";
import { Compacted, prefixRange, Restored } from "../datastore/store.ts";
import type { Shared } from "./parts.ts";

/** How long this node counts as a guard after it was killed. */
const presenceS = 20;

/** What the guard needs of a node. */
export type GuardParts = Pick<Shared, "store" | "node" | "clock" | "log" | "signal">;

/**
 * Undoes changes that nobody confirmed in time, of whomever on whichever host, until the signal; and tells by a key that
 * there is somebody who does. Any number of nodes may do it at once: one prevails.
 */
export async function guardPending(parts: GuardParts): Promise<void> {
  const { clock, log, signal } = parts;
  const backoff = new Backoff({ firstMs: 200, maxMs: 5_000, clock });
  while (!signal.aborted) {
    try {
      await guardWhilePresent(parts, () => backoff.reset());
    } catch (error) {
      if (isProblem(error, "unauthorized")) {
        log.warn("no right to keys below /tortie/: this node undoes no unconfirmed changes", { why: messageOf(error) });
        return;
      }
      const isPassing = error instanceof Compacted || error instanceof Restored || isProblem(error);
      if (!isPassing) throw error;
      log.info("unconfirmed changes cannot be looked after now", { why: messageOf(error) });
    }
    await backoff.wait(signal).catch(() => {}); // aborted: the loop's condition ends it
  }
}

/** Guards as long as the own key stands. @throws what the store throws, to be tried again. */
async function guardWhilePresent(parts: GuardParts, isWell: () => void): Promise<void> {
  const { store, node, signal } = parts;
  await using presence = await store.lease(presenceS, { signal });
  await store.txn({ compare: [], write: [{ put: guardKey(node), value: "", lease: presence.id }] });
  const { revision } = await store.read([prefixRange(guardPrefix)]);
  const untilLost = AbortSignal.any([signal, presence.lost]);
  await undoOverdue(parts);
  isWell();
  for await (const _ of store.watch(prefixRange(pendingPrefix), revision + 1n, { signal: untilLost })) {
    await undoOverdue(parts);
  }
}

async function undoOverdue({ store, node, clock, log }: GuardParts): Promise<void> {
  const unreadable = (key: string, why: string) => log.warn("record of a change cannot be understood", { key, why });
  for (const found of await readPending(store, unreadable)) {
    if (!found.isOver) continue;
    const { id, seconds } = found.change;
    const command = `undo of change ${id}: nobody confirmed it in ${seconds} s`;
    const undone = await undoPending(store, found, { user: "tortie", host: node, command }, rfc3339(clock.now()));
    if (!undone) continue;
    log.warn("change undone, as nobody confirmed it", { change: id, by: authorOf(found), restored: undone.restored });
    for (const { object, why } of undone.kept) log.warn("object left as it is", { change: id, object, why });
  }
}

const authorOf = ({ change: { by } }: PendingFound): string => (by.from ? `${by.user} from ${by.from}` : by.user);
