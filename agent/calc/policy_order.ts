import { compareCodePoints } from "../../datastore/selector/parse.ts";
import type { PolicyId } from "../desired_policy.ts";

/** What decides the place of a tier. `exists` false: policies name it, but there is no Tier object. */
export interface TierRank {
  name: string;
  order: number | undefined;
  exists: boolean;
}

/** What decides the place of a policy in its tier. */
export interface PolicyRank {
  id: PolicyId;
  kind: string;
  namespace: string;
  name: string;
  order: number | undefined;
}

/** Tiers ascend by order, none last, ties by name; tiers without an object come after all others. */
export function compareTiers(a: TierRank, b: TierRank): number {
  if (a.exists !== b.exists) return a.exists ? -1 : 1;
  return compareOrder(a.order, b.order) || compareCodePoints(a.name, b.name);
}

/**
 * Policies of a tier ascend by order, none last; ties by `name/namespace/kind` as text, so that `a-b` comes before `a`.
 * All kinds are sorted together. Source: Calico's felix/calc/policy_sorter.go.
 */
export function comparePolicies(a: PolicyRank, b: PolicyRank): number {
  return compareOrder(a.order, b.order) || compareCodePoints(tieText(a), tieText(b));
}

const tieText = (p: PolicyRank): string => `${p.name}/${p.namespace}/${p.kind}`;

function compareOrder(a: number | undefined, b: number | undefined): number {
  return a === b ? 0 : a === undefined ? 1 : b === undefined ? -1 : a - b;
}
