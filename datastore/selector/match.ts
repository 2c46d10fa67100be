import type { Node, ValueOperator } from "./parse.ts";

/** Labels as a lookup (a Map will do) or as a plain record, of which only own members count. */
export type Labels = { get(name: string): string | undefined } | Record<string, string>;

/** A tree as a function of a label lookup. */
export type Predicate = (get: (name: string) => string | undefined) => boolean;

/**
 * Compiles a tree once, so that matching costs no look at the tree. `!=` and `not in` hold for an absent label; `has`
 * holds for an empty value; global() always holds here.
 * Source: Calico's libcalico-go/lib/selector/parser, Evaluate.
 */
export function compile(node: Node): Predicate {
  switch (node.is) {
    case "all":
    case "global":
      return () => true;
    case "has":
      return (get) => get(node.label) !== undefined;
    case "value":
      return compileValue(node.label, node.operator, node.value);
    case "set":
      return compileSet(node.label, node.operator, new Set(node.values));
    case "not": {
      const operand = compile(node.operand);
      return (get) => !operand(get);
    }
    case "and": {
      const operands = node.operands.map(compile);
      return (get) => operands.every((holds) => holds(get));
    }
    case "or": {
      const operands = node.operands.map(compile);
      return (get) => operands.some((holds) => holds(get));
    }
  }
}

function compileValue(label: string, operator: ValueOperator, value: string): Predicate {
  switch (operator) {
    case "==":
      return (get) => get(label) === value;
    case "!=":
      return (get) => get(label) !== value;
    case "contains":
      return (get) => get(label)?.includes(value) ?? false;
    case "starts with":
      return (get) => get(label)?.startsWith(value) ?? false;
    case "ends with":
      return (get) => get(label)?.endsWith(value) ?? false;
  }
}

function compileSet(label: string, operator: "in" | "not in", values: Set<string>): Predicate {
  const absent = operator === "not in";
  return (get) => {
    const value = get(label);
    return value === undefined ? absent : values.has(value) !== absent;
  };
}

/** The lookup of either form of labels. */
export function lookup(labels: Labels): (name: string) => string | undefined {
  if (isLookup(labels)) return (name) => labels.get(name);
  return (name) => (Object.hasOwn(labels, name) ? labels[name] : undefined);
}

/** A record may have a label called `get`, whose value is a string. */
function isLookup(labels: Labels): labels is { get(name: string): string | undefined } {
  return typeof labels.get === "function";
}
