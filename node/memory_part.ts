import { giveBackMemory } from "../kernel/memory.ts";
import type { Mirror } from "../datastore/mirror.ts";
import { aborted } from "../lib/service.ts";
import type { Shared } from "./parts.ts";

/** Between two looks whether there was a burst; a look costs nothing. */
const lookMs = 60_000;
/** So long after the first sync its last work is done: answers to who waited, the other parts' first steps. */
const settleMs = 1_000;
/** So many writes to etcd leave garbage worth a pause. */
const manyWrites = 20_000n;

/**
 * Gives back the memory of each burst of work, once it is over: the first sync, a new list of everything, and tens of
 * thousands of changes. Ends with the signal.
 */
export async function keepMemorySmall(
  { mirror, clock, signal }: Pick<Shared, "clock" | "signal"> & { mirror: Pick<Mirror, "listsBegun" | "revision"> },
  ready: Promise<void>,
  giveBack = giveBackMemory,
): Promise<void> {
  const pause = (ms: number) => clock.sleep(ms, signal).catch(() => {}); // aborted: the loops' conditions end them
  await Promise.race([ready.catch(() => {}), aborted(signal)]); // what never gets ready ends the process elsewhere
  let lists = -1, revision = 0n;
  for (await pause(settleMs); !signal.aborted; await pause(lookMs)) {
    if (mirror.listsBegun === lists && mirror.revision - revision < manyWrites) continue;
    giveBack();
    [lists, revision] = [mirror.listsBegun, mirror.revision];
  }
}
