import { type FieldProblem, Problem } from "../lib/problem.ts";

/** How messages name an object: `IPPool(main)`, `NetworkPolicy(shop/allow-web)`. */
export const identify = (kind: string, name: string, namespace?: string): string =>
  `${kind}(${namespace ? `${namespace}/` : ""}${name})`;

/** Calico: ErrorResourceDoesNotExist. */
export const doesNotExist = (id: string): Problem =>
  new Problem({ code: "not-found", what: `resource does not exist: ${id} with error: <nil>` });

/** Calico: ErrorResourceAlreadyExists. */
export const alreadyExists = (id: string, why = "<nil>"): Problem =>
  new Problem({ code: "exists", what: `resource already exists: ${id} with error: ${why}` });

/** Calico: ErrorResourceUpdateConflict. */
export const updateConflict = (id: string): Problem =>
  new Problem({ code: "conflict", what: `update conflict: ${id}` });

/** Calico: ErrorOperationNotSupported. */
export const notSupported = (operation: string, id: string, reason?: string): Problem =>
  new Problem({
    code: "unsupported",
    what: `operation ${operation} is not supported on ${id}${reason ? `: ${reason}` : ""}`,
  });

/** A kind with one object only was asked for another name. @param what "a Cluster Information". */
export const onlyNamed = (what: string, name: string): Problem =>
  new Problem({ code: "bad-input", what: `Cannot create ${what} resource with a name other than "${name}"` });

/** Calico: ErrorInsufficientIdentifiers. */
export const insufficient = (name: string): Problem =>
  new Problem({ code: "insufficient", what: `insufficient identifiers, missing '${name}'` });

/** Calico: ErrorValidation. One field is told in a sentence, several as a list. */
export function invalid(fields: FieldProblem[]): Problem {
  const what = fields.length === 1
    ? `error with field ${fieldText(fields[0]!)}`
    : `error with the following fields:\n${fields.map((f) => `-  ${fieldText(f)}\n`).join("")}`;
  return new Problem({ code: "validation", what, fields });
}

/** `name = 'value' (reason)`, without the value when there is none. */
function fieldText({ field, value, reason }: FieldProblem): string {
  const told = value === undefined ? "" : ` = '${valueText(value)}'`;
  return `${field}${told}${reason ? ` (${reason})` : ""}`;
}

/** A value as Go prints it with %v, as far as the values of fields need: lists in brackets. */
function valueText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(valueText).join(" ")}]`;
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
}
