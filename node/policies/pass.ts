import type { Logger } from "../../lib/log.ts";
import type { Signature } from "../../datastore/commit.ts";
import type { Store } from "../../datastore/store.ts";
import type { PolicyFile, PolicyFolder } from "./folder.ts";
import { type Fault, type FileObject, objectsIn } from "./objects.ts";
import { type Owned, readOwned } from "./owned.ts";
import { type FileState, type Neighbour, takeFile, type Taken } from "./take.ts";

/** What a pass over the folder works with. */
export interface PassParts {
  store: Store;
  node: string;
  folder: PolicyFolder;
  log: Logger;
  signature(file: string): Signature;
}

/** What a pass found. `again`: it is worth another, as something changed or somebody else was faster. */
export interface PassResult {
  /** A sentence a fault or conflict. */
  problems: string[];
  again: boolean;
}

/** What each file says: what it says now, or, while that is broken, what it said last. */
interface Said {
  file: PolicyFile;
  /** Undefined = not known: it is broken, and was never good here. Then what it brought elsewhere stays. */
  objects: FileObject[] | undefined;
  faults: Fault[];
}

/**
 * Brings the datastore to what the folder says, file by file. A broken file changes nothing: its last good version stays,
 * and is brought again where it is missing. A file that is gone takes with it what it brought.
 */
export async function passOver(parts: PassParts): Promise<PassResult> {
  const files = await parts.folder.files();
  if (!files) return { problems: [], again: false };
  const said = await Promise.all(files.map(sayingOf));
  const result: PassResult = { problems: said.flatMap((s) => s.faults.map(faultText)), again: false };
  for (const one of said) {
    if (!one.objects) continue;
    const taken = await take(parts, one.file.name, one.objects, said);
    note(parts, result, one.file.name, taken);
    const isGood = one.faults.length === 0 && (taken.done === "unchanged" || taken.done === "written");
    if (isGood && one.file.lastGood !== one.file.text) await parts.folder.keep(one.file.name, one.file.text);
    if (taken.done === "refused" && one.faults.length === 0) await takeLastGood(parts, one, said, result);
  }
  await takeAway(parts, said, result);
  return result;
}

async function sayingOf(file: PolicyFile): Promise<Said> {
  if (file.unreadable !== undefined) {
    const fault = { file: file.name, document: 1, line: 1, why: file.unreadable };
    return { file, objects: await lastGoodOf(file), faults: [fault] };
  }
  const { objects, faults } = await objectsIn(file.name, file.text);
  if (faults.length === 0) return { file, objects, faults };
  return { file, objects: await lastGoodOf(file), faults };
}

async function lastGoodOf({ name, lastGood }: PolicyFile): Promise<FileObject[] | undefined> {
  const last = lastGood === undefined ? undefined : await objectsIn(name, lastGood);
  return last && last.faults.length === 0 ? last.objects : undefined;
}

/** A file that the datastore's rules refuse: what it said last is brought again where it is missing. */
async function takeLastGood(
  parts: PassParts,
  { file }: Said,
  said: readonly Said[],
  result: PassResult,
): Promise<void> {
  const last = file.lastGood === file.text ? undefined : await lastGoodOf(file);
  if (!last) return;
  const taken = await take(parts, file.name, last, said);
  if (taken.done !== "refused") note(parts, result, file.name, taken);
}

async function takeAway(parts: PassParts, said: readonly Said[], result: PassResult): Promise<void> {
  const { own } = await readOwned(parts.store, parts.node);
  const isThere = (name: string) => said.some((s) => s.file.name === name);
  for (const name of own.keys()) {
    if (!isThere(name)) note(parts, result, name, await take(parts, name, [], said));
  }
  for (const name of await parts.folder.known()) if (!isThere(name)) await parts.folder.forget(name);
}

async function take(
  { store, node, signature }: PassParts,
  file: string,
  objects: FileObject[],
  said: readonly Said[],
): Promise<Taken> {
  const { own, others } = await readOwned(store, node);
  const owned = own.get(file) ?? { objects: {}, revision: 0n };
  if (objects.length === 0 && owned.revision === 0n) return { done: "unchanged", conflicts: [], changed: [] };
  const state: FileState = { node, file, objects, owned, neighbours: neighboursOf(file, own, said), shared: others };
  return await takeFile(store, state, signature(file));
}

function neighboursOf(file: string, own: ReadonlyMap<string, Owned>, said: readonly Said[]): Map<string, Neighbour> {
  const neighbours = new Map<string, Neighbour>();
  for (const [name, { objects }] of own) {
    if (name === file) continue;
    for (const [key, brought] of Object.entries(objects)) neighbours.set(key, { file: name, says: false, brought });
  }
  for (const { file: { name }, objects } of said) {
    if (name === file) continue;
    for (const { key } of objects ?? []) {
      const known = neighbours.get(key);
      if (!known || known.file === name) neighbours.set(key, { file: name, says: true, brought: known?.brought });
    }
  }
  return neighbours;
}

function note({ log }: PassParts, result: PassResult, file: string, taken: Taken): void {
  if (taken.done === "raced") result.again = true;
  else if (taken.done === "refused") result.problems.push(...taken.faults.map(faultText));
  else {
    result.problems.push(...taken.conflicts.map((c) => `${file}: ${c}`));
    if (taken.done !== "written") return;
    result.again = true;
    log.info("file of policies is in force", { file, changed: taken.changed });
  }
}

const faultText = ({ file, document, line, why }: Fault): string =>
  `${file}, document ${document}, line ${line}: ${why.trim().replaceAll("\n", " ")}`;
