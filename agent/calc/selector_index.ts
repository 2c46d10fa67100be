import type { Selector } from "../../datastore/selector/index.ts";
import type { Restriction } from "../../datastore/selector/restrictions.ts";

/** Labels of a subject or a parent. */
export type LabelMap = ReadonlyMap<string, string>;

/** Labels by name, own or inherited. */
type Lookup = { get(name: string): string | undefined };

/** A selector (by its canonical text) began or ceased to match a subject. */
export interface MatchChange {
  selector: string;
  subject: string;
  matches: boolean;
}

interface Subject {
  own: LabelMap;
  parents: readonly string[];
  /** Selectors that match. */
  matched: Few<Entry>;
}

/** A set that is a list while it is small: most subjects match one or two selectors, and a Set of one is 240 bytes. */
type Few<T> = readonly T[] | Set<T>;
const few = 8;

interface Entry {
  selector: Selector;
  matches: Set<string>;
  bucket: Bucket;
}

/** Where a selector waits for subjects: at one label's values, at one label with any value, or everywhere. */
type Bucket = { at: "values"; label: string; values: string[] } | { at: "label"; label: string } | { at: "rest" };

/**
 * Which selectors match which subjects, kept up to date. A subject has its own labels and inherits those of its parents;
 * own ones win, then the first parent's. A changed subject is compared only with selectors that could match its labels,
 * a new selector only with subjects that carry the label it needs. Every call returns what changed.
 */
export class SelectorIndex {
  #subjects = new Map<string, Subject>();
  #parents = new Map<string, LabelMap>();
  #children = new Map<string, Set<string>>();
  #entries = new Map<string, Entry>();
  #byValue = new Map<string, Map<string, Set<Entry>>>();
  #byLabel = new Map<string, Set<Entry>>();
  #rest = new Set<Entry>();
  #carriers = new CarrierIndex();
  #parentCarriers = new CarrierIndex();
  /** Since the start: comparisons by outcome, and searches for the objects of a new selector, by the way. */
  readonly counts = {
    evaluations: { true: 0, false: 0 },
    searches: { "single-value": 0, "multi-value": 0, "label-name": 0, "full-scan": 0 },
  };

