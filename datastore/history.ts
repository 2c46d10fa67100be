import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { resourcePrefix } from "./kind.ts";
import type { KeyValue, Store } from "./store.ts";

/** Who changes objects, as it is told in their history. */
export interface Author {
  user: string;
  host: string;
  /** Address that the user's ssh session comes from. */
  from?: string;
  /** What was called: `ctl apply -f web.yaml`. */
  command?: string;
}

/** One state of an object, and how it came to be. */
export interface State {
  /** Counts the states of an object from 1; goes on when old ones are forgotten. */
  number: number;
  done: "created" | "changed" | "deleted";
  /** etcd's revision of that change, in decimal; absent only for the newest state of a stored history. */
  revision?: string;
  /** RFC 3339. Absent when others made the change. */
  at?: string;
  /** Absent when others made the change, who keep no history: then only what our next change met is known. */
  by?: Author;
  /** The stored value. Absent when the object was deleted, or was too large to keep. */
  value?: string;
}

/** What an object was, oldest first, and what it is. */
export interface History {
  states: State[];
  current?: KeyValue;
}

/** Most states that are kept of an object. */
export const maxStates = 32;
/** Most bytes that the history of an object may have. etcd takes 1.5 MiB in one transaction. */
export const maxBytes = 128 * 1024;

/** Below it lie the histories: outside Calico's keys, which tools that know them alone do not look at. */
export const historyPrefix = "/tortie/history/";

/** The key of the history of the object at `key`. */
export const historyKey = (key: string): string => historyPrefix + key.slice(resourcePrefix.length);

/** A change that is about to be made. */
export type Change = { at: string; by: Author; value: string } | { at: string; by: Author; value?: undefined };

/**
 * The history's new value, to be put in the transaction that makes the change: so the history's own revision is that of
 * its newest state, and an object with another revision has been changed by somebody who keeps none.
 * @param history the stored history; undefined = none yet. @param stored the object that the change meets.
 */
export function withChange(history: KeyValue | undefined, stored: KeyValue | undefined, change: Change): string {
  const states = statesOf(history, stored);
  const done = change.value === undefined ? "deleted" : stored ? "changed" : "created";
  states.push({ number: (states.at(-1)?.number ?? 0) + 1, done, ...change });
  return writeBounded(states);
}

/**
 * All states up to now, with those that others made as far as they are known.
 * @param current the object as it is stored.
 */
export function statesOf(history: KeyValue | undefined, current: KeyValue | undefined): State[] {
  const states = readStates(history);
  const newest = states.at(-1);
  if (newest) newest.revision ??= String(history!.revision);
  const isSame = newest ? newest.revision === String(current?.revision) : !current;
  if (isSame || !current && newest?.done === "deleted") return states;
  const number = (newest?.number ?? 0) + 1;
  if (!current) return [...states, { number, done: "deleted" }];
  const done = current.revision === current.created ? "created" : "changed";
  return [...states, { number, done, revision: String(current.revision), value: current.value }];
}

/** What is known of the object at `key`. */
export async function readHistory(store: Store, key: string): Promise<History> {
  const { values } = await store.read([key, historyKey(key)]);
  const current = values.get(key);
  return { states: statesOf(values.get(historyKey(key)), current), current };
}

/** A value that cannot be read counts as none: a history holds up no change. */
function readStates(history: KeyValue | undefined): State[] {
  if (!history) return [];
  try {
    const value = parseJson(history.value);
    const states = isObject(value) && Array.isArray(value.states) ? value.states : [];
    return states.filter(isState);
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}

const isState = (value: Json): value is Json & State =>
  isObject(value) && typeof value.number === "number" && typeof value.done === "string" &&
  ["undefined", "string"].includes(typeof value.value) && (value.by === undefined || isObject(value.by));

/** Oldest states go first. A newest one that is too large by itself goes without its value. */
function writeBounded(states: State[]): string {
  let kept = states.slice(-maxStates);
  for (;;) {
    const text = writeJson({ states: kept });
    if (new TextEncoder().encode(text).length <= maxBytes) return text;
    if (kept.length > 1) kept = kept.slice(1);
    else kept = kept.map(({ value: _, ...state }) => state);
  }
}
