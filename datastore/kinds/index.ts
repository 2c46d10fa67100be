import { Problem } from "../../lib/problem.ts";
import type { Kind } from "../kind.ts";

/** All kinds, in the order in which `ctl get all` and exports show them. */
export const kinds: readonly Kind[] = [];

const byName = new Map(kinds.map((k) => [k.kind, k]));
const byPlural = new Map(kinds.map((k) => [k.plural, k]));

/** The kind called `name` ("IPPool"). @throws Problem "unsupported" for a name that is none. */
export function kindByName(name: string): Kind {
  const kind = byName.get(name);
  if (!kind) throw new Problem({ code: "unsupported", what: `"${name}" is not a kind of resource` });
  return kind;
}

/** The kind whose keys lie below `plural` ("ippools"), exactly so written. */
export const kindByPlural = (plural: string): Kind | undefined => byPlural.get(plural);
