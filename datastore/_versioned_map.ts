import type { Event, KeyValue, Range } from "./store.ts";

/**
 * Keys with all their versions since the last compaction: etcd's model of data, without a server. One write() is one
 * revision. Keys are ordered by UTF-16 units, which is etcd's byte order for everything below U+D800.
 */
export class VersionedMap {
  /** Newest revision; etcd begins with 1. */
  revision = 1n;
  /** History before this revision is gone. */
  compacted = 0n;
  #values = new Map<string, KeyValue>();
  #sorted: string[] = [];
  #log: Event[] = [];

  /** A map whose history begins at `revision` with `values`. */
  static from(revision: bigint, values: Iterable<KeyValue>): VersionedMap {
    const map = new VersionedMap();
    for (const kv of values) map.#values.set(kv.key, kv);
    map.#sorted = [...map.#values.keys()].sort();
    map.revision = map.compacted = revision;
    return map;
  }

  get(key: string): KeyValue | undefined {
    return this.#values.get(key);
  }

  /** Values of a range now, sorted by key, at most `limit`. */
  now(range: Range, limit = Infinity): KeyValue[] {
    const found: KeyValue[] = [];
    for (let i = this.#place(range.start); i < this.#sorted.length && found.length < limit; i++) {
      const key = this.#sorted[i]!;
      if (key >= range.end) break;
      found.push(this.#values.get(key)!);
    }
    return found;
  }

  /** Values of a range as they were at `revision` (not before `compacted`), sorted by key, at most `limit`. */
  at(range: Range, revision: bigint, limit: number): KeyValue[] {
    if (revision === this.revision) return this.now(range, limit);
    const then = new Map(this.now(range).map((kv) => [kv.key, kv]));
    for (const e of this.#log.toReversed()) {
      if (e.revision <= revision) break;
      if (e.key < range.start || e.key >= range.end) continue;
      const before = this.#previous.get(e);
      if (before) then.set(e.key, before);
      else then.delete(e.key);
    }
    return [...then.values()].sort((a, b) => (a.key < b.key ? -1 : 1)).slice(0, limit);
  }

  /** Events from revision `from` on, in order. */
  since(from: bigint): Event[] {
    return this.#log.filter((e) => e.revision >= from);
  }

  /** Writes values (undefined = delete) at one new revision; nothing to do makes no revision, as in etcd. */
  write(writes: [string, string | undefined][]): Event[] {
    const real = writes.filter(([key, value]) => value !== undefined || this.#values.has(key));
    if (real.length === 0) return [];
    this.revision++;
    return real.map(([key, value]) => this.#writeOne(key, value));
  }

  /** Forgets history: nothing before `revision` can be listed, nothing up to it watched. */
  compact(revision: bigint): void {
    this.compacted = revision > this.compacted ? revision : this.compacted;
    this.#log = this.#log.filter((e) => e.revision > this.compacted);
  }

  /** What each event of the log replaced. */
  readonly #previous = new WeakMap<Event, KeyValue>();

  #writeOne(key: string, value: string | undefined): Event {
    const before = this.#values.get(key);
    const created = value === undefined ? 0n : before?.created ?? this.revision;
    const event: Event = { key, value, revision: this.revision, created };
    if (before) this.#previous.set(event, before);
    if (value !== undefined) this.#values.set(key, { key, value, revision: this.revision, created });
    else this.#values.delete(key);
    const place = this.#place(key);
    if (!before) this.#sorted.splice(place, 0, key);
    else if (value === undefined) this.#sorted.splice(place, 1);
    this.#log.push(event);
    return event;
  }

  /** Index of the first sorted key that is not smaller than `key`. */
  #place(key: string): number {
    let low = 0;
    for (let high = this.#sorted.length; low < high;) {
      const middle = (low + high) >> 1;
      if (this.#sorted[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
