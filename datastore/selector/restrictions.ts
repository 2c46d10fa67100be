import type { Node } from "./parse.ts";

/**
 * What every match must have of one label. `values` undefined = any value; an empty set = no value can satisfy it.
 * Source: Calico's libcalico-go/lib/selector/parser, LabelRestriction.
 */
export interface Restriction {
  present: boolean;
  absent: boolean;
  values: ReadonlySet<string> | undefined;
}

/** Restrictions by label name: necessary conditions of a match, never sufficient ones. An index looks here first. */
export type Restrictions = ReadonlyMap<string, Restriction>;

/** The restrictions of a tree; empty when nothing is known. */
export function restrictionsOf(node: Node): Restrictions {
  switch (node.is) {
    case "has":
      return one(node.label, { present: true, absent: false, values: undefined });
    case "value":
      return node.operator === "!=" ? none : one(node.label, {
        present: true,
        absent: false,
        values: node.operator === "==" ? new Set([node.value]) : undefined,
      });
    case "set":
      return node.operator === "not in"
        ? none
        : one(node.label, { present: true, absent: false, values: new Set(node.values) });
    case "not":
      return node.operand.is === "has"
        ? one(node.operand.label, { present: false, absent: true, values: undefined })
        : none;
    case "and":
      return node.operands.map(restrictionsOf).reduce(both);
    case "or":
      return node.operands.map(restrictionsOf).reduce(either);
    default:
      return none;
  }
}

/** False when a label must be present and absent, or has no value left: no labels can match. */
export function canMatch(restrictions: Restrictions): boolean {
  return [...restrictions.values()].every((r) => !(r.present && r.absent) && r.values?.size !== 0);
}

const none: Restrictions = new Map();
const one = (label: string, restriction: Restriction): Restrictions => new Map([[label, restriction]]);

function both(a: Restrictions, b: Restrictions): Restrictions {
  const merged = new Map(a);
  for (const [label, r] of b) {
    const other = merged.get(label);
    merged.set(label, other ? { ...flags(other, r, true), values: intersect(other.values, r.values) } : r);
  }
  return merged;
}

function either(a: Restrictions, b: Restrictions): Restrictions {
  const merged = new Map<string, Restriction>();
  for (const [label, r] of a) {
    const other = b.get(label);
    if (!other) continue;
    const flag = flags(r, other, false);
    const values = flag.present && r.values && other.values ? new Set([...r.values, ...other.values]) : undefined;
    if (flag.present || flag.absent) merged.set(label, { ...flag, values });
  }
  return merged;
}

function flags(a: Restriction, b: Restriction, and: boolean): { present: boolean; absent: boolean } {
  return and
    ? { present: a.present || b.present, absent: a.absent || b.absent }
    : { present: a.present && b.present, absent: a.absent && b.absent };
}

function intersect(a: ReadonlySet<string> | undefined, b: ReadonlySet<string> | undefined) {
  if (!a || !b) return a ?? b;
  return new Set([...a].filter((value) => b.has(value)));
}
