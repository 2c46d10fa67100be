import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { parseKey } from "../../datastore/keys.ts";
import type { Changes } from "../../datastore/mirror.ts";
import { closedPolicy } from "./closed_policy.ts";
import type { GraphChange } from "./graph.ts";
import { isUsed } from "./inputs.ts";
import { closedNetworkSet } from "./partial_sets.ts";

/** Changes for the calculation, and keys of its kinds whose values are no resource at all, with the reason. */
export interface ReadChanges {
  changes: GraphChange[];
  broken: Map<string, string>;
}

/**
 * Reads the steps of a mirror. An object is called as its key says, so that a delete finds what a put made. A value that is
 * no resource is left out: its last good version stays in force. A policy or network set that has none is closed as far as it
 * cannot be read.
 */
export class ChangeReader {
  /** Keys that had a value which could be read. */
  readonly #good = new Set<string>();

  read({ set, deleted }: Pick<Changes, "set" | "deleted">): ReadChanges {
    const changes: GraphChange[] = [];
    const broken = new Map<string, string>();
    for (const kv of set) {
      const name = nameOf(kv.key);
      if (!name) continue;
      const resource = decodeResource(kv);
      if (!resource) continue;
      if (!isUndecodable(resource)) {
        this.#good.add(kv.key);
        changes.push({ set: { ...resource, kind: name.kind, metadata: { ...resource.metadata, ...name.metadata } } });
        continue;
      }
      const closed = this.#good.has(kv.key)
        ? undefined
        : closedPolicy(name, kv.value) ?? closedNetworkSet(name, kv.value);
      if (closed) changes.push({ set: closed });
      const meaning = name.kind.endsWith("NetworkSet")
        ? "rules that deny by it deny whatever the source or destination"
        : "its rules that cannot be read deny, or allow nothing";
      broken.set(kv.key, closed ? `${resource.why}; it has no good version: ${meaning}` : resource.why);
    }
    for (const key of deleted) {
      const name = nameOf(key);
      this.#good.delete(key);
      if (name) changes.push({ delete: name });
    }
    return { changes, broken };
  }
}

function nameOf(key: string): { kind: string; metadata: { name: string; namespace?: string } } | undefined {
  const parsed = parseKey(key);
  if (parsed?.is !== "resource" || !isUsed(parsed.kind)) return undefined;
  const { kind, name, namespace } = parsed;
  return { kind, metadata: namespace ? { name, namespace } : { name } };
}
