import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { Problem } from "../lib/problem.ts";
import { commitRehearsed, historyLines, withLines, writeOf } from "./commit.ts";
import type { Author } from "./history.ts";
import { parseKey } from "./keys.ts";
import { kindByName } from "./kinds/index.ts";
import { identify } from "./problems.ts";
import type { KeyChange, Rehearsal } from "./rehearsal.ts";
import { type Compare, prefixRange, type Snapshot, type Store, type Write } from "./store.ts";

/**
 * Changes that are undone unless somebody confirms them. A change's record lies beside it, put by the same transaction: so
 * the record's own revision is that of the change, and a key with another one has been changed by somebody else since. Its
 * fuse is a key under a lease that nobody renews; when it is gone and the record is there, the change is to be undone, by
 * whoever sees it. The time of day decides nothing.
 */
export const pendingPrefix = "/tortie/pending/";
/** Below it each agent that undoes what nobody confirms has a key, as long as it lives: `/tortie/guards/<node>`. */
export const guardPrefix = "/tortie/guards/";
/** The change that was undone last, for who comes back and wonders. */
export const lastUndoneKey = "/tortie/undone";

/** What one key held before a change. */
export interface Former {
  key: string;
  /** Absent = the key did not exist. */
  before?: string;
  /** The change deleted it. */
  deleted?: true;
}

/** A change that waits to be confirmed. */
export interface Pending {
  id: string;
  /** RFC 3339. */
  at: string;
  by: Author;
  /** From `at` until it is undone. */
  seconds: number;
  changed: Former[];
}

/** A pending change as it is stored. */
export interface PendingFound {
  change: Pending;
  /** Of its record, and so of what it wrote. */
  revision: bigint;
  /** Its time is over. */
  isOver: boolean;
}

/** What undoing a change came to: objects by name, as `IPPool(main)`. */
export interface Undone {
  restored: string[];
  kept: { object: string; why: string }[];
}

/** Longest and shortest time to confirm, seconds. */
export const confirmSeconds = { least: 5, most: 3600 };

const recordKey = (id: string): string => `${pendingPrefix}${id}/change`;
const fuseKey = (id: string): string => `${pendingPrefix}${id}/fuse`;
/** The key that tells of a node's guard. */
export const guardKey = (node: string): string => guardPrefix + node;

/**
 * Writes what was rehearsed, its record and its fuse in one transaction.
 * @returns undefined when nothing changes. @throws Problem "conflict" when something that the checks looked at has changed
 * since the rehearsal, "bad-input" for too much at once, "not-ready" when nobody would undo it.
 */
export async function commitPending(
  store: Store,
  rehearsal: Rehearsal,
  parts: Omit<Pending, "changed">,
): Promise<PendingFound | undefined> {
  const changes = await rehearsal.changes();
  if (changes.length === 0) return undefined;
  await refuseUnguarded(store);
  const pending = await refuseOverlap(store, changes);
  const change: Pending = { ...parts, changed: changes.map(formerOf) };
  const lease = await store.lease(parts.seconds, { unattended: true });
  const record = recordKey(parts.id);
  const write = [
    { put: record, value: writeJson(change as unknown as Json) },
    { put: fuseKey(parts.id), value: "", lease: lease.id },
  ];
  const also = { compare: [{ key: record, revision: 0n }, pending], write, witness: record };
  const revision = await commitRehearsed(store, rehearsal, parts, also);
  if (revision !== undefined) return { change, revision, isOver: false };
  throw new Problem({
    code: "conflict",
    what: "the datastore changed meanwhile: nothing was written",
    todo: "Try again",
  });
}

/** @throws Problem "not-ready": a change that nobody undoes must not be one that its author relies on to be undone. */
async function refuseUnguarded(store: Store): Promise<void> {
  const { values } = await store.read([prefixRange(guardPrefix)]);
  if (values.size > 0) return;
  throw new Problem({
    code: "not-ready",
    what: "no tortie node is connected that would undo the change if nobody confirmed it",
    todo: "Start one, or apply without --confirm",
  });
}

/**
 * Of two pending changes of one object the second would be undone to the first, whatever became of that one.
 * @returns that no other change became pending meanwhile. @throws Problem "exists".
 */
async function refuseOverlap(store: Store, changes: readonly KeyChange[]): Promise<Compare> {
  const range = prefixRange(pendingPrefix), { revision } = await store.read([range]);
  for (const { change } of await readPending(store)) {
    const both = changes.find((c) => change.changed.some((f) => f.key === c.key));
    if (!both) continue;
    const what = `change ${change.id} of ${objectAt(both.key)} is not confirmed yet`;
    throw new Problem({ code: "exists", what, todo: "Confirm or undo it first: tortie ctl confirm --list" });
  }
  return { range, unchangedSince: revision };
}

const formerOf = ({ key, before, after }: KeyChange): Former => ({
  key,
  ...(before && { before: before.value }),
  ...(after === undefined && { deleted: true }),
});

