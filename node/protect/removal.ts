import { commitRehearsed, type Signature } from "../../datastore/commit.ts";
import type { Rehearsal } from "../../datastore/rehearsal.ts";
import { Problem } from "../../lib/problem.ts";
import { identify } from "../../datastore/problems.ts";
import type { Store } from "../../datastore/store.ts";
import { protectLabel, withoutProtection } from "./proposal.ts";

/** Kinds of which a protection consists. */
const kinds = ["HostEndpoint", "GlobalNetworkPolicy", "FelixConfiguration"];

/**
 * Removes everything that bears a node's protection label, all at once, so that no policy goes before its endpoint.
 * @returns what is gone, in words. @throws Problem "conflict" when the datastore changed meanwhile.
 */
export async function removeProtection(
  store: Store,
  rehearsal: Rehearsal,
  node: string,
  signature: Signature,
): Promise<string[]> {
  const { resources } = rehearsal, removed: string[] = [];
  for (const kind of kinds) {
    for (const stored of (await resources.list(kind)).items) {
      if (stored.metadata.labels?.[protectLabel] !== node) continue;
      const left = withoutProtection(stored), name = identify(kind, stored.metadata.name);
      if (left) await resources.update(left);
      else await resources.delete(kind, stored.metadata.name);
      removed.push(left ? `the failsafe ports of ${name}` : name);
    }
  }
  if (removed.length === 0 || await commitRehearsed(store, rehearsal, signature) !== undefined) return removed;
  throw new Problem({
    code: "conflict",
    what: "the datastore changed meanwhile: nothing was removed",
    todo: "Try again",
  });
}
