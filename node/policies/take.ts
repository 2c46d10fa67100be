import { writeJson } from "../../lib/json64.ts";
import { commitRehearsed, type Signature } from "../../datastore/commit.ts";
import { parseKey } from "../../datastore/keys.ts";
import { objectAt } from "../../datastore/pending.ts";
import { Rehearsal } from "../../datastore/rehearsal.ts";
import type { Store } from "../../datastore/store.ts";
import { checkAll, type Fault, type FileObject, isRefusal } from "./objects.ts";
import { fingerprint, type Owned, ownedKey, type OwnedObject, ownedValue } from "./owned.ts";

/** What one file says, and who else has a say. */
export interface FileState {
  node: string;
  file: string;
  /** Empty for a file that is gone. */
  objects: readonly FileObject[];
  /** What the file brought so far. */
  owned: Owned;
  /** By key: what other files of this node that are there say of the object, and brought of it. */
  neighbours: ReadonlyMap<string, Neighbour>;
  /** Objects that other nodes' files brought, too: they stay when this file goes. */
  shared: ReadonlySet<string>;
}

/** Another file of the same node that has to do with an object. */
export interface Neighbour {
  file: string;
  /** The file says it now. */
  says: boolean;
  /** The file brought it. */
  brought?: OwnedObject;
}

/** What taking a file over came to. */
export type Taken =
  | { done: "unchanged" | "written"; conflicts: string[]; changed: string[] }
  /** An object breaks a rule: nothing was written. */
  | { done: "refused"; faults: Fault[] }
  /** Somebody else was faster: try again. */
  | { done: "raced" };

/**
 * Brings the datastore to what a file says, all of it or nothing, in one transaction with the record of what is the file's.
 * Objects that others made, or changed since, stay as they are and are named, until the file says something new of them.
 */
export async function takeFile(store: Store, state: FileState, signature: Signature): Promise<Taken> {
  const { node, file, objects, owned, shared } = state;
  const rehearsal = await Rehearsal.of(store, {});
  const stored = new Map(rehearsal.before.map((kv) => [kv.key, kv.value]));
  const conflicts: string[] = [], mine: Record<string, OwnedObject> = {}, wanted: FileObject[] = [];
  const said = new Map<string, string>();
  for (const object of objects) {
    const fresh = await fingerprint(writeJson(object.resource as never));
    const why = await conflictOf(state, object.key, stored.get(object.key), fresh);
    if (why) conflicts.push(`${objectAt(object.key)}: ${why}`);
    if (why && owned.objects[object.key]) mine[object.key] = owned.objects[object.key]!;
    if (why) continue;
    said.set(object.key, fresh);
    wanted.push(object);
  }
  const faults = await checkAll(rehearsal.resources, file, wanted);
  if (faults.length > 0) return { done: "refused", faults };
  const inFile = new Set(objects.map((o) => o.key));
  for (const key of tiersLast(Object.keys(owned.objects).filter((k) => !inFile.has(k) && stored.has(k)))) {
    const neighbour = state.neighbours.get(key);
    if (neighbour?.says) {
      // It moves to another file, and is this one's until that one has it.
      if (!neighbour.brought) mine[key] = owned.objects[key]!;
      continue;
    }
    const why = shared.has(key) ? undefined : await removeFrom(rehearsal, key);
    if (why) conflicts.push(`${objectAt(key)} stays: ${why}`);
    if (why) mine[key] = owned.objects[key]!;
  }
  const after = new Map((await rehearsal.after()).map((kv) => [kv.key, kv.value]));
  for (const [key, fresh] of said) mine[key] = { said: fresh, stored: await fingerprint(after.get(key)!) };
  const changed = (await rehearsal.changes()).map((c) => objectAt(c.key));
  const value = ownedValue(mine), before = ownedValue(owned.objects), record = ownedKey(node, file);
  const isGone = Object.keys(mine).length === 0;
  if (changed.length === 0 && (value === before || isGone && owned.revision === 0n)) {
    return { done: "unchanged", conflicts, changed };
  }
  const write = [isGone ? { delete: record } : { put: record, value }];
  const compare = [{ key: record, revision: owned.revision }];
  const revision = await commitRehearsed(store, rehearsal, signature, { compare, write, witness: record });
  return revision === undefined ? { done: "raced" } : { done: "written", conflicts, changed };
}

/** Why a file may not write an object; undefined when it may. `fresh`: fingerprint of what it says. */
async function conflictOf(
  { owned, neighbours, shared }: FileState,
  key: string,
  stored: string | undefined,
  fresh: string,
): Promise<string | undefined> {
  const other = neighbours.get(key), own = owned.objects[key] ?? (other?.says ? undefined : other?.brought);
  if (other?.says && other.brought && !owned.objects[key]) return `${other.file} brought it, too`;
  if (!own) return stored === undefined || shared.has(key) ? undefined : "somebody else made it";
  if (own.said !== fresh) return undefined;
  if (stored === undefined) return "somebody deleted it";
  return await fingerprint(stored) === own.stored ? undefined : "somebody else changed it";
}

const isTier = (key: string): boolean => objectAt(key).startsWith("Tier(");
const tiersLast = (keys: string[]): string[] => keys.sort((a, b) => Number(isTier(a)) - Number(isTier(b)));

/** Deletes an object in the rehearsal. @returns why that cannot be. */
async function removeFrom({ resources }: Rehearsal, key: string): Promise<string | undefined> {
  const parsed = parseKey(key);
  if (parsed?.is !== "resource") return "it is no resource";
  try {
    await resources.delete(parsed.kind, parsed.name, parsed.namespace);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return error.what;
  }
}
