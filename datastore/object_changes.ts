import { decodeResource, isUndecodable } from "./codec.ts";
import type { Resource } from "./kind.ts";
import { kindByName } from "./kinds/index.ts";
import type { Event } from "./store.ts";

/** A change of an object that somebody follows. One that is deleted, or not chosen any more, comes as it was last. */
export type ObjectChange =
  | { is: "added" | "modified" | "deleted"; resource: Resource }
  | { is: "unreadable"; key: string; why: string };

/**
 * What an event of the store means to one who follows some objects.
 * @param objects those that are known, by key; it is brought up to date. @param matches which objects are followed.
 * @returns undefined for an object that is not followed.
 */
export function takeEvent(
  objects: Map<string, Resource>,
  { key, value, revision }: Event,
  matches: (resource: Resource) => boolean,
): ObjectChange | undefined {
  const before = objects.get(key);
  const gone = (): ObjectChange | undefined => before && { is: "deleted", resource: before };
  if (value === undefined) {
    objects.delete(key);
    return gone();
  }
  const resource = decodeResource({ key, value, revision });
  if (!resource || isUndecodable(resource)) return { is: "unreadable", key, why: resource?.why ?? "no resource" };
  kindByName(resource.kind).onRead(resource, "list");
  if (!matches(resource)) {
    objects.delete(key);
    return gone();
  }
  objects.set(key, resource);
  return { is: before ? "modified" : "added", resource };
}
