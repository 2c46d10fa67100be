import { createHash } from "node:crypto";
import type { Node } from "./parse.ts";

/**
 * The one text of a tree: selectors with equal text are equal. Groups always stand in parentheses, sets are sorted.
 * It parses to the same text, but for a doubly negated group: `!(!(x))` is `!!x` as with Calico, which reads as `x`.
 * Source: Calico's libcalico-go/lib/selector/parser, Selector.String.
 */
export function canonicalText(node: Node): string {
  switch (node.is) {
    case "all":
    case "global":
      return `${node.is}()`;
    case "has":
      return `has(${node.label})`;
    case "value":
      return `${node.label} ${node.operator} ${quoted(node.value)}`;
    case "set":
      return `${node.label} ${node.operator} {${node.values.map(quoted).join(", ")}}`;
    case "not":
      return `!${canonicalText(node.operand)}`;
    case "and":
      return `(${node.operands.map(canonicalText).join(" && ")})`;
    case "or":
      return `(${node.operands.map(canonicalText).join(" || ")})`;
  }
}

/** A string of the language holds no quote of its own kind, so one of the two always fits. */
const quoted = (value: string): string => (value.includes('"') ? `'${value}'` : `"${value}"`);

/**
 * `<prefix>:` + unpadded base64url of SHA-224 over `<prefix>:<content>`: the id of selectors ("s") and other IP sets, from
 * which kernel set names derive. Web Crypto has no SHA-224. Importing node:crypto costs 25 ms where nothing else has done so (gRPC has).
 * Source: Calico's libcalico-go/lib/hash, MakeUniqueID.
 */
export function uniqueId(prefix: string, content: string): string {
  return `${prefix}:${createHash("sha224").update(`${prefix}:${content}`).digest("base64url")}`;
}

/**
 * The tree with `prefix` before every label name, as namespace (`pcns.`) and service account (`pcsa.`) selectors are
 * applied to the labels that profiles hand down.
 */
export function prefixLabels(node: Node, prefix: string): Node {
  switch (node.is) {
    case "all":
    case "global":
      return node;
    case "not":
      return { is: "not", operand: prefixLabels(node.operand, prefix) };
    case "and":
    case "or":
      return { is: node.is, operands: node.operands.map((n) => prefixLabels(n, prefix)) };
    default:
      return { ...node, label: prefix + node.label };
  }
}
