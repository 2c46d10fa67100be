import { rfc3339 } from "../lib/clock.ts";
import { isObject, parseJson } from "../lib/json64.ts";
import { isProblem, Problem } from "../lib/problem.ts";
import { World } from "../agent/why/world.ts";
import {
  commitPending,
  confirmSeconds,
  lastUndoneKey,
  objectAt,
  type PendingFound,
  readPending,
  type Undone,
  undoPending,
} from "../datastore/pending.ts";
import type { Store } from "../datastore/store.ts";
import { badInput, type Call } from "./command.ts";
import { cutsOf } from "./cut.ts";
import { cutRefused } from "./cut_guard.ts";
import type { Rehearsal } from "../datastore/rehearsal.ts";
import type { Surroundings } from "./surroundings.ts";
import { type Outcome, report } from "./writing.ts";

/** Times a change is rehearsed anew when the datastore changed meanwhile. */
const tries = 3;
/** How long whoever guards may take once the time is over, before we undo it ourselves. */
const patienceMs = 3_000;
const lookMs = 1_000;

/** `60s`, `2m` or `90`, in seconds. @throws Problem "bad-input". */
export function confirmTime(text: string): number {
  const [, number, unit] = /^(\d{1,5})(s|m|)$/.exec(text) ?? [];
  const seconds = Number(number) * (unit === "m" ? 60 : 1);
  const { least, most } = confirmSeconds;
  if (seconds >= least && seconds <= most) return seconds;
  throw badInput(`--confirm ${text}: not a time from ${least}s to ${most}s`, "Write 60s or 2m");
}

/**
 * Does in one transaction what was rehearsed, and undoes it unless somebody confirms it. On a terminal it stays and tells the
 * time that is left. @param rehearsed tries it out on a copy of the store as it is now. @returns the exit code.
 */
export async function applyPending(
  call: Call,
  rehearsed: (store: Store) => Promise<{ rehearsal: Rehearsal; outcome: Outcome }>,
  seconds: number,
): Promise<number> {
  const { surroundings } = call, { store } = await call.resources();
  for (let left = tries;; left--) {
    const { rehearsal, outcome } = await rehearsed(store);
    if (outcome.errors.length > 0) return report(call, { ...outcome, handled: 0, done: [] }, "apply", "applied");
    const cuts = cutsOf(new World(rehearsal.before), new World(await rehearsal.after()), await call.lifelines());
    const isolating = call.flags.on("force") ? [] : cuts.filter((c) => c.is === "datastore");
    if (isolating.length > 0) {
      throw cutRefused(isolating, "What cannot be reached cannot be told of an undo. Use --force");
    }
    try {
      const beganMs = surroundings.clock.monotonicMs();
      const by = surroundings.author?.() ?? { user: "", host: "" }, at = rfc3339(surroundings.clock.now());
      const parts = { id: surroundings.uuid().slice(0, 8), at, by, seconds };
      const found = await commitPending(store, rehearsal, parts);
      report(call, outcome, "apply", "applied");
      if (!found) {
        surroundings.out("nothing changes: there is nothing to confirm\n");
        return 0;
      }
      for (const { what, why } of cuts) surroundings.err(`this cuts ${what}: ${why}\n`);
      const program = "tortie ctl confirm";
      surroundings.out(`change ${found.change.id} is undone in ${seconds} s unless you confirm it: ${program}\n`);
      return surroundings.terminal ? await followPending(surroundings, store, found, beganMs + seconds * 1000) : 0;
    } catch (error) {
      if (left <= 1 || !isProblem(error, "conflict")) throw error;
    }
  }
}

/** What telling of the time that is left needs. */
export type Teller = Pick<Surroundings, "clock" | "out" | "err">;

/** Tells how much time is left, until the change is confirmed or undone. @returns the exit code: 1 when it was undone. */
export async function followPending(
  surroundings: Teller,
  store: Store,
  { change }: PendingFound,
  endMs: number,
): Promise<number> {
  const { clock, err } = surroundings;
  for (let overSince: number | undefined;;) {
    const found = await unlessAway(() => readPending(store));
    const own = found && found.find((f) => f.change.id === change.id);
    const left = Math.max(0, Math.ceil((endMs - clock.monotonicMs()) / 1000));
    if (found && !own) return await tellEnd(surroundings, store, change.id);
    if (own?.isOver) overSince ??= clock.monotonicMs();
    if (own && overSince !== undefined && clock.monotonicMs() - overSince > patienceMs) {
      const by = { ...change.by, command: `undo of change ${change.id}: nobody confirmed it` };
      await unlessAway(() => undoPending(store, own, by, rfc3339(clock.now())));
    }
    err(`\r\x1b[K${found ? `${left} s left to confirm` : `the datastore does not answer; ${left} s left`} `);
    await clock.sleep(lookMs);
  }
}

/** Undefined while the datastore does not answer, or others write the same keys. */
async function unlessAway<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (!isProblem(error, "unavailable", "conflict")) throw error;
    return undefined;
  }
}

async function tellEnd({ out, err }: Teller, store: Store, id: string): Promise<number> {
  const undone = await lastUndone(store);
  err("\r\x1b[K");
  if (undone?.id !== id) {
    out(`change ${id} is confirmed\n`);
    return 0;
  }
  err(undoneText(undone));
  return 1;
}

/** What was undone last. */
export type LastUndone = Undone & { id: string; at: string; by: { host: string } };

/** Undefined when nothing was ever undone, or its record cannot be read. */
export async function lastUndone(store: Store): Promise<LastUndone | undefined> {
  const kv = await store.get(lastUndoneKey);
  try {
    const value = kv && parseJson(kv.value);
    if (!isObject(value) || !Array.isArray(value.restored) || !Array.isArray(value.kept)) return undefined;
    return isObject(value.by) ? value as unknown as LastUndone : undefined;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
}

/** What became of an undone change, with what was left as it is. */
export function undoneText({ id, at, restored, kept }: LastUndone): string {
  const lines = [`change ${id} was undone at ${at}: ${restored.join(", ") || "nothing"} as before`];
  return [...lines, ...kept.map((k) => `  left as it is: ${k.object}: ${k.why}`), ""].join("\n");
}

/** The pending change that an id, or no id, means. @throws Problem "not-found", or "bad-input" when it is not clear which. */
export function choosePending(all: readonly PendingFound[], id: string | undefined): PendingFound {
  const named = all.filter((p) => id === undefined || p.change.id.startsWith(id));
  if (named.length === 1) return named[0]!;
  const what = id === undefined ? "no change waits to be confirmed" : `no change ${id} waits to be confirmed`;
  if (named.length === 0) throw new Problem({ code: "not-found", what });
  const list = named.map((p) => p.change.id).join(", ");
  throw badInput(`${named.length} changes wait to be confirmed: ${list}`, "Name one of them");
}

/** Objects that a change is about. */
export const changedObjects = ({ change }: PendingFound): string[] => change.changed.map((f) => objectAt(f.key));
