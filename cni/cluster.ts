import type { ClusterObject, KubernetesClient } from "../datastore/kubernetes/client.ts";
import type { Call, CniDeps } from "./call.ts";
import type { ClusterCache } from "./cluster_cache.ts";
import type { PodFacts } from "./pod.ts";

/**
 * The Kubernetes API of the call's configuration. Kubernetes pods need one even without a policy type, as with Calico.
 * @throws Problem "bad-input" when none is configured.
 */
export async function kubernetesOf(call: Call, deps: CniDeps): Promise<KubernetesClient> {
  const { kubernetes: k, policy: p } = call.config;
  const overrides = {
    kubeconfig: k.kubeconfig,
    apiRoot: k.k8s_api_root || p.k8s_api_root,
    token: p.k8s_auth_token,
    certFile: p.k8s_client_certificate,
    keyFile: p.k8s_client_key,
    caFile: p.k8s_certificate_authority,
  };
  return await deps.kubernetes.for(overrides, (name) => call.env[name]);
}

/** Pod and namespace, side by side; from what is known when it is enough. @throws Problem of KubernetesClient. */
export async function podFacts(call: Call, deps: CniDeps, client: KubernetesClient): Promise<PodFacts> {
  const { namespace, pod } = call.ids;
  const cache = cacheOf(call, deps, client);
  const [inNamespace, aPod] = await Promise.all([
    asksForNamespace(call) ? cache.namespace(namespace) : undefined,
    call.config.policy.type === "k8s" ? cache.pod(namespace, pod, call.args.podUid) : undefined,
  ]);
  return { namespace: inNamespace, pod: aPod };
}

/** The namespace whose labels pools may select by, for a call without a pod. @throws Problem. */
export async function namespaceOf(call: Call, deps: CniDeps): Promise<ClusterObject | undefined> {
  if (!asksForNamespace(call)) return undefined;
  return await cacheOf(call, deps, await kubernetesOf(call, deps)).namespace(call.ids.namespace);
}

const cacheOf = ({ config, ids }: Call, { caches }: CniDeps, client: KubernetesClient): ClusterCache =>
  caches.of(client, config.kubernetes.node_name || ids.node);

/** Calico's IPAM plugin looks at namespaces only when it knows a Kubernetes API. */
const asksForNamespace = ({ config }: Call): boolean =>
  config.policy.type === "k8s" || config.kubernetes.kubeconfig !== "";
