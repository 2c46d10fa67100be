import type { Metrics } from "../lib/metrics.ts";
import type { Graph, GraphChange } from "./calc/graph.ts";

/** What the calculation knows, under Felix's names. */
export function collectCounts({ here, cluster, index }: ReturnType<Graph["counts"]>, metrics: Metrics): void {
  metrics.set("felix_active_local_policies", here.policies);
  metrics.set("felix_active_local_endpoints", here.endpoints);
  metrics.set("felix_active_local_selectors", here.selectors);
  metrics.set("felix_cluster_num_workload_endpoints", cluster.workloads);
  metrics.set("felix_cluster_num_host_endpoints", cluster.hostEndpoints);
  metrics.set("felix_cluster_num_hosts", cluster.hosts);
  metrics.set("felix_cluster_num_policies", cluster.policies);
  metrics.set("felix_cluster_num_profiles", cluster.profiles);
  metrics.set("felix_cluster_num_tiers", cluster.tiers);
  metrics.set("felix_label_index_num_endpoints", index.subjects);
  metrics.set("felix_label_index_num_active_selectors", index.selectors, { optimized: "true" });
}

/** Felix counts by its own names of the keys. */
const felixTypes: Record<string, string> = {
  WorkloadEndpoint: "model.WorkloadEndpointKey",
  HostEndpoint: "model.HostEndpointKey",
  NetworkPolicy: "model.PolicyKey",
  GlobalNetworkPolicy: "model.PolicyKey",
  StagedNetworkPolicy: "model.PolicyKey",
  StagedGlobalNetworkPolicy: "model.PolicyKey",
  Profile: "model.ResourceKey",
  Tier: "model.TierKey",
  NetworkSet: "model.NetworkSetKey",
  GlobalNetworkSet: "model.NetworkSetKey",
};

/** Counts changes of the datastore that the calculation took. */
export function countUpdates(changes: readonly GraphChange[], metrics: Metrics): void {
  const types = changes.map((c) => felixTypes["set" in c ? c.set.kind : c.delete.kind] ?? "model.ResourceKey");
  for (const [type, all] of Map.groupBy(types, (t) => t)) {
    metrics.add("felix_calc_graph_updates_processed", all.length, { type });
  }
}
