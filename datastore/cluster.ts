import { isProblem } from "../lib/problem.ts";
import { apiVersion } from "./kind.ts";
import type { ClusterInformation } from "./kinds/cluster_information.ts";
import { fixedTiers, type Tier } from "./kinds/tier.ts";
import type { Resources } from "./resources.ts";

/**
 * Makes what every cluster has: ClusterInformation `default` (with a new cluster id, ready) and the three fixed tiers.
 * What is there stays, but for words of `clusterType` that are added and a missing id or ready flag. `calicoVersion` is
 * not ours to write. Source: Calico libcalico-go/lib/clientv3/client.go, EnsureInitialized.
 * @param clusterType comma-separated words such as "tortie,bgp". @param uuid makes the cluster's id.
 */
export async function ensureInitialized(
  resources: Resources,
  clusterType = "",
  uuid: () => string = () => crypto.randomUUID(),
): Promise<void> {
  await unlessThere(() => ensureClusterInformation(resources, clusterType, uuid));
  for (const [name, spec] of Object.entries(fixedTiers)) {
    await unlessThere(() => createTier(resources, name, spec));
  }
}

async function ensureClusterInformation(resources: Resources, clusterType: string, uuid: () => string): Promise<void> {
  const { items } = await resources.list<ClusterInformation>("ClusterInformation");
  const current = items.find((item) => item.metadata.name === "default");
  const spec = current?.spec ?? {};
  const has = (spec.clusterType ?? "").split(",").filter((word) => word !== "");
  const lacks = clusterType.split(",").filter((word) => word !== "" && !has.includes(word));
  const next: ClusterInformation = {
    ...(current ?? { kind: "ClusterInformation", apiVersion, metadata: { name: "default" } }),
    spec: {
      ...spec,
      clusterGUID: spec.clusterGUID || uuid().replaceAll("-", ""),
      clusterType: [...has, ...lacks].join(","),
      datastoreReady: spec.datastoreReady ?? true,
    },
  };
  await (current ? resources.update(next) : resources.create(next));
}

async function createTier(resources: Resources, name: string, spec: Tier["spec"]): Promise<void> {
  await resources.create<Tier>({ kind: "Tier", apiVersion, metadata: { name }, spec, status: {} });
}

/** Another node may make the same at the same time, which is as good. */
async function unlessThere(create: () => Promise<void>): Promise<void> {
  try {
    await create();
  } catch (error) {
    if (!isProblem(error, "exists", "conflict")) throw error;
  }
}
