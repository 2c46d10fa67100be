import { Problem } from "../../lib/problem.ts";
import type { Kind } from "../kind.ts";
import { bgpConfiguration } from "./bgp_configuration.ts";
import { bgpFilter } from "./bgp_filter.ts";
import { bgpPeer } from "./bgp_peer.ts";
import { blockAffinity } from "./block_affinity.ts";
import { calicoNodeStatus } from "./calico_node_status.ts";
import { clusterInformation } from "./cluster_information.ts";
import { felixConfiguration } from "./felix_configuration.ts";
import { globalNetworkSet } from "./global_network_set.ts";
import { hostEndpoint } from "./host_endpoint.ts";
import { ipPool } from "./ip_pool.ts";
import { ipReservation } from "./ip_reservation.ts";
import { ipamConfig } from "./ipam_config.ts";
import { ipamConfiguration } from "./ipam_configuration.ts";
import { kubeControllersConfiguration } from "./kube_controllers_configuration.ts";
import { kubernetesEndpointSlice } from "./kubernetes_endpoint_slice.ts";
import { liveMigration } from "./live_migration.ts";
import { networkSet } from "./network_set.ts";
import { node } from "./node.ts";
import { globalNetworkPolicy, networkPolicy, stagedGlobalNetworkPolicy, stagedNetworkPolicy } from "./policy.ts";
import { profile } from "./profile.ts";
import { stagedKubernetesNetworkPolicy } from "./staged_kubernetes_network_policy.ts";
import { tier } from "./tier.ts";
import { workloadEndpoint } from "./workload_endpoint.ts";

/** All kinds. */
export const kinds: readonly Kind[] = [
  bgpConfiguration,
  bgpFilter,
  bgpPeer,
  blockAffinity,
  calicoNodeStatus,
  clusterInformation,
  felixConfiguration,
  globalNetworkPolicy,
  globalNetworkSet,
  hostEndpoint,
  ipPool,
  ipReservation,
  ipamConfig,
  ipamConfiguration,
  kubeControllersConfiguration,
  kubernetesEndpointSlice,
  liveMigration,
  networkPolicy,
  networkSet,
  node,
  profile,
  stagedGlobalNetworkPolicy,
  stagedKubernetesNetworkPolicy,
  stagedNetworkPolicy,
  tier,
  workloadEndpoint,
];

const byName = new Map(kinds.map((k) => [k.kind, k]));
const byPlural = new Map(kinds.map((k) => [k.plural, k]));
const byWord = new Map(
  kinds.filter((k) => !k.internal).flatMap((k) =>
    [k.kind.toLowerCase(), k.plural, ...k.shortNames].map((word) => [word, k] as const)
  ),
);

/** The kind called `name` ("IPPool"). @throws Problem "unsupported" for a name that is none. */
export function kindByName(name: string): Kind {
  const kind = byName.get(name);
  if (!kind) throw new Problem({ code: "unsupported", what: `"${name}" is not a kind of resource` });
  return kind;
}

/** The kind whose keys lie below `plural` ("ippools"), exactly so written. */
export const kindByPlural = (plural: string): Kind | undefined => byPlural.get(plural);

/** The kind that a user means: kind, plural or short name, in any case. Internal kinds are not found. */
export const kindByWord = (word: string): Kind | undefined => byWord.get(word.toLowerCase());
