import { nearest } from "../lib/nearest.ts";
import { Problem } from "../lib/problem.ts";
import { metadataFields } from "./codec.ts";
import type { Kind } from "./kind.ts";
import type { Field } from "./schema/schema.ts";

/**
 * @param paths JSON paths of members that the kind does not know. @param where the document, for people.
 * @throws Problem "bad-input" when there are any; its `fields` say what was probably meant.
 */
export function refuseUnknown(kind: Kind, paths: string[], where?: string): void {
  if (paths.length === 0) return;
  const names = [...new Set(paths.map((path) => path.split(".").at(-1)!))];
  throw new Problem({
    code: "bad-input",
    what: `field in document is not recognized or is in the wrong location: ${names.join(", ")}`,
    fields: paths.map((path) => ({ field: where ? `${where}: ${path}` : path, reason: meant(kind, path) })),
  });
}

/** What was probably meant by a member that is not known: one of those at its place, or the same name elsewhere. */
function meant(kind: Kind, path: string): string {
  const parts = path.replaceAll(/\[\d+\]/g, "").split(".");
  const isMetadata = parts[0] === "metadata";
  const here = parts.slice(isMetadata ? 1 : 0, -1).reduce(
    (field: Field | undefined, name) => (field?.item ?? field)?.members?.[name],
    isMetadata ? metadataFields : kind.fields,
  );
  const members = Object.keys((here?.item ?? here)?.members ?? {});
  const guess = nearest(parts.at(-1)!, members);
  return guess ? `did you mean "${guess}"?` : `known here: ${members.join(", ") || "nothing"}`;
}
