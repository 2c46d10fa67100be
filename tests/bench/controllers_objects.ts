import type { ApiObject } from "../lab/api_objects.ts";
import type { Resource } from "../../datastore/kind.ts";

/** How big the cluster is. */
export const cluster = { pods: 10_000, policies: 1_000, namespaces: 500, nodes: 100 };

const calico = "/calico/resources/v3/projectcalico.org";
const namespaceOf = (i: number) => `n${i % cluster.namespaces}`;
const nodeOf = (i: number) => `node${i % cluster.nodes}`;
const addressOf = (i: number) => `10.65.${i >> 8}.${i & 255}`;
/** What etcd's objects must have before they are changed. */
export const meta = { uid: "00000000-0000-4000-8000-000000000000", creationTimestamp: "2026-01-02T03:04:05Z" };

/** Pod `i`, as the API server has it: some 4 KB, of which the controllers need little. */
export function pod(i: number, labels: Record<string, string> = {}): ApiObject {
  const env = Array.from({ length: 20 }, (_, k) => ({ name: `SETTING_${k}`, value: `value-${k}-${"x".repeat(60)}` }));
  return {
    kind: "Pod",
    metadata: {
      ...{ name: `p${i}`, namespace: namespaceOf(i), labels: { app: `a${i % 20}`, ...labels } },
      annotations: { "cni.projectcalico.org/podIP": `${addressOf(i)}/32`, note: "y".repeat(300) },
    },
    spec: {
      ...{ nodeName: nodeOf(i), serviceAccountName: "default" },
      containers: [{ name: "main", image: "registry.example/app:1.2.3", env, ports: [{ containerPort: 8080 }] }],
    },
    status: { phase: "Running", podIP: addressOf(i), podIPs: [{ ip: addressOf(i) }], conditions: "z".repeat(900) },
  };
}

/** What else the API server has: namespaces with an account each, nodes, policies. */
export function surroundings(): ApiObject[] {
  const names = Array.from({ length: cluster.namespaces }, (_, i) => `n${i}`);
  return [
    ...names.map((name) => ({ kind: "Namespace", metadata: { name, labels: { team: `t${name}` } } })),
    ...names.map((namespace) => ({ kind: "ServiceAccount", metadata: { name: "default", namespace } })),
    ...Array.from({ length: cluster.nodes }, (_, i) => ({ kind: "Node", metadata: { name: nodeOf(i) } })),
    ...Array.from({ length: cluster.policies }, (_, i): ApiObject => ({
      kind: "NetworkPolicy",
      metadata: { name: `policy${i}`, namespace: namespaceOf(i) },
      spec: {
        ...{ podSelector: { matchLabels: { app: `a${i % 20}` } }, policyTypes: ["Ingress"] },
        ingress: [{
          from: [{ podSelector: { matchLabels: { app: `a${(i + 1) % 20}` } } }, { namespaceSelector: {} }],
          ports: [{ port: 8080 }, { port: "http", protocol: "TCP" }],
        }],
      },
    })),
  ];
}

/** Key of pod `i`'s endpoint. */
export const endpointKey = (i: number): string =>
  `${calico}/workloadendpoints/${namespaceOf(i)}/${nodeOf(i)}-k8s-p${i}-eth0`;

const all = ["node", "policy", "workloadEndpoint", "serviceAccount", "namespace"] as const;

/** The settings: everything is on, metrics are served at this port. */
export const settings = (prometheusMetricsPort: number): [key: string, value: Omit<Resource, "apiVersion">] => [
  `${calico}/kubecontrollersconfigurations/default`,
  {
    ...{ kind: "KubeControllersConfiguration", metadata: { ...meta, name: "default" } },
    spec: {
      prometheusMetricsPort,
      controllers: { ...Object.fromEntries(all.map((name) => [name, {}])), loadBalancer: { assignIPs: "AllServices" } },
    },
  },
];

/** Keys and values that etcd has already: the endpoints as CNI plugins wrote them, and the nodes. */
export function stored(): [key: string, value: Omit<Resource, "apiVersion">][] {
  const endpoints = Array.from({ length: cluster.pods }, (_, i): [string, Omit<Resource, "apiVersion">] => [
    endpointKey(i),
    {
      kind: "WorkloadEndpoint",
      metadata: { ...meta, name: `${nodeOf(i)}-k8s-p${i}-eth0`, namespace: namespaceOf(i), labels: { app: "before" } },
      spec: {
        ...{ orchestrator: "k8s", node: nodeOf(i), pod: `p${i}`, endpoint: "eth0", containerID: "c".repeat(64) },
        ...{ interfaceName: `cali${i.toString(16).padStart(11, "0")}`, ipNetworks: [`${addressOf(i)}/32`] },
        ...{ profiles: [`kns.${namespaceOf(i)}`, `ksa.${namespaceOf(i)}.default`], serviceAccountName: "default" },
      },
    },
  ]);
  const nodes = Array.from({ length: cluster.nodes }, (_, i): [string, Omit<Resource, "apiVersion">] => [
    `${calico}/nodes/${nodeOf(i)}`,
    {
      ...{ kind: "Node", metadata: { ...meta, name: nodeOf(i) } },
      spec: { orchRefs: [{ nodeName: nodeOf(i), orchestrator: "k8s" }] },
    },
  ]);
  return [...endpoints, ...nodes];
}

/** How many of these objects the controllers must write: each endpoint and policy, and two profiles a namespace. */
export const toWrite = cluster.pods + cluster.policies + 2 * cluster.namespaces;
