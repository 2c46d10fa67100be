import type { Metrics } from "../lib/metrics.ts";
import type { Graph, GraphChange } from "./calc/graph.ts";
import type { PolicyDelta } from "./desired_policy.ts";

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
  metrics.clear("felix_label_index_selector_evals");
  for (const [result, n] of Object.entries(index.evaluations)) {
    metrics.add("felix_label_index_selector_evals", n, { result });
  }
  metrics.clear("felix_label_index_strategy_evals");
  for (const [way, n] of Object.entries(index.searches)) {
    metrics.add("felix_label_index_strategy_evals", n, { strategy: `endpoint-${way}` });
  }
}

/** Counts what the calculation hands to the dataplane, each change under the name that Felix's message of it has. */
export function countMessages(delta: PolicyDelta, metrics: Metrics): void {
  const ends = (ids: readonly string[], isHost: boolean) =>
    ids.filter((id) => id.startsWith("HostEndpoint:") === isHost).length;
  const hosts = delta.endpoints.filter(({ kind }) => kind === "host").length;
  const counts: Record<string, number> = {
    IPSetUpdate: delta.setsAdded.length,
    IPSetDeltaUpdate: delta.setsChanged.length,
    IPSetRemove: delta.setsRemoved.length,
    ActivePolicyUpdate: delta.policies.length,
    ActivePolicyRemove: delta.policiesRemoved.length,
    ActiveProfileUpdate: delta.profiles.length,
    ActiveProfileRemove: delta.profilesRemoved.length,
    WorkloadEndpointUpdate: delta.endpoints.length - hosts,
    WorkloadEndpointRemove: ends(delta.endpointsRemoved, false),
    HostEndpointUpdate: hosts,
    HostEndpointRemove: ends(delta.endpointsRemoved, true),
  };
  const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
  if (all === 0) return;
  for (const [type, n] of Object.entries(counts)) if (n > 0) metrics.add("felix_int_dataplane_messages", n, { type });
  metrics.observe("felix_int_dataplane_msg_batch_size", all);
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
