import { isObject, type Json, sameJson } from "./json64.ts";

/**
 * Lays a patch over a value: RFC 7386, which for Calico's objects is what Kubernetes' strategic merge does, as no list of
 * theirs has a merge key. null removes a member.
 */
export function merge(target: Json, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const result: Record<string, Json> = isObject(target) ? { ...target } : {};
  for (const [member, value] of Object.entries(patch)) {
    if (value === null) delete result[member];
    else result[member] = merge(result[member] ?? null, value);
  }
  return result;
}

/** The patch that turns `before` into `after`; undefined when they are equal. */
export function patchBetween(before: Json, after: Json): Json | undefined {
  if (sameJson(before, after)) return undefined;
  if (!isObject(before) || !isObject(after)) return after;
  const patch: Record<string, Json> = {};
  for (const member of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const change = member in after ? patchBetween(before[member] ?? null, after[member]!) : null;
    if (change !== undefined) patch[member] = change;
  }
  return patch;
}

/** Paths that two patches both change, such as `spec.selector`. */
export function conflicts(one: Json, other: Json, path = ""): string[] {
  if (!isObject(one) || !isObject(other)) return sameJson(one, other) ? [] : [path];
  return Object.keys(one).filter((member) => member in other)
    .flatMap((member) => conflicts(one[member]!, other[member]!, path ? `${path}.${member}` : member));
}