  /** Adds or changes a subject. */
  setSubject(id: string, own: LabelMap, parents: readonly string[]): MatchChange[] {
    const old = this.#subjects.get(id);
    const subject: Subject = { own, parents, matched: old?.matched ?? none };
    this.#carriers.replace(id, old?.own, own);
    for (const parent of old?.parents ?? []) if (!parents.includes(parent)) this.#children.get(parent)?.delete(id);
    for (const parent of parents) insert(this.#children, parent, id);
    this.#subjects.set(id, subject);
    return this.#evaluate(id, subject);
  }

  /** Removes a subject. */
  deleteSubject(id: string): MatchChange[] {
    const subject = this.#subjects.get(id);
    if (!subject) return [];
    this.#carriers.replace(id, subject.own, undefined);
    for (const parent of subject.parents) this.#children.get(parent)?.delete(id);
    this.#subjects.delete(id);
    return [...subject.matched].map((entry) => {
      entry.matches.delete(id);
      return { selector: entry.selector.text, subject: id, matches: false };
    });
  }

  /** Sets the labels that the parent's children inherit; undefined when the parent is gone. */
  setParent(name: string, labels: LabelMap | undefined): MatchChange[] {
    const old = this.#parents.get(name);
    if (sameLabels(old, labels)) return [];
    this.#parentCarriers.replace(name, old, labels);
    if (labels) this.#parents.set(name, labels);
    else this.#parents.delete(name);
    return [...this.#children.get(name) ?? []].flatMap((id) => this.#evaluate(id, this.#subjects.get(id)!));
  }

  /** Adds a selector; the changes are its first matches. Adding one that is there changes nothing. */
  addSelector(selector: Selector): MatchChange[] {
    if (this.#entries.has(selector.text)) return [];
    const entry: Entry = { selector, matches: new Set(), bucket: bucketOf(selector) };
    this.#entries.set(selector.text, entry);
    if (!selector.canMatch()) return [];
    for (const set of this.#setsOf(entry.bucket)) set.add(entry);
    this.counts.searches[wayOf(entry.bucket)]++;
    const changes: MatchChange[] = [];
    for (const id of this.#candidates(entry.bucket)) {
      const subject = this.#subjects.get(id)!;
      if (!this.#matches(selector, this.#labels(subject))) continue;
      entry.matches.add(id);
      subject.matched = plus(subject.matched, entry);
      changes.push({ selector: selector.text, subject: id, matches: true });
    }
    return changes;
  }

  /** Removes a selector without a word: who removes it knows whom it matched. */
  removeSelector(text: string): void {
    const entry = this.#entries.get(text);
    if (!entry) return;
    this.#entries.delete(text);
    for (const set of this.#setsOf(entry.bucket)) set.delete(entry);
    for (const id of entry.matches) {
      const subject = this.#subjects.get(id);
      if (subject) subject.matched = minus(subject.matched, entry);
    }
  }

  /** Subjects that the selector matches now. */
  matchesOf(text: string): ReadonlySet<string> {
    return this.#entries.get(text)?.matches ?? nobody;
  }

  /** Canonical texts of the selectors that match the subject now. */
  *selectorsOf(subject: string): Generator<string> {
    for (const entry of this.#subjects.get(subject)?.matched ?? []) yield entry.selector.text;
  }

  #evaluate(id: string, subject: Subject): MatchChange[] {
    const labels = this.#labels(subject);
    const now = new Set<Entry>();
    const look = (set: Iterable<Entry> | undefined) => {
      for (const entry of set ?? []) if (!now.has(entry) && this.#matches(entry.selector, labels)) now.add(entry);
    };
    look(this.#rest);
    for (const source of [subject.own, ...subject.parents.map((p) => this.#parents.get(p))]) {
      for (const [label, value] of source ?? []) {
        look(this.#byLabel.get(label));
        look(this.#byValue.get(label)?.get(value));
      }
    }
    const changes: MatchChange[] = [];
    for (const entry of subject.matched) {
      if (now.has(entry)) continue;
      entry.matches.delete(id);
      changes.push({ selector: entry.selector.text, subject: id, matches: false });
    }
    for (const entry of now) {
      if (entry.matches.has(id)) continue;
      entry.matches.add(id);
      changes.push({ selector: entry.selector.text, subject: id, matches: true });
    }
    if (changes.length > 0) subject.matched = now.size > few ? now : [...now];
    return changes;
  }

  #matches(selector: Selector, labels: Lookup): boolean {
    const matches = selector.matches(labels);
    this.counts.evaluations[`${matches}`]++;
    return matches;
  }

  #labels(subject: Subject): Lookup {
    return {
      get: (name) => {
        const own = subject.own.get(name);
        if (own !== undefined) return own;
        for (const parent of subject.parents) {
          const inherited = this.#parents.get(parent)?.get(name);
          if (inherited !== undefined) return inherited;
        }
        return undefined;
      },
    };
  }

  #setsOf(bucket: Bucket): Set<Entry>[] {
    if (bucket.at === "rest") return [this.#rest];
    if (bucket.at === "label") return [setAt(this.#byLabel, bucket.label)];
    const values = mapAt(this.#byValue, bucket.label);
    return bucket.values.map((value) => setAt(values, value));
  }

  /** Subjects that may match: who carries the needed label, itself or through a parent. */
  #candidates(bucket: Bucket): Iterable<string> {
    if (bucket.at === "rest") return this.#subjects.keys();
    const values = bucket.at === "values" ? bucket.values : undefined;
    const found = new Set<string>(this.#carriers.of(bucket.label, values, this.#ownLabels()));
    for (const parent of this.#parentCarriers.of(bucket.label, values, this.#parents)) {
      for (const child of this.#children.get(parent) ?? []) found.add(child);
    }
    return found;
  }

  *#ownLabels(): Generator<[string, LabelMap]> {
    for (const [id, subject] of this.#subjects) yield [id, subject.own];
  }
}

function wayOf(bucket: Bucket): "single-value" | "multi-value" | "label-name" | "full-scan" {
  if (bucket.at === "rest") return "full-scan";
  if (bucket.at === "label") return "label-name";
  return bucket.values.length === 1 ? "single-value" : "multi-value";
}

const nobody: ReadonlySet<string> = new Set();
const none: readonly Entry[] = [];

function plus<T>(set: Few<T>, one: T): Few<T> {
  if (set instanceof Set) return set.add(one);
  return set.length < few ? [...set, one] : new Set([...set, one]);
}

function minus<T>(set: Few<T>, one: T): Few<T> {
  if (!(set instanceof Set)) return set.filter((other) => other !== one);
  set.delete(one);
  return set;
}

/** Who carries a label, by value. A label is indexed from the first question about it on; most are never asked about. */
class CarrierIndex {
  #labels = new Map<string, Map<string, Set<string>>>();

  /** Carriers of `label` with one of `values` (undefined: any). `all` is walked when the label is new here. */
  *of(label: string, values: string[] | undefined, all: Iterable<[string, LabelMap]>): Generator<string> {
    let byValue = this.#labels.get(label);
    if (!byValue) {
      this.#labels.set(label, byValue = new Map());
      for (const [id, labels] of all) {
        const value = labels.get(label);
        if (value !== undefined) setAt(byValue, value).add(id);
      }
    }
    for (const value of values ?? byValue.keys()) yield* byValue.get(value) ?? [];
  }

  replace(id: string, old: LabelMap | undefined, now: LabelMap | undefined): void {
    for (const [label, byValue] of this.#labels) {
      const before = old?.get(label), after = now?.get(label);
      if (before === after) continue;
      if (before !== undefined) remove(byValue, before, id);
      if (after !== undefined) setAt(byValue, after).add(id);
    }
  }
}

/** Asked for by every policy of a namespace; there are more namespaces than values of `app` or `tier`. */
const narrowest = "projectcalico.org/namespace";

/** The most selective label of a selector: few values before any value before none. */
function bucketOf(selector: Selector): Bucket {
  let best: { score: number; label: string; restriction: Restriction } | undefined;
  for (const [label, restriction] of selector.restrictions()) {
    const score = restriction.values ? Math.max(10_000 - restriction.values.size, 100) : restriction.present ? 10 : 0;
    const isBetter = !best || score > best.score || (score === best.score && label === narrowest);
    if (score > 0 && isBetter) best = { score, label, restriction };
  }
  if (!best) return { at: "rest" };
  const { label, restriction } = best;
  return restriction.values ? { at: "values", label, values: [...restriction.values] } : { at: "label", label };
}

function sameLabels(a: LabelMap | undefined, b: LabelMap | undefined): boolean {
  if (!a || !b) return a === b;
  if (a.size !== b.size) return false;
  for (const [label, value] of a) if (b.get(label) !== value) return false;
  return true;
}

function setAt<K, V>(map: Map<K, Set<V>>, key: K): Set<V> {
  let set = map.get(key);
  if (!set) map.set(key, set = new Set());
  return set;
}

function mapAt<K, L, V>(map: Map<K, Map<L, V>>, key: K): Map<L, V> {
  let inner = map.get(key);
  if (!inner) map.set(key, inner = new Map());
  return inner;
}

function insert<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  setAt(map, key).add(value);
}

function remove<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const set = map.get(key);
  if (set?.delete(value) && set.size === 0) map.delete(key);
}
