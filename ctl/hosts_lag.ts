import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { isProblem } from "../lib/problem.ts";
import { parseRfc3339 } from "../lib/clock.ts";
import { statusPrefix } from "../datastore/keys.ts";
import { mirroredRange } from "../datastore/mirror.ts";
import { Compacted, prefixRange, type Range, type Store } from "../datastore/store.ts";

/** Every key there can be: the newest revision may be of one that no agent follows. */
const everything: Range = { start: "\0", end: "\u{10ffff}" };
const lookMs = 2_000;

/**
 * Changes of what an agent follows that came after a revision, up to now: 0 = who knows that revision knows everything.
 * @returns undefined when the datastore no longer knows, does not tell this user, or not in time.
 */
export async function changesSince(store: Store, revision: bigint): Promise<number | undefined> {
  const { revision: newest } = await store.status();
  if (newest <= revision) return 0;
  let changes = 0;
  try {
    for await (const batch of store.watch(everything, revision + 1n, { signal: AbortSignal.timeout(lookMs) })) {
      changes += batch.events.filter((e) => e.revision <= newest && isFollowed(e.key)).length;
      if (batch.revision >= newest) return changes;
    }
  } catch (error) {
    if (!(error instanceof Compacted) && !isProblem(error, "unauthorized")) throw error;
  }
  return undefined;
}

const isFollowed = (key: string): boolean => key >= mirroredRange.start && key < mirroredRange.end;

/** When each host's agent last told that it lives, in milliseconds since 1970; hosts that never told are not in it. */
export async function lastReports(store: Store): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  await store.list(prefixRange(statusPrefix), (kvs) => {
    for (const { key, value } of kvs) {
      const node = /\/host\/([^/]+)\/last_reported_status$/.exec(key)?.[1], time = timeIn(value);
      if (node !== undefined && time !== undefined) found.set(node, time);
    }
  });
  return found;
}

function timeIn(text: string): number | undefined {
  let value: Json;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined;
  }
  return isObject(value) && typeof value.time === "string" ? parseRfc3339(value.time) : undefined;
}
