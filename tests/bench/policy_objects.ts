import type { Resource } from "../../datastore/kind.ts";

/** Node under measurement. */
export const here = "alder";

/** Applications in each namespace; `spread` below is the number of namespaces. */
const apps = 10;

/** Key in etcd and resource, as written by calicoctl or an orchestrator. */
export interface Stored {
  key: string;
  resource: Resource;
}

/** `10.<net>.x.y`, different for 65,536 numbers. */
const address = (net: number, i: number) => `10.${net + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
const appOf = (i: number, spread: number) => `a${Math.floor(i / spread) % apps}`;
const namespaceOf = (i: number, spread: number) => `n${i % spread}`;
const stamp = { creationTimestamp: "2026-01-02T03:04:05Z" };
const calico = "/calico/resources/v3/projectcalico.org";

/** Name of the interface of local endpoint `i`: 11 digits, like the beginning of a hash. */
export const interfaceOf = (i: number): string =>
  `cali${(BigInt.asUintN(64, BigInt(i + 1) * 0x9e3779b97f4a7c15n) >> 20n).toString(16).padStart(11, "0")}`;

/** A pod's endpoint: `local` ones are of this node, with an interface. */
export function endpoint(i: number, local: boolean, spread = 50): Stored {
  const node = local ? here : `node${i % 200}`, pod = `${local ? "p" : "r"}${i}`;
  const namespace = namespaceOf(i, spread), name = `${node}-k8s-${pod}-eth0`;
  return stored("workloadendpoints", {
    kind: "WorkloadEndpoint",
    metadata: {
      ...stamp,
      ...{ name, namespace, uid: `00000000-0000-4000-8000-${String(i).padStart(12, "0")}` },
      labels: {
        ...{ app: appOf(i, spread), tier: `t${i % 3}` },
        "projectcalico.org/namespace": namespace,
        "projectcalico.org/orchestrator": "k8s",
        "projectcalico.org/serviceaccount": "default",
      },
    },
    spec: {
      ...{ orchestrator: "k8s", node, pod, endpoint: "eth0", workload: "", containerID: `${i}`.padStart(64, "c") },
      interfaceName: local ? interfaceOf(i) : `cali${i.toString(16).padStart(11, "0")}`,
      ipNetworks: [`${local ? address(65, i) : address(80, i)}/32`],
      ...{ profiles: [`kns.${namespace}`], serviceAccountName: "default" },
    },
  });
}

/** A local pod of a namespace without policies, to which everything may come. */
export function freeEndpoint(i: number): Stored {
  const { key, resource } = endpoint(i, true), { metadata } = resource;
  const labels = { ...metadata.labels, "projectcalico.org/namespace": "free" };
  const free = { ...resource, metadata: { ...metadata, namespace: "free", labels } };
  return { key: key.replace(`/${metadata.namespace}/`, "/free/"), resource: free };
}

/** The address that endpoint() gives, as a member of a set. */
export const memberOf = (i: number, local: boolean): string => address(local ? 65 : 80, i);

/**
 * Policy `i` of namespace and application of endpoint `i`: from one other application of the namespace, to a port of its
 * own. @param version another one has another rule, longer by one condition when it is odd.
 */
export function policy(i: number, version = 0, spread = 50): Stored {
  const namespace = namespaceOf(i, spread), name = `default.p${i}`;
  const source = {
    selector: `app == 'a${(Math.floor(i / spread) * 7 + 3) % apps}'`,
    ...(version % 2 === 1 ? { ports: [30_000 + version] } : {}),
  };
  const rule = { action: "Allow", protocol: "TCP", source, destination: { ports: [portOf(i, version)] } };
  return stored("networkpolicies", {
    kind: "NetworkPolicy",
    metadata: { ...stamp, name, namespace },
    spec: {
      tier: "default",
      order: 100 + i,
      selector: `app == '${appOf(i, spread)}'`,
      types: ["Ingress"],
      ingress: [rule],
    },
  });
}

/** The port that this version of the policy allows: by it a rule in the kernel is known. */
export const portOf = (i: number, version: number): number => 1_000 + ((i * 10 + version) % 28_000);

/** Chain of policy `i`. */
export const chainOfPolicy = (i: number, spread = 50): string => `cali-pi-np/${namespaceOf(i, spread)}/default.p${i}`;

/** The tier, and a profile for each namespace, as kube-controllers keeps them. */
export function surroundings(spread = 50): Stored[] {
  const tier = { kind: "Tier", metadata: { ...stamp, name: "default" }, spec: { order: 1_000_000 } };
  const profiles = Array.from({ length: spread }, (_, i) => {
    const name = `kns.n${i}`, labelsToApply = { "pcns.kubernetes.io/metadata.name": `n${i}` };
    const rules = { ingress: [{ action: "Allow" }], egress: [{ action: "Allow" }], labelsToApply };
    return stored("profiles", { kind: "Profile", metadata: { ...stamp, name }, spec: rules });
  });
  return [stored("tiers", tier), ...profiles];
}

function stored(plural: string, resource: Omit<Resource, "apiVersion">): Stored {
  const { name, namespace } = resource.metadata as { name: string; namespace?: string };
  const key = `${calico}/${plural}/${namespace === undefined ? "" : `${namespace}/`}${name}`;
  return { key, resource: { apiVersion: "projectcalico.org/v3", ...resource } as Resource };
}