/** All pending changes, the oldest first. @param unreadable is told of records that cannot be understood; they stay. */
export async function readPending(
  store: Store,
  unreadable: (key: string, why: string) => void = () => {},
): Promise<PendingFound[]> {
  const { values } = await store.read([prefixRange(pendingPrefix)]);
  const found: PendingFound[] = [];
  for (const { key, value, revision } of values.values()) {
    if (!key.endsWith("/change")) continue;
    const change = parsePending(value);
    const id = key.slice(pendingPrefix.length, -"/change".length);
    if (typeof change === "string") unreadable(key, change);
    else found.push({ change: { ...change, id }, revision, isOver: !values.has(fuseKey(id)) });
  }
  return found.sort((a, b) => (a.revision < b.revision ? -1 : 1));
}

function parsePending(text: string): Pending | string {
  let value: Json;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return error.message;
  }
  const isFormer = (f: Json) =>
    isObject(f) && typeof f.key === "string" && ["undefined", "string"].includes(typeof f.before);
  if (!isObject(value) || !Array.isArray(value.changed) || !value.changed.every(isFormer)) return "no list of changes";
  if (!isObject(value.by) || typeof value.at !== "string" || typeof value.seconds !== "number") {
    return "no author or time";
  }
  return value as unknown as Pending;
}

/** Keeps a change for good. @returns false when it is not pending any more: somebody confirmed or undid it. */
export async function confirmPending(store: Store, { change, revision }: PendingFound): Promise<boolean> {
  const key = recordKey(change.id);
  const txn = { compare: [{ key, revision }], write: [{ delete: key }, { delete: fuseKey(change.id) }] };
  return (await store.txn(txn)).committed;
}

const tries = 5;

/**
 * Puts back what a change met, except for objects that somebody else changed since and those that others now refer to.
 * @param by who undoes it, and when. @returns undefined when it is not pending any more.
 * @throws Problem "conflict" when others kept changing the same keys: try again.
 */
export async function undoPending(
  store: Store,
  found: PendingFound,
  by: Author,
  at: string,
): Promise<Undone | undefined> {
  const { change, revision } = found, record = recordKey(change.id);
  for (let left = tries; left > 0; left--) {
    const seen = await store.read([record, ...change.changed.map((f) => f.key)]);
    if (seen.values.get(record)?.revision !== revision) return undefined;
    const { restore, kept, compare } = await planUndo(store, found, seen);
    const objects = restore.map((c) => objectAt(c.key));
    const undone: Undone = { restored: objects, kept };
    const lines = await historyLines(store, restore, { by, at });
    const write: Write[] = [
      ...restore.map(writeOf),
      ...[{ delete: record }, { delete: fuseKey(change.id) }],
      { put: lastUndoneKey, value: writeJson({ id: change.id, at, by, ...undone } as unknown as Json) },
    ];
    const own = restore.map((c) => ({ key: c.key, revision: c.before?.revision ?? 0n }));
    const { committed } = await store.txn({
      compare: [{ key: record, revision }, ...own, ...compare, ...lines.compare],
      write: withLines(write, lines.write),
    });
    if (committed) return undone;
  }
  throw new Problem({
    code: "conflict",
    what: `change ${change.id} could not be undone yet: others write the same keys`,
  });
}

/** What undoing would write, what it leaves and why, and what must hold for it. */
async function planUndo(
  store: Store,
  { change, revision }: PendingFound,
  seen: Snapshot,
): Promise<{ restore: KeyChange[]; kept: Undone["kept"]; compare: Compare[] }> {
  const restore: KeyChange[] = [], kept: Undone["kept"] = [], compare: Compare[] = [];
  const goes = new Set(change.changed.filter((f) => f.before === undefined).map((f) => f.key));
  for (const { key, before, deleted } of change.changed) {
    const current = seen.values.get(key);
    const isOurs = deleted ? current === undefined : current?.revision === revision;
    const used = isOurs && before === undefined ? await stillNeeded(store, key, goes, compare) : undefined;
    if (isOurs && used === undefined) restore.push({ key, before: current, after: before });
    else kept.push({ object: objectAt(key), why: used ?? "somebody changed it since" });
  }
  return { restore, kept, compare };
}

/** Why an object cannot go, as others that stay refer to it. */
async function stillNeeded(
  store: Store,
  key: string,
  goes: ReadonlySet<string>,
  compare: Compare[],
): Promise<string | undefined> {
  const parsed = parseKey(key);
  const needs = parsed?.is === "resource" ? kindByName(parsed.kind).deleteNeeds(parsed) : undefined;
  if (!needs) return undefined;
  const { values, revision } = await store.read(needs.read);
  compare.push(
    ...needs.read.filter((what) => typeof what !== "string").map((range) => ({ range, unchangedSince: revision })),
  );
  return needs.verdict(new Map([...values].filter(([k]) => !goes.has(k))))?.what;
}

/** An object's name by its key; of other keys the key. */
export function objectAt(key: string): string {
  const parsed = parseKey(key);
  return parsed?.is === "resource" ? identify(parsed.kind, parsed.name, parsed.namespace) : key;
}
