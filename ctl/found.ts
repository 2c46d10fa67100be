import type { Kind, Resource } from "../datastore/kind.ts";

/** What was found: one object, or all of a kind. */
export interface Found {
  kind: Kind;
  items: Resource[];
  /** A list's revision; undefined for one object. */
  revision?: bigint;
}
