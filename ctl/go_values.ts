import { isObject } from "../lib/json64.ts";
import { goFloat } from "../datastore/columns.ts";
import { goNameOf } from "../datastore/schema/fields.ts";
import type { Kind, Resource } from "../datastore/kind.ts";
import type { Field } from "../datastore/schema/schema.ts";
import { badInput } from "./command.ts";
import type { Found } from "./found.ts";

/** A value as a Go template sees it: members by their Go names, zero values for what is absent. */
export type GoValue =
  | { is: "nil" }
  | { is: "scalar"; value: string | number | bigint | boolean; float?: boolean }
  | { is: "list"; items: GoValue[] }
  | { is: "map"; entries: [string, GoValue][] }
  | { is: "struct"; member(name: string): GoValue | undefined };

const nil: GoValue = { is: "nil" };

/** A plain value: text, number or truth. */
export const scalarOf = (value: string | number | bigint | boolean): GoValue => ({ is: "scalar", value });

/** What `get` found, as calicoctl gives it to a template: a slice of objects and lists. */
export const resultsOf = (found: Found[]): GoValue => ({
  is: "list",
  items: found.map(({ kind, items, revision }) =>
    revision === undefined ? resourceOf(kind, items[0]!) : structOf({
      Kind: scalarOf(`${kind.kind}List`),
      APIVersion: scalarOf("projectcalico.org/v3"),
      ResourceVersion: scalarOf(String(revision)),
      Items: { is: "list", items: items.map((item) => resourceOf(kind, item)) },
    })
  ),
});

function resourceOf(kind: Kind, resource: Resource): GoValue {
  const metadata = metadataOf(resource.metadata);
  const own: Record<string, GoValue> = {
    Kind: scalarOf(resource.kind),
    APIVersion: scalarOf(resource.apiVersion),
    ObjectMeta: metadata,
    Spec: valueOf(kind.fields.members?.spec, resource.spec),
  };
  if (kind.fields.members?.status) own.Status = valueOf(kind.fields.members.status, resource.status);
  return { is: "struct", member: (name) => own[name] ?? memberOf(metadata, name) };
}

function metadataOf(metadata: Resource["metadata"]): GoValue {
  const text = (value: unknown) => scalarOf(String(value ?? ""));
  const pairs = (map: Record<string, string> = {}): GoValue => ({
    is: "map",
    entries: Object.entries(map).sort().map(([k, v]) => [k, scalarOf(v)]),
  });
  return structOf({
    Name: text(metadata.name),
    GenerateName: text(metadata.generateName),
    Namespace: text(metadata.namespace),
    UID: text(metadata.uid),
    ResourceVersion: text(metadata.resourceVersion),
    CreationTimestamp: text(metadata.creationTimestamp),
    Labels: pairs(metadata.labels),
    Annotations: pairs(metadata.annotations),
  });
}

const structOf = (members: Record<string, GoValue>): GoValue => ({ is: "struct", member: (name) => members[name] });

/** A stored value by its field's table. */
function valueOf(field: Field | undefined, value: unknown): GoValue {
  if (value === undefined || value === null) {
    return field && field.presence !== "given" ? valueOf(undefined, field.blank()) : nil;
  }
  if (Array.isArray(value)) return { is: "list", items: value.map((v) => valueOf(field?.item, v)) };
  if (isObject(value)) {
    if (field?.members) return tableOf(field.members, value);
    return { is: "map", entries: Object.entries(value).sort().map(([k, v]) => [k, valueOf(field?.item, v)]) };
  }
  return { is: "scalar", value: value as string | number | bigint | boolean, float: field?.float };
}

function tableOf(members: Record<string, Field>, value: Record<string, unknown>): GoValue {
  const byGoName = new Map(
    Object.entries(members).map(([k, field]) => [field.goName ?? goNameOf(k), [k, field]] as const),
  );
  return {
    is: "struct",
    member(name) {
      const row = byGoName.get(name);
      return row && valueOf(row[1], value[row[0]]);
    },
  };
}

/** A member by its Go name, or a map's value. @throws Problem "bad-input" for a name that a struct has not. */
export function memberOf(of: GoValue, name: string): GoValue {
  if (of.is === "map") return of.entries.find(([k]) => k === name)?.[1] ?? nil;
  const member = of.is === "struct" ? of.member(name) : undefined;
  if (member) return member;
  throw badInput(`template: can't evaluate field ${name} in a value that is ${of.is}`);
}

/** Go's truth: not nil, zero, false or empty. */
export function isTrue(value: GoValue): boolean {
  if (value.is === "list") return value.items.length > 0;
  if (value.is === "map") return value.entries.length > 0;
  return value.is === "struct" || value.is === "scalar" && !!value.value;
}

/** A value as Go prints it with %v. */
export function printed(value: GoValue): string {
  switch (value.is) {
    case "nil":
      return "<nil>";
    case "scalar":
      return value.float ? goFloat(Number(value.value)) : String(value.value);
    case "list":
      return `[${value.items.map(printed).join(" ")}]`;
    case "map":
      return `map[${value.entries.map(([k, v]) => `${k}:${printed(v)}`).join(" ")}]`;
    case "struct":
      throw badInput("template: an object cannot be printed whole; name one of its fields");
  }
}
