import { silentLog } from "../lib/log.ts";
import type { Resource } from "../datastore/kind.ts";
import { doesNotExist, identify } from "../datastore/problems.ts";
import type { Resources } from "../datastore/resources.ts";
import { Allocator } from "../ipam/commit.ts";
import { removeNode, removePool } from "../ipam/removal.ts";
import { coldReader } from "../ipam/view.ts";
import type { Surroundings } from "./surroundings.ts";

/** Deletes an object. A pool or node gives up its blocks first, and a node takes what is only about it along. */
export async function removeResource(
  resources: Resources,
  surroundings: Surroundings,
  { kind, metadata }: Resource,
): Promise<void> {
  const { name, namespace, resourceVersion } = metadata;
  if (name === "") throw doesNotExist(identify(kind, "", namespace));
  if (kind === "IPPool" || kind === "Node") {
    await using allocator = allocatorOf(resources, surroundings);
    if (kind === "Node") return await removeNode(resources, allocator, name);
    return await removePool(resources, allocator, name, surroundings.clock);
  }
  await resources.delete(kind, name, namespace, resourceVersion);
}

/** An allocator for one command: it reads afresh and says nothing. */
export function allocatorOf(resources: Resources, surroundings: Surroundings): Allocator {
  const { store } = resources;
  const { clock, random } = surroundings;
  return new Allocator({ store, reader: () => coldReader(store), clock, random, log: silentLog });
}
