import { isObject } from "../lib/json64.ts";
import type { Kind, Resource } from "../datastore/kind.ts";
import { labelled } from "../datastore/labelled.ts";
import { badInput } from "./command.ts";
import type { Found } from "./found.ts";

/** Which of the objects found are shown, and in which order. */
export interface Choice {
  matches(resource: Resource): boolean;
  /** Column or path to sort by; undefined = the order in which they were found. */
  sortBy: string | undefined;
}

/** @throws Problem "bad-input" for a selector that cannot be read. */
export const choiceOf = (selector: string | undefined, sortBy: string | undefined): Choice => ({
  matches: labelled(selector),
  sortBy,
});

/** What was found, without what is not chosen, in order. */
export function chosen(found: Found, choice: Choice): Found {
  const items = found.items.filter(choice.matches);
  if (choice.sortBy === undefined) return { ...found, items };
  const value = sortValue(found.kind, choice.sortBy);
  return { ...found, items: items.toSorted((a, b) => compare(value(a), value(b))) };
}

/** Numbers by size and before texts, which go by their letters; what is absent comes last. */
function compare(a: unknown, b: unknown): number {
  const rank = (
    value: unknown,
  ) => (value === undefined || value === null || value === "" ? 2 : isNumber(value) ? 0 : 1);
  if (rank(a) !== rank(b)) return rank(a) - rank(b);
  if (rank(a) === 0) return Number(a) - Number(b);
  return String(a ?? "") < String(b ?? "") ? -1 : String(a ?? "") > String(b ?? "") ? 1 : 0;
}

const isNumber = (value: unknown): boolean => value !== "" && Number.isFinite(Number(value));

/** @throws Problem "bad-input" for a word that is neither a column of the kind nor a path. */
function sortValue(kind: Kind, by: string): (resource: Resource) => unknown {
  const column = kind.columns.find((c) => c.head === by.toUpperCase());
  if (column) return (resource) => column.value(resource, { asNumber: 0 });
  if (by.toUpperCase() === "NAME") return (resource) => resource.metadata.name;
  if (by.toUpperCase() === "NAMESPACE") return (resource) => resource.metadata.namespace;
  const path = by.replace(/^\./, "").split(".");
  if (["metadata", "spec", "status"].includes(path[0]!)) return (resource) => at(resource, path);
  const heads = ["NAME", ...kind.columns.map((c) => c.head).filter((head) => head !== "NAME")].join(", ");
  throw badInput(`cannot sort by ${by}: neither a column (${heads}) nor a path such as metadata.creationTimestamp`);
}

const at = (value: unknown, path: string[]): unknown =>
  path.reduce((v: unknown, name) => (isObject(v) ? v[name] : undefined), value);
