import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { parseKey } from "../../datastore/keys.ts";
import type { Changes } from "../../datastore/mirror.ts";
import type { GraphChange } from "./graph.ts";
import { isUsed } from "./inputs.ts";

/** Changes for the calculation, and keys of its kinds whose values are no resource at all, with the reason. */
export interface ReadChanges {
  changes: GraphChange[];
  broken: Map<string, string>;
}

/**
 * Reads a step of the mirror. An object is called as its key says, so that a delete finds what a put made. A value that is
 * no resource is left out: its last good version stays in force.
 */
export function readChanges({ set, deleted }: Pick<Changes, "set" | "deleted">): ReadChanges {
  const changes: GraphChange[] = [];
  const broken = new Map<string, string>();
  for (const kv of set) {
    const name = nameOf(kv.key);
    if (!name) continue;
    const resource = decodeResource(kv);
    if (!resource) continue;
    if (isUndecodable(resource)) broken.set(kv.key, resource.why);
    else changes.push({ set: { ...resource, kind: name.kind, metadata: { ...resource.metadata, ...name.metadata } } });
  }
  for (const key of deleted) {
    const name = nameOf(key);
    if (name) changes.push({ delete: name });
  }
  return { changes, broken };
}

function nameOf(key: string): { kind: string; metadata: { name: string; namespace?: string } } | undefined {
  const parsed = parseKey(key);
  if (parsed?.is !== "resource" || !isUsed(parsed.kind)) return undefined;
  const { kind, name, namespace } = parsed;
  return { kind, metadata: namespace ? { name, namespace } : { name } };
}
