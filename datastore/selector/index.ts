import { canonicalText, prefixLabels, uniqueId } from "./canonical.ts";
import { compile, type Labels, lookup } from "./match.ts";
import { type Node, parseTree } from "./parse.ts";
import { canMatch, type Restrictions, restrictionsOf } from "./restrictions.ts";

/** A parsed label selector. Two selectors are equal when their `text`, or their `id`, are. */
export interface Selector {
  /** Canonical text. */
  readonly text: string;
  /** `s:` + base64url hash of the text; calculated when first asked for. */
  readonly id: string;
  /** The tree, for who looks for `global()` or for single conditions. */
  readonly root: Node;
  /** True when `labels` satisfy the selector. */
  matches(labels: Labels): boolean;
  /** What every match must have, per label; calculated at each call. */
  restrictions(): Restrictions;
  /** False when no labels at all can match. */
  canMatch(): boolean;
  /** The same condition on labels that are called `prefix` + name. */
  withPrefix(prefix: string): Selector;
}

/**
 * Parses a label selector; empty or blank text is `all()`.
 * @throws Problem "bad-input" that quotes the text and tells the position, counted from 1.
 * @example parseSelector("a == 'b' && has(c)").text // (a == "b" && has(c))
 */
export function parseSelector(text: string): Selector {
  return selectorOf(parseTree(text));
}

/** The selector of a tree that was made by hand or taken from another selector. */
export function selectorOf(root: Node): Selector {
  const text = canonicalText(root);
  const holds = compile(root);
  let id: string | undefined;
  return {
    text,
    root,
    get id() {
      return id ??= uniqueId("s", text);
    },
    matches: (labels) => holds(lookup(labels)),
    restrictions: () => restrictionsOf(root),
    canMatch: () => canMatch(restrictionsOf(root)),
    withPrefix: (prefix) => selectorOf(prefixLabels(root, prefix)),
  };
}
