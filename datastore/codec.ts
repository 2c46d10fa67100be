import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { always, flag, given, integer64, list, map, object, text } from "./schema/fields.ts";
import { apiVersion, type Kind, type Metadata, type Resource } from "./kind.ts";
import { kindByName } from "./kinds/index.ts";
import { parseKey } from "./keys.ts";
import type { KeyValue } from "./store.ts";

/** A stored value that could not be read. It stands for itself only: everything else goes on. */
export interface Undecodable {
  readonly undecodable: true;
  readonly key: string;
  /** What is wrong, and where in the value: `spec.cidr: not a string`. */
  readonly why: string;
  readonly revision: bigint;
}

/** True for what decodeResource() could not read. */
export const isUndecodable = (value: object): value is Undecodable => "undecodable" in value;

/** Annotation that holds a policy's name, as JSON in text. */
export const policyNameAnnotation = "projectcalico.org/metadata";

/** Kubernetes' ObjectMeta in the order in which it is written. */
export const metadataFields = object({
  name: always(text()),
  generateName: text(),
  namespace: text(),
  selfLink: text(),
  uid: text(),
  resourceVersion: text(),
  generation: integer64(),
  creationTimestamp: text(),
  deletionTimestamp: text(),
  deletionGracePeriodSeconds: integer64(),
  labels: map(text()),
  annotations: map(text()),
  ownerReferences: list(object({
    apiVersion: always(text()),
    kind: always(text()),
    name: always(text()),
    uid: always(text()),
    controller: given(flag()),
    blockOwnerDeletion: given(flag()),
  })),
  finalizers: list(text()),
});

/**
 * Reads a stored resource, tolerantly: unknown members stay, types are checked, meaning is not. `metadata.resourceVersion`
 * is the key's revision; a policy's name comes from its annotation.
 * @returns undefined when the key is not a resource's.
 * Source: Calico libcalico-go/lib/backend/model/keys.go, ParseValue and determinePolicyName.
 */
export function decodeResource(kv: Pick<KeyValue, "key" | "value" | "revision">): Resource | Undecodable | undefined {
  const key = parseKey(kv.key);
  if (key?.is !== "resource") return undefined;
  const unreadable = (why: string): Undecodable => ({ undecodable: true, key: kv.key, why, revision: kv.revision });
  let value: Json;
  try {
    value = parseJson(kv.value);
  } catch (error) {
    if (error instanceof SyntaxError) return unreadable(error.message);
    throw error;
  }
  const kind = kindByName(key.kind);
  const read = readResource(kind, value);
  if (typeof read === "string") return unreadable(read);
  const { metadata } = read;
  metadata.name ||= key.name;
  if (kind.namespaced) metadata.namespace ||= key.namespace;
  metadata.resourceVersion = kv.revision.toString();
  const why = kind.isPolicy ? renamePolicy(read) : undefined;
  return why === undefined ? read : unreadable(why);
}

/**
 * Reads a parsed JSON value as an object of a kind, in place: canonical scalars, `always` members filled in.
 * @returns the object, or what is wrong with it, several things joined by "; ".
 */
export function readResource<R extends Resource>(kind: Kind<R>, value: Json): R | string {
  if (!isObject(value)) return "not a JSON object";
  const wrong: string[] = [];
  const mismatch = (path: string, wanted: string, found: unknown) =>
    wrong.push(`${path}: ${typeName(found)} cannot be read as ${wanted}`);
  const members = value as Record<string, unknown>;
  const { metadata = {}, ...rest } = members;
  members.metadata = metadataFields.read(metadata ?? {}, "metadata", mismatch);
  Object.assign(members, kind.fields.read(rest, "", mismatch));
  members.kind = kind.kind;
  members.apiVersion = apiVersion;
  return wrong.length > 0 ? wrong.join("; ") : members as unknown as R;
}

/** JSON paths of members that neither the metadata nor the kind knows. */
export function unknownMembers(kind: Kind, resource: Resource): string[] {
  const { metadata, kind: _, apiVersion: __, ...rest } = resource;
  return [...metadataFields.unknown(metadata, "metadata"), ...kind.fields.unknown(rest, "")];
}

/**
 * A resource as it is written: members in Calico's order, empty ones left out as Go's client leaves them out, unknown
 * ones kept, without resourceVersion and selfLink. @param shown true for output to users, which keeps resourceVersion.
 */
export function shapeResource(resource: Resource, shown = false): Record<string, unknown> {
  const { kind: kindName, apiVersion: _, metadata, ...rest } = resource;
  const { resourceVersion, selfLink: __, ...kept } = metadata;
  return {
    kind: kindName,
    apiVersion,
    metadata: metadataFields.write(shown ? { ...kept, resourceVersion } : kept),
    ...kindByName(kindName).fields.write(rest) as Record<string, unknown>,
  };
}

/** The value to store for a resource. Policies get the annotation that holds their name. */
export function encodeResource(resource: Resource): string {
  const { metadata } = resource;
  if (!kindByName(resource.kind).isPolicy) return writeJson(shapeResource(resource));
  const annotations = { ...metadata.annotations, [policyNameAnnotation]: writeJson({ name: metadata.name }) };
  return writeJson(shapeResource({ ...resource, metadata: { ...metadata, annotations } }));
}

/**
 * Gives a policy the name in its annotation, which is removed; without one, a policy of the default tier loses a leading
 * `default.`, which Calico up to 3.31 wrote. @returns what is wrong with the annotation.
 */
function renamePolicy({ metadata, spec }: Resource): string | undefined {
  const annotation = metadata.annotations?.[policyNameAnnotation];
  if (annotation) {
    const name = nameIn(annotation);
    if (name === undefined) return `metadata.annotations.${policyNameAnnotation}: not a JSON object with a name`;
    if (name !== "") metadata.name = name;
    removeAnnotation(metadata);
  } else if (!spec.tier || spec.tier === "default") {
    metadata.name = metadata.name.replace(/^default\./, "");
  }
  return undefined;
}

function removeAnnotation(metadata: Metadata): void {
  const { [policyNameAnnotation]: _, ...others } = metadata.annotations ?? {};
  if (Object.keys(others).length > 0) metadata.annotations = others;
  else delete metadata.annotations;
}

/** The name in a policy's annotation; "" when it says none; undefined when it cannot be read. */
function nameIn(annotation: string): string | undefined {
  try {
    const value = parseJson(annotation);
    if (!isObject(value)) return undefined;
    const name = value.name ?? "";
    return typeof name === "string" ? name : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function typeName(value: unknown): string {
  if (Array.isArray(value)) return "array";
  return typeof value === "object" ? "object" : typeof value === "bigint" ? "number" : typeof value;
}
