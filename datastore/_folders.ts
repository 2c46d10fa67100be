import type { KeyValue } from "./store.ts";

/** What lies directly in one folder of keys. */
interface Folder {
  values: Map<string, KeyValue>;
  /** Full paths, each with its final `/`. */
  folders: Set<string>;
}

/** Where a key or a folder lies: `/a/b` and `/a/b/` in `/a/`, `/` in "", which is the root. */
const folderOf = (path: string): string =>
  path.length < 2 ? "" : path.slice(0, path.lastIndexOf("/", path.length - 2) + 1);

/**
 * Values by key, found by prefix without looking at anything else: a tree along the `/` of the keys. A key that ends in
 * `/` (Calico has none) is not found by itself as prefix.
 */
export class Folders implements Iterable<KeyValue> {
  #folders = new Map<string, Folder>();
  #size = 0;

  /** Number of keys. */
  get size(): number {
    return this.#size;
  }

  get(key: string): KeyValue | undefined {
    return this.#folders.get(folderOf(key))?.values.get(key);
  }

  set(kv: KeyValue): void {
    const { values } = this.#folder(folderOf(kv.key));
    if (!values.has(kv.key)) this.#size++;
    values.set(kv.key, kv);
  }

  delete(key: string): void {
    const path = folderOf(key);
    if (!this.#folders.get(path)?.values.delete(key)) return;
    this.#size--;
    this.#dropIfEmpty(path);
  }

  /** Everything that begins with `prefix`, sorted by key. Costs what it returns, and the folder that `prefix` ends in. */
  list(prefix: string): KeyValue[] {
    const found: KeyValue[] = [];
    const path = prefix.endsWith("/") ? prefix : folderOf(prefix);
    const folder = this.#folders.get(path);
    if (!folder) return found;
    for (const kv of folder.values.values()) if (kv.key.startsWith(prefix)) found.push(kv);
    for (const sub of folder.folders) if (sub.startsWith(prefix)) this.#all(sub, found);
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Every value, in no particular order. */
  *[Symbol.iterator](): Iterator<KeyValue> {
    for (const { values } of this.#folders.values()) yield* values.values();
  }

  #all(path: string, into: KeyValue[]): void {
    const folder = this.#folders.get(path)!;
    for (const kv of folder.values.values()) into.push(kv);
    for (const sub of folder.folders) this.#all(sub, into);
  }

  #folder(path: string): Folder {
    const there = this.#folders.get(path);
    if (there) return there;
    const made: Folder = { values: new Map(), folders: new Set() };
    this.#folders.set(path, made);
    if (path !== "") this.#folder(folderOf(path)).folders.add(path);
    return made;
  }

  #dropIfEmpty(path: string): void {
    const folder = this.#folders.get(path);
    if (path === "" || !folder || folder.values.size > 0 || folder.folders.size > 0) return;
    this.#folders.delete(path);
    const parent = folderOf(path);
    this.#folders.get(parent)?.folders.delete(path);
    this.#dropIfEmpty(parent);
  }
}
