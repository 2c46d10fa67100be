import { commitRehearsed, type Signature } from "../../datastore/commit.ts";
import type { Rehearsal } from "../../datastore/rehearsal.ts";
import { Problem } from "../../lib/problem.ts";
import { identify } from "../../datastore/problems.ts";
import type { Store } from "../../datastore/store.ts";
import { protectLabel } from "./proposal.ts";

/** Kinds of which a protection consists. */
const kinds = ["HostEndpoint", "GlobalNetworkPolicy", "FelixConfiguration"];

/**
 * Removes everything that bears a node's protection label, all at once, so that no policy goes before its endpoint.
 * @returns the objects' names. @throws Problem "conflict" when the datastore changed meanwhile.
 */
export async function removeProtection(
  store: Store,
  rehearsal: Rehearsal,
  node: string,
  signature: Signature,
): Promise<string[]> {
  const { resources } = rehearsal, removed: string[] = [];
  for (const kind of kinds) {
    for (const { metadata } of (await resources.list(kind)).items) {
      if (metadata.labels?.[protectLabel] !== node) continue;
      await resources.delete(kind, metadata.name);
      removed.push(identify(kind, metadata.name));
    }
  }
  if (removed.length === 0 || await commitRehearsed(store, rehearsal, signature) !== undefined) return removed;
  throw new Problem({
    code: "conflict",
    what: "the datastore changed meanwhile: nothing was removed",
    todo: "Try again",
  });
}
