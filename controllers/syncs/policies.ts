import { clusterPolicyOfAdmin, clusterPolicyOfBaseline } from "../../datastore/kubernetes/admin_network_policy.ts";
import {
  type ClusterNetworkPolicy,
  storedClusterPolicyName,
  storedClusterPolicyOf,
} from "../../datastore/kubernetes/cluster_network_policy.ts";
import { closedPolicyOf, storedPolicyName, storedPolicyOf } from "../../datastore/kubernetes/network_policy.ts";
import type { KubernetesObject } from "../../datastore/kubernetes/reflector.ts";
import {
  adminNetworkPolicies,
  baselineAdminNetworkPolicies,
  clusterNetworkPolicies,
  networkPolicies,
  type Source,
} from "../sources.ts";
import { OwnedObjects } from "./owned.ts";
import type { Sync } from "./sync.ts";

/** NetworkPolicy → `knp.default.<name>`. What cannot be followed allows nothing, and is said in an annotation. */
export const policySync = (): Sync =>
  new OwnedObjects({
    name: "policy",
    source: networkPolicies,
    kind: "NetworkPolicy",
    prefix: storedPolicyName(""),
    origin: { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" },
    identityOf: ({ name, namespace }) => ({ name: storedPolicyName(name), namespace }),
    make(object) {
      const { policy, problems } = storedPolicyOf(object);
      return { resource: policy, problems };
    },
    closed: closedPolicyOf,
  });

/** How one of the three kinds of policies for the whole cluster is read. */
interface ClusterWide<T extends KubernetesObject> {
  name: string;
  source: Source<T>;
  kind: string;
  version: string;
  /** Begins the name of what is stored: `kcnp`. */
  prefix: string;
  read(object: T): ClusterNetworkPolicy;
}

const clusterWide = <T extends KubernetesObject>({ name, source, kind, version, prefix, read }: ClusterWide<T>): Sync =>
  new OwnedObjects<T>({
    name,
    source,
    kind: "GlobalNetworkPolicy",
    prefix: `${prefix}.`,
    origin: { apiVersion: `policy.networking.k8s.io/${version}`, kind },
    identityOf: (metadata) => ({ name: storedClusterPolicyName(prefix, metadata.name) }),
    make(object) {
      const { policy, problems } = storedClusterPolicyOf(read(object), prefix);
      return { resource: policy, problems };
    },
  });

/** ClusterNetworkPolicy → GlobalNetworkPolicy `kcnp.<name>` in the tier kube-admin or kube-baseline. */
export const clusterPolicySync = (): Sync =>
  clusterWide({
    name: "clusternetworkpolicy",
    source: clusterNetworkPolicies,
    kind: "ClusterNetworkPolicy",
    version: "v1alpha2",
    prefix: "kcnp",
    read: (object) => object,
  });

/** AdminNetworkPolicy → GlobalNetworkPolicy `kanp.<name>` in the tier kube-admin. */
export const adminPolicySync = (): Sync =>
  clusterWide({
    name: "adminnetworkpolicy",
    source: adminNetworkPolicies,
    kind: "AdminNetworkPolicy",
    version: "v1alpha1",
    prefix: "kanp",
    read: clusterPolicyOfAdmin,
  });

/** BaselineAdminNetworkPolicy → GlobalNetworkPolicy `kbanp.<name>` in the tier kube-baseline. */
export const baselinePolicySync = (): Sync =>
  clusterWide({
    name: "baselineadminnetworkpolicy",
    source: baselineAdminNetworkPolicies,
    kind: "BaselineAdminNetworkPolicy",
    version: "v1alpha1",
    prefix: "kbanp",
    read: clusterPolicyOfBaseline,
  });
