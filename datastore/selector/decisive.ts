import { canonicalText } from "./canonical.ts";
import { compile, type Labels, lookup } from "./match.ts";
import type { Node } from "./parse.ts";

/** A condition of a selector, and what the labels say of it. */
export interface Term {
  /** Canonical text, with a `!` in front where it stands under a negation. */
  text: string;
  /** The label's value; undefined when it is absent, or when the condition names no label. */
  label?: string;
  value?: string;
}

/**
 * Why labels satisfy a selector, or do not: the conditions that decide. Of `a && b` that holds these are both, of one that
 * does not hold the first that fails; of `a || b` the first that holds, or all that fail.
 */
export function decisiveTerms(root: Node, labels: Labels): { holds: boolean; terms: Term[] } {
  const get = lookup(labels);
  const decide = (node: Node, negated: boolean): Term[] => {
    switch (node.is) {
      case "not":
        return decide(node.operand, !negated);
      case "and":
      case "or": {
        const parts = node.operands.map((o) => ({ node: o, holds: compile(o)(get) }));
        const settles = node.is === "or";
        const first = parts.find((p) => p.holds === settles);
        return (first ? [first] : parts).flatMap((p) => decide(p.node, negated));
      }
      default: {
        const text = `${negated ? "!" : ""}${canonicalText(node)}`;
        return "label" in node ? [{ text, label: node.label, value: get(node.label) }] : [{ text }];
      }
    }
  };
  return { holds: compile(root)(get), terms: decide(root, false) };
}

/** A term in words: `app == "web" (app is "db")`, `has(x) (no label x)`. */
export function termText({ text, label, value }: Term): string {
  if (label === undefined) return text;
  return `${text} (${value === undefined ? `no label ${label}` : `${label} is ${JSON.stringify(value)}`})`;
}
