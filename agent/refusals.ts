import type { Logger } from "../lib/log.ts";
import { type Metrics, noMetrics } from "../lib/metrics.ts";
import { parseKey } from "../datastore/keys.ts";

/** An object of the datastore or of the kernel that is not in force as it was asked for, and why. */
export interface Refusal {
  /** `Kind:namespace/name` or `Kind:name`; a key when it is nothing else. */
  object: string;
  why: string;
}

/** So many objects are named by metrics at most, each with so much of its reason; the rest is counted only. */
const namedByMetrics = { objects: 50, reasonLength: 120 };
const usualWords = "object is not in force as it was written";

/**
 * What is not in force as it was asked for, from everybody who finds out: told once in the log when it begins and once when
 * it is over, listed for `ctl node status`, and named by metrics with bounded labels.
 */
export class Refusals {
  readonly #log: Logger;
  readonly #sources = new Map<string, ReadonlyMap<string, string>>();

  constructor(log: Logger, metrics: Metrics = noMetrics) {
    this.#log = log;
    metrics.onCollect(() => this.#collect(metrics));
  }

  /**
   * What one source refuses now, by object, with the reason; all of it each time.
   * @param source any name, one for each who calls. @param words the log's message; "" = the caller has told it.
   */
  set(source: string, now: ReadonlyMap<string, string>, words = usualWords): void {
    const before = this.#sources.get(source) ?? new Map<string, string>();
    if (before.size === 0 && now.size === 0) return;
    for (const [object, why] of now) {
      if (words !== "" && before.get(object) !== why && !this.#isSaid(object, why)) {
        this.#log.warn(words, { object, why });
      }
    }
    this.#sources.set(source, now);
    for (const object of before.keys()) {
      if (!now.has(object) && !this.#has(object)) this.#log.info("object is in force again", { object });
    }
  }

  /** All of it, by object. */
  list(): Refusal[] {
    const found = new Map<string, string>();
    for (const source of this.#sources.values()) {
      for (const [object, why] of source) {
        const said = found.get(object);
        found.set(object, said === undefined || said === why ? why : `${said}; ${why}`);
      }
    }
    return [...found].map(([object, why]) => ({ object, why })).sort((a, b) => (a.object < b.object ? -1 : 1));
  }

  #has(object: string): boolean {
    return [...this.#sources.values()].some((s) => s.has(object));
  }

  #isSaid(object: string, why: string): boolean {
    return [...this.#sources.values()].some((s) => s.get(object) === why);
  }

  #collect(metrics: Metrics): void {
    const all = this.list();
    metrics.set("tortie_objects_refused", all.length);
    metrics.clear("tortie_object_refused");
    for (const { object, why } of all.slice(0, namedByMetrics.objects)) {
      metrics.set("tortie_object_refused", 1, { object, reason: why.slice(0, namedByMetrics.reasonLength) });
    }
  }
}

/** `Kind:namespace/name` of a resource's key; any other key as it is. */
export function objectOfKey(key: string): string {
  const parsed = parseKey(key);
  if (parsed?.is !== "resource") return key;
  return `${parsed.kind}:${parsed.namespace ? `${parsed.namespace}/` : ""}${parsed.name}`;
}

/** Values that cannot be read, by object: follows what the steps of a mirror find. */
export class BrokenValues {
  #now = new Map<string, string>();

  /** @param broken the reason by key, of those in `set`. @returns all of them now; a new map when something changed. */
  update(
    { set, deleted }: { set: readonly { key: string }[]; deleted: readonly string[] },
    broken: ReadonlyMap<string, string>,
  ): ReadonlyMap<string, string> {
    if (this.#now.size === 0 && broken.size === 0) return this.#now;
    const now = new Map(this.#now);
    for (const { key } of set) now.delete(objectOfKey(key));
    for (const key of deleted) now.delete(objectOfKey(key));
    for (const [key, why] of broken) now.set(objectOfKey(key), why);
    return this.#now = now;
  }
}

/** What is said of a value that cannot be read. */
export const brokenWords = "value not understood, last good one stays";
