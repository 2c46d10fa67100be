import { isProblem } from "../lib/problem.ts";
import { apiVersion, type Resource } from "./kind.ts";
import { fixedTiers } from "./kinds/tier.ts";
import type { Resources } from "./resources.ts";

/**
 * Makes what no cluster can be without: the three fixed tiers and ClusterInformation `default` (with a new cluster id,
 * ready). What is there stays, but for words of `clusterType` that are added and a missing id or ready flag.
 * @param clusterType comma-separated words such as "tortie,bgp". @param uuid makes the cluster's id.
 */
export async function ensureInitialized(
  resources: Resources,
  clusterType = "",
  uuid: () => string = () => crypto.randomUUID(),
): Promise<void> {
  for (const one of [clusterInformation({ clusterType, guid: () => uuid().replaceAll("-", "") }), ...tiers()]) {
    const { items } = await resources.list(one.kind);
    const existing = items.find((item) => item.metadata.name === one.name);
    const wanted = one.wanted(existing);
    if (wanted) await unlessThere(existing ? resources.update(wanted) : resources.create(wanted));
  }
}

/** Another node may make the same at the same time, which is as good. */
async function unlessThere(written: Promise<unknown>): Promise<void> {
  try {
    await written;
  } catch (error) {
    if (!isProblem(error, "exists", "conflict")) throw error;
  }
}

/** An object that every cluster has, or that every node has. */
export interface Default {
  kind: string;
  name: string;
  /** The object to write; undefined = nothing to do. Unknown members of `existing` are kept. */
  wanted(existing: Resource | undefined): Resource | undefined;
}

/** What the defaults depend on. */
export interface ClusterFacts {
  node: string;
  /** Comma-separated words (CLUSTER_TYPE and what was detected); "" = none. */
  clusterType: string;
  /** A new cluster id: 32 hexadecimal digits. */
  guid(): string;
}

type Spec = Record<string, unknown>;

/**
 * All defaults in the order of writing: the ClusterInformation, which calls the datastore ready, comes last.
 * DIFFERS: `calicoVersion` is never written. Calico's node writes its own version at each start, downgrades too; in a
 * cluster with both it would change with each restart.
 * Source: Calico's node/pkg/lifecycle/startup ensureDefaultConfig, libcalico-go clientv3 EnsureInitialized.
 */
export function clusterDefaults(facts: ClusterFacts): Default[] {
  return [
    ...tiers(),
    fillIn("FelixConfiguration", "default", { logSeverityScreen: "Info", reportingInterval: "0s" }),
    fillIn("FelixConfiguration", `node.${facts.node}`, { defaultEndpointToHostAction: "Return" }),
    createOnly("BGPConfiguration", "default", {}),
    createOnly("IPAMConfiguration", "default", {
      strictAffinity: false,
      autoAllocateBlocks: true,
      kubeVirtVMAddressPersistence: "Enabled",
    }),
    clusterInformation(facts),
  ];
}

const tiers = (): Default[] => Object.entries(fixedTiers).map(([name, spec]) => createOnly("Tier", name, spec));

/** A new object of a cluster-wide kind. */
export const newResource = (kind: string, name: string, spec: Spec): Resource => ({
  apiVersion,
  kind,
  metadata: { name },
  spec,
});

const createOnly = (kind: string, name: string, spec: Spec): Default => ({
  kind,
  name,
  wanted: (existing) => (existing ? undefined : newResource(kind, name, spec)),
});

/** Creates the object, or sets those fields of it that are absent or empty. */
function fillIn(kind: string, name: string, values: Spec): Default {
  return {
    kind,
    name,
    wanted(existing) {
      if (!existing) return newResource(kind, name, values);
      const missing = Object.entries(values).filter(([field]) => isUnset(existing.spec[field]));
      if (missing.length === 0) return undefined;
      return { ...existing, spec: { ...existing.spec, ...Object.fromEntries(missing) } };
    },
  };
}

const isUnset = (value: unknown): boolean => value === undefined || value === null || value === "";

function clusterInformation({ clusterType, guid }: Pick<ClusterFacts, "clusterType" | "guid">): Default {
  const kind = "ClusterInformation", name = "default";
  return {
    kind,
    name,
    wanted(existing) {
      const old: Spec = existing?.spec ?? {};
      const spec: Spec = { ...old };
      if (isUnset(old.clusterGUID)) spec.clusterGUID = guid();
      const words = withWords(typeof old.clusterType === "string" ? old.clusterType : "", clusterType);
      if (words !== (old.clusterType ?? "")) spec.clusterType = words;
      if (old.datastoreReady === undefined || old.datastoreReady === null) spec.datastoreReady = true;
      if (!existing) return newResource(kind, name, spec);
      return JSON.stringify(spec) === JSON.stringify(old) ? undefined : { ...existing, spec };
    },
  };
}

/** `present` with those comma-separated words of `more` that it lacks, in their order. */
export function withWords(present: string, more: string): string {
  const words = present === "" ? [] : present.split(",");
  for (const word of more.split(",")) if (word !== "" && !words.includes(word)) words.push(word);
  return words.join(",");
}

/** A cluster id from eight random 16 bit numbers: a version 4 UUID without its dashes (RFC 9562). */
export function randomGuid(random: () => number): string {
  const digits = Array.from({ length: 8 }, () => Math.floor(random() * 0x10000).toString(16).padStart(4, "0")).join("");
  const variant = "89ab"[Math.floor(random() * 4)]!;
  return `${digits.slice(0, 12)}4${digits.slice(13, 16)}${variant}${digits.slice(17)}`;
}
