import { Folders } from "./_folders.ts";
import type { Event, KeyValue } from "./store.ts";

/** One key that is now different: its new value, or undefined when it is gone. */
export type Change = [key: string, value: KeyValue | undefined];

/**
 * A copy of a range and how it moves: by a watch, by new lists, and by our own commits, which are learned before the
 * watch tells them. Each method answers what is different afterwards; what was known already is no difference.
 */
export class Replica {
  #values = new Folders();
  /** Keys that we deleted ourselves at a revision that the watch has not reached. */
  #buried = new Map<string, bigint>();
  #revision = 0n;

  /** Everything up to here is in; single keys may be newer, by learn(). */
  get revision(): bigint {
    return this.#revision;
  }

  get values(): Folders {
    return this.#values;
  }

  /** Takes the watch's events, complete up to `revision`. */
  follow(events: Event[], revision: bigint): Change[] {
    const changes = this.#apply(events);
    this.#reached(revision);
    return changes;
  }

  /** Takes our own commits at once. Those that the watch has passed are known already. */
  learn(events: Event[]): Change[] {
    const news = events.filter((e) => e.revision > this.#revision);
    for (const e of news) {
      if (e.value === undefined && !this.#isNewer(e)) this.#buried.set(e.key, e.revision);
    }
    return this.#apply(news);
  }

  /**
   * Takes a whole list, complete at `revision`. What was learned beyond it stays.
   * @param restored the list comes from a server with another history: nothing of ours survives it.
   */
  replace(listed: Folders, revision: bigint, restored: boolean): Change[] {
    if (restored) this.#buried.clear();
    const changes: Change[] = [];
    for (const [key, at] of this.#buried) if (at > revision) listed.delete(key);
    for (const kv of this.#values) {
      if (!restored && kv.revision > revision) listed.set(kv);
      else if (!listed.get(kv.key)) changes.push([kv.key, undefined]);
    }
    for (const kv of listed) {
      const held = this.#values.get(kv.key);
      if (held?.revision !== kv.revision || held.value !== kv.value) changes.push([kv.key, kv]);
    }
    this.#values = listed;
    this.#revision = 0n;
    this.#reached(revision);
    return changes;
  }

  /** The object to keep for a value that was just listed: the one that is held when it is the same, to hold it once. */
  share(kv: KeyValue): KeyValue {
    const held = this.#values.get(kv.key);
    return held?.revision === kv.revision && held.value === kv.value ? held : kv;
  }

  /** True when we hold something newer of this key than `e`. */
  #isNewer(e: Event): boolean {
    return (this.#values.get(e.key)?.revision ?? 0n) > e.revision || (this.#buried.get(e.key) ?? 0n) > e.revision;
  }

  #apply(events: Event[]): Change[] {
    const changes: Change[] = [];
    for (const e of events) {
      const held = this.#values.get(e.key);
      if (this.#isNewer(e) || held?.revision === e.revision) continue;
      if (e.value === undefined) {
        if (!held) continue;
        this.#values.delete(e.key);
        changes.push([e.key, undefined]);
      } else {
        const kv: KeyValue = { key: e.key, value: e.value, revision: e.revision, created: e.created };
        this.#values.set(kv);
        changes.push([e.key, kv]);
      }
    }
    return changes;
  }

  #reached(revision: bigint): void {
    if (revision > this.#revision) this.#revision = revision;
    for (const [key, at] of this.#buried) if (at <= this.#revision) this.#buried.delete(key);
  }
}
