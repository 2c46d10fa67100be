import type { Event, KeyValue, Range } from "../datastore/store.ts";
import type { Reader } from "./view.ts";

interface Known {
  kv: KeyValue | undefined;
  /** The value was this at this revision of the store. */
  asOf: bigint;
}

/**
 * A reader plus what we learned since from our own transactions: what they wrote, and what they were told when they
 * conflicted. So the next plan does not start from a mirror whose watch is still on its way. Forgets what the reader knows
 * by itself.
 */
export class Newest implements Reader {
  #reader: Reader;
  #seen: bigint;
  #known = new Map<string, Known>();
  #complete = new Map<string, bigint>();

  constructor(reader: Reader) {
    this.#reader = reader;
    this.#seen = reader.revision;
  }

  /** Goes on with a newer picture. One that lies in the past (etcd was restored) makes everything learned void. */
  update(reader: Reader): void {
    if (reader.revision < this.#seen) {
      this.#known.clear();
      this.#complete.clear();
    }
    this.#reader = reader;
    this.#seen = reader.revision;
    for (const [key, known] of this.#known) if (known.asOf <= reader.revision) this.#known.delete(key);
    for (const [prefix, asOf] of this.#complete) if (asOf <= reader.revision) this.#complete.delete(prefix);
  }

  get revision(): bigint {
    return this.#reader.revision;
  }

  get(key: string): KeyValue | undefined {
    const read = this.#reader.get(key);
    const known = this.#known.get(key);
    if (!known || known.asOf <= this.#reader.revision) return read;
    return read && read.revision > known.asOf ? read : known.kv;
  }

  list(prefix: string): KeyValue[] {
    const read = this.#reader.list(prefix);
    const learned = [...this.#known.keys()].filter((key) => key.startsWith(prefix));
    if (learned.length === 0) return read;
    const keys = new Set([...read.map((kv) => kv.key), ...learned]);
    return [...keys].sort().flatMap((key) => this.get(key) ?? []);
  }

  completeTo(prefix: string): bigint {
    const learned = this.#complete.get(prefix) ?? 0n;
    return learned > this.#reader.revision ? learned : this.#reader.revision;
  }

  /** Takes over what we committed. @param prefixes ranges that the transaction compared: nothing else changed in them. */
  wrote(events: Event[], revision: bigint, prefixes: string[]): void {
    for (const { key, value, created } of events) {
      this.#set(key, value === undefined ? undefined : { key, value, revision, created }, revision);
    }
    for (const prefix of prefixes) this.#completed(prefix, revision);
  }

  /** Takes over the current values of everything that was asked for, at one revision; what is not there does not exist. */
  told(asked: (string | Range)[], current: Map<string, KeyValue>, revision: bigint): void {
    for (const what of asked) {
      if (typeof what === "string") this.#set(what, current.get(what), revision);
      else this.#toldRange(what, current, revision);
    }
  }

  #toldRange(range: Range, current: Map<string, KeyValue>, revision: bigint): void {
    const inRange = (key: string) => key >= range.start && key < range.end;
    const there = [...current.keys()].filter(inRange);
    const before = this.list(range.start).map((kv) => kv.key).filter(inRange);
    for (const key of new Set([...there, ...before])) this.#set(key, current.get(key), revision);
    this.#completed(range.start, revision);
  }

  #set(key: string, kv: KeyValue | undefined, asOf: bigint): void {
    if (asOf >= (this.#known.get(key)?.asOf ?? 0n)) this.#known.set(key, { kv, asOf });
  }

  #completed(prefix: string, revision: bigint): void {
    if (revision > (this.#complete.get(prefix) ?? 0n)) this.#complete.set(prefix, revision);
  }
}
