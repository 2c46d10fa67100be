import { messageOf, Problem } from "../lib/problem.ts";
import type { Resource } from "./kind.ts";
import { parseSelector } from "./selector/index.ts";

/**
 * Which objects have labels that match a selector of Calico's language; undefined = all.
 * @throws Problem "bad-input" for one that cannot be read.
 */
export function labelled(selector: string | undefined): (resource: Resource) => boolean {
  if (selector === undefined) return () => true;
  try {
    const parsed = parseSelector(selector);
    return ({ metadata }) => parsed.matches(new Map(Object.entries(metadata.labels ?? {})));
  } catch (error) {
    throw new Problem({ code: "bad-input", what: `invalid selector "${selector}": ${messageOf(error)}` });
  }
}
