import type { ClusterNetworkPolicy } from "../datastore/kubernetes/cluster_network_policy.ts";
import type { NetworkPolicy } from "../datastore/kubernetes/network_policy.ts";
import { notedAddresses, type Pod, podLabels } from "../datastore/kubernetes/pod.ts";
import type { LabelledObject } from "../datastore/kubernetes/profile.ts";
import type { KubernetesObject } from "../datastore/kubernetes/reflector.ts";

/** A collection of Kubernetes that controllers read, each of them once for all of them. */
export interface Source<T = unknown> {
  /** For log and metrics. */
  readonly name: string;
  readonly path: string;
  /** A server need not have it. */
  readonly isOptional?: boolean;
  /** What is kept of an object: as little as its readers need. */
  keep(object: KubernetesObject): T;
}

/** A pod as far as endpoints and addresses go. */
export interface KeptPod extends KubernetesObject {
  /** Those that its endpoint has. */
  labels: Record<string, string>;
  account: string | undefined;
  /** Empty until kubelet says them. */
  addresses: string[];
  /** Those that the CNI plugin wrote into its annotations. */
  noted: string[];
  node: string | undefined;
  hostNetwork: boolean;
  /** Put out by kubelet, for good. */
  evicted: boolean;
}

/** A node of Kubernetes. */
export interface KeptNode extends KubernetesObject {
  labels: Record<string, string>;
}

/** A Service, as far as its addresses go. */
export interface KeptService extends KubernetesObject {
  uid: string;
  annotations: Record<string, string>;
  type: string;
  loadBalancerClass: string | undefined;
  loadBalancerIP: string | undefined;
  families: string[];
  /** What stands in its status. */
  ingress: { ip?: string; hostname?: string }[];
}

/** A part of a Service's endpoints. */
export interface KeptSlice extends KubernetesObject {
  /** Name of the Service, in the same namespace. */
  service: string | undefined;
  addressType: string;
  endpoints: { addresses: string[] }[];
  ports: { name?: string; protocol?: string; port?: number }[];
}

const identity = ({ metadata: { name, namespace } }: KubernetesObject) => ({ name, namespace });
/** Name, labels and version: all that profiles need. The origin's UID and age are not written, as Calico does not. */
const labelled = ({ metadata: { name, namespace, labels } }: KubernetesObject): LabelledObject & KubernetesObject => ({
  metadata: { name, namespace, labels },
});
const withSpec = <T extends KubernetesObject>(object: KubernetesObject): T =>
  ({
    metadata: { ...identity(object), uid: object.metadata.uid },
    spec: (object as unknown as { spec: unknown }).spec,
  }) as unknown as T;

/** Services, as Kubernetes says them. */
interface Service extends KubernetesObject {
  spec?: {
    type?: string;
    loadBalancerClass?: string;
    loadBalancerIP?: string;
    ipFamilies?: string[];
    clusterIP?: string;
  };
  status?: { loadBalancer?: { ingress?: { ip?: string; hostname?: string }[] | null } };
}

interface EndpointSlice extends KubernetesObject {
  addressType?: string;
  endpoints?: { addresses?: string[] }[] | null;
  ports?: { name?: string; protocol?: string; port?: number }[] | null;
}

/** NetworkPolicies. */
export const networkPolicies: Source<NetworkPolicy> = {
  name: "networkpolicies",
  path: "/apis/networking.k8s.io/v1/networkpolicies",
  keep: (object) => withSpec<NetworkPolicy>(object),
};

/** ClusterNetworkPolicies, of which a server may know nothing. */
export const clusterNetworkPolicies: Source<ClusterNetworkPolicy> = {
  name: "clusternetworkpolicies",
  path: "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
  isOptional: true,
  keep: (object) => withSpec<ClusterNetworkPolicy>(object),
};

/** AdminNetworkPolicies, of which a server may know nothing. */
export const adminNetworkPolicies: Source<KubernetesObject> = {
  name: "adminnetworkpolicies",
  path: "/apis/policy.networking.k8s.io/v1alpha1/adminnetworkpolicies",
  isOptional: true,
  keep: (object) => withSpec(object),
};

/** The BaselineAdminNetworkPolicy, of which a server may know nothing. */
export const baselineAdminNetworkPolicies: Source<KubernetesObject> = {
  name: "baselineadminnetworkpolicies",
  path: "/apis/policy.networking.k8s.io/v1alpha1/baselineadminnetworkpolicies",
  isOptional: true,
  keep: (object) => withSpec(object),
};

/** Namespaces. */
export const namespaces: Source<LabelledObject & KubernetesObject> = {
  name: "namespaces",
  path: "/api/v1/namespaces",
  keep: labelled,
};

/** Service accounts. */
export const serviceAccounts: Source<LabelledObject & KubernetesObject> = {
  name: "serviceaccounts",
  path: "/api/v1/serviceaccounts",
  keep: labelled,
};

/** Pods. */
export const pods: Source<KeptPod> = {
  name: "pods",
  path: "/api/v1/pods",
  keep: keptPod,
};

/** What is kept of a pod. */
export function keptPod(object: KubernetesObject): KeptPod {
  const pod = object as Pod & { status?: { reason?: string } };
  const { spec, status } = pod;
  return {
    metadata: identity(object),
    labels: podLabels(pod),
    account: spec?.serviceAccountName || undefined,
    addresses: status?.podIPs?.map(({ ip }) => ip) ?? (status?.podIP ? [status.podIP] : []),
    noted: notedAddresses(pod),
    node: spec?.nodeName || undefined,
    hostNetwork: spec?.hostNetwork === true,
    evicted: status?.phase === "Failed" && status.reason === "Evicted",
  };
}

/** Nodes. */
export const nodes: Source<KeptNode> = {
  name: "nodes",
  path: "/api/v1/nodes",
  keep: ({ metadata: { name, labels } }) => ({ metadata: { name }, labels: labels ?? {} }),
};

/** Services. */
export const services: Source<KeptService> = {
  name: "services",
  path: "/api/v1/services",
  keep(object) {
    const { metadata, spec = {}, status } = object as Service;
    return {
      metadata: identity(object),
      uid: metadata.uid ?? "",
      annotations: ours(metadata.annotations ?? {}),
      type: spec.type ?? "ClusterIP",
      loadBalancerClass: spec.loadBalancerClass,
      loadBalancerIP: spec.loadBalancerIP || undefined,
      // Servers before 1.23 do not say it in a cluster of one family.
      families: spec.ipFamilies ?? [spec.clusterIP?.includes(":") ? "IPv6" : "IPv4"],
      ingress: status?.loadBalancer?.ingress ?? [],
    };
  },
};

/** Annotations for address management; others may be large. */
const ours = (annotations: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(annotations).filter(([name]) => name.startsWith("projectcalico.org/")));

/** EndpointSlices. */
export const endpointSlices: Source<KeptSlice> = {
  name: "endpointslices",
  path: "/apis/discovery.k8s.io/v1/endpointslices",
  isOptional: true, // before Kubernetes 1.21
  keep(object) {
    const { metadata, addressType = "IPv4", endpoints, ports } = object as EndpointSlice;
    return {
      metadata: identity(object),
      service: metadata.labels?.["kubernetes.io/service-name"],
      addressType,
      endpoints: (endpoints ?? []).map(({ addresses }) => ({ addresses: addresses ?? [] })),
      ports: (ports ?? []).map(({ name, protocol, port }) => ({ name, protocol, port })),
    };
  },
};
