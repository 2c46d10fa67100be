import type { Facts } from "./facts.ts";

/** A fact, or why it is not known. `elsewhere`: nothing is wrong with that, it does not belong to this host. */
export type Looked<T> = { seen: T } | { unseen: string; elsewhere?: boolean };

/** Words of one finding, by the names that stand in braces in the check's fault and cure. */
export type Detail = Readonly<Record<string, string | number>>;

/** One fault that the doctor knows: a declaration. `find` is pure. */
export interface Check<Name extends keyof Facts = keyof Facts> {
  /** Name for people and programs: `ip-forward-off`. */
  id: string;
  /** What is well when nothing is found. */
  about: string;
  /** Facts that it judges; when one of them is not known, this is not judged. */
  looksAt: readonly Name[];
  /** What is wrong, one sentence; `{word}` is filled in from each finding. */
  fault: string;
  /** What to do about it. */
  cure: string;
  /** A detail for each fault; none when all is well. */
  find(seen: Pick<Facts, Name>): Detail[];
}

/** Declares a check: its find() sees only the facts that it names. */
export const check = <Name extends keyof Facts>(declared: Check<Name>): Check => declared;

/** One fault that was found. */
export interface Fault {
  id: string;
  what: string;
  cure: string;
  detail: Detail;
}

/** A check that was not made. */
export interface Unlooked {
  id: string;
  why: string;
  elsewhere: boolean;
}

/** What came out of all checks. */
export interface Examination {
  faults: Fault[];
  /** Checks that were made. */
  made: string[];
  unlooked: Unlooked[];
}

/** All facts, each known or not. */
export type LookedFacts = { readonly [Name in keyof Facts]: Looked<Facts[Name]> };

/** Makes all checks, in their order. */
export function examine(checks: readonly Check[], looked: LookedFacts): Examination {
  const examination: Examination = { faults: [], made: [], unlooked: [] };
  for (const one of checks) {
    const { id, fault, cure } = one;
    const facts: Partial<Record<keyof Facts, unknown>> = {};
    let unlooked: Unlooked | undefined;
    for (const name of one.looksAt) {
      const fact = looked[name];
      if ("seen" in fact) facts[name] = fact.seen;
      else if (!unlooked || unlooked.elsewhere) unlooked = { id, why: fact.unseen, elsewhere: !!fact.elsewhere };
    }
    if (unlooked) {
      examination.unlooked.push(unlooked);
      continue;
    }
    examination.made.push(id);
    for (const detail of one.find(facts as unknown as Facts)) {
      examination.faults.push({ id, what: filled(fault, detail), cure: filled(cure, detail), detail });
    }
  }
  return examination;
}

/** 0 = healthy, 1 = faults were found, 2 = none was, but something could not be looked at that should have been. */
export function exitCode({ faults, unlooked }: Examination): 0 | 1 | 2 {
  if (faults.length > 0) return 1;
  return unlooked.some((u) => !u.elsewhere) ? 2 : 0;
}

const filled = (text: string, detail: Detail): string =>
  text.replace(/\{(\w+)\}/g, (word, name: string) => String(detail[name] ?? word));
