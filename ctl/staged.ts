import { isProblem, Problem } from "../lib/problem.ts";
import { type Difference, verdictChanges } from "../agent/why/difference.ts";
import { World } from "../agent/why/world.ts";
import type { Column, Kind, Resource } from "../datastore/kind.ts";
import { kindByWord } from "../datastore/kinds/index.ts";
import { type NetworkPolicy, storedPolicyOf } from "../datastore/kubernetes/network_policy.ts";
import { identify } from "../datastore/problems.ts";
import { Rehearsal } from "../datastore/rehearsal.ts";
import type { Resources, ResourcesOptions } from "../datastore/resources.ts";
import type { Store } from "../datastore/store.ts";
import { badInput, type Call } from "./command.ts";
import { newObject } from "./commands/create.ts";

/** Kinds of staged policies, and what they become. That of Kubernetes is stored as a copy, which only Kubernetes changes. */
const enforcedKinds: Record<string, string> = {
  StagedNetworkPolicy: "NetworkPolicy",
  StagedGlobalNetworkPolicy: "GlobalNetworkPolicy",
  StagedKubernetesNetworkPolicy: "NetworkPolicy",
};

/** True for kinds of policies that are calculated and not enforced. */
export const isStaged = (kind: string): boolean => kind in enforcedKinds;

/** What a staged policy asks for: that a policy be stored, or be gone. */
export type Promotion = { put: Resource } | { remove: Resource } | { nothing: string };

/** What becomes of a staged policy that is enforced. */
export function promotionOf({ kind, metadata, spec }: Resource): Promotion {
  const { stagedAction = "Set", ...rest } = spec as Record<string, unknown>;
  if (stagedAction === "Ignore") return { nothing: "its stagedAction is Ignore" };
  const enforced = enforcedOf(kind, metadata, rest);
  return stagedAction === "Delete" ? { remove: enforced } : { put: enforced };
}

function enforcedOf(kind: string, metadata: Resource["metadata"], spec: Record<string, unknown>): Resource {
  const { name, namespace, labels, annotations } = metadata;
  if (kind === "StagedKubernetesNetworkPolicy") {
    return storedPolicyOf({ metadata: { name, namespace }, spec } as NetworkPolicy).policy;
  }
  const policy = { kind: enforcedKinds[kind]!, metadata: { name, namespace, labels, annotations }, spec };
  return newObject(policy as unknown as Resource);
}

/**
 * The staged policies that the words of a call name: `[KIND [NAME...]]`; without words all. @throws Problem "bad-input" for a
 * kind that is not staged, "not-found".
 */
export async function stagedIn({ args, flags }: Call, resources: Resources): Promise<Resource[]> {
  const [word, ...names] = args, kind = word === undefined ? undefined : kindByWord(word)?.kind;
  if (word !== undefined && (!kind || !isStaged(kind))) {
    throw badInput(`${word} is no kind of staged policies`, `write ${Object.keys(enforcedKinds).join(", ")}`);
  }
  const namespace = flags.text("namespace");
  if (names.length > 0) {
    const of = kind === "StagedGlobalNetworkPolicy" ? undefined : namespace ?? "default";
    return await Promise.all(names.map((name) => resources.get(kind!, name, of)));
  }
  const found = await Promise.all((kind ? [kind] : Object.keys(enforcedKinds)).map((k) => resources.list(k)));
  return found.flatMap(({ items }) => items).filter((r) =>
    namespace === undefined || r.metadata.namespace === namespace
  );
}

/** Staged policies enforced in a copy of the datastore in memory, with every check. */
export async function rehearsed(
  staged: readonly Resource[],
  store: Store,
  options: ResourcesOptions,
): Promise<Rehearsal> {
  const rehearsal = await Rehearsal.of(store, options);
  for (const policy of staged) await promote(policy, rehearsal.resources);
  return rehearsal;
}

/** What enforcing staged policies would change. */
export async function worldsOf(
  staged: readonly Resource[],
  { store }: Resources,
  options: ResourcesOptions,
): Promise<{ before: World; after: World }> {
  const rehearsal = await rehearsed(staged, store, options);
  return { before: new World(rehearsal.before), after: new World(await rehearsal.after()) };
}

/** Stores what a staged policy asks for; the staged one goes last, so nothing is lost on the way. */
export async function promote(staged: Resource, resources: Resources): Promise<void> {
  const promotion = promotionOf(staged), { name, namespace } = staged.metadata;
  if ("nothing" in promotion) return;
  if ("put" in promotion) await resources.apply(promotion.put);
  else await removeIfThere(promotion.remove, resources);
  await resources.delete(staged.kind, name, namespace);
}

async function removeIfThere({ kind, metadata }: Resource, resources: Resources): Promise<void> {
  try {
    await resources.delete(kind, metadata.name, metadata.namespace);
  } catch (error) {
    if (!isProblem(error, "not-found")) throw error;
  }
}

/** @throws Problem "unsupported" for what only Kubernetes may write. */
export function refuseKubernetes({ kind, metadata }: Resource): void {
  if (kind !== "StagedKubernetesNetworkPolicy") return;
  const what = `${
    identify(kind, metadata.name, metadata.namespace)
  } becomes a policy of Kubernetes, which is its owner`;
  throw new Problem({ code: "unsupported", what, todo: "Apply it with kubectl, and delete the staged one then" });
}

/** The kind with columns of how many verdicts its policies would change, each by itself, for the wide table. */
export async function withEffects(
  kind: Kind,
  items: readonly Resource[],
  resources: Resources,
  options: ResourcesOptions,
): Promise<Kind> {
  const effects = new Map<Resource, Difference["changes"]>();
  for (const item of items) {
    const { before, after } = await worldsOf([item], resources, options);
    effects.set(item, verdictChanges(before, after).changes);
  }
  const count = (head: string, verdict: "allow" | "deny"): Column => ({
    ...{ head, only: "wide" },
    value: (r) => String(effects.get(r)?.filter((c) => c.after.verdict === verdict).length ?? ""),
  });
  return { ...kind, columns: [...kind.columns, count("WOULD DENY", "deny"), count("WOULD ALLOW", "allow")] };
}
