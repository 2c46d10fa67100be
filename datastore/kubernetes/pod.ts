import { formatCidr, tryParseCidr, tryParseCidrOrIp } from "../../lib/ip.ts";
import { type Json, parseJson } from "../../lib/json64.ts";
import { Problem } from "../../lib/problem.ts";
import type { Resource } from "../kind.ts";
import { endpointName } from "../names.ts";
import { qosOf } from "./qos.ts";

/** The members of a Kubernetes Pod that we read. */
export interface Pod {
  metadata: PodMetadata;
  spec?: {
    nodeName?: string;
    serviceAccountName?: string;
    hostNetwork?: boolean;
    containers?: PodContainer[] | null;
    initContainers?: PodContainer[] | null;
  };
  status?: { phase?: string; podIP?: string; podIPs?: { ip: string }[] };
}

/** ObjectMeta of a Pod, Namespace or Node. */
export interface PodMetadata {
  name: string;
  namespace?: string;
  uid?: string;
  generateName?: string;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  labels?: Record<string, string> | null;
  annotations?: Record<string, string> | null;
}

/** A container of a Pod, as far as its ports go. */
export interface PodContainer {
  ports?:
    | { name?: string; containerPort?: number; protocol?: string; hostPort?: number; hostIP?: string }[]
    | null;
}

/** A port of an endpoint, as stored. */
export interface EndpointPort {
  name: string;
  protocol: string;
  port: number;
  hostPort: number;
  hostIP: string;
}

/** The endpoint of a pod, and which of its annotations could not be followed. */
export interface PodEndpoint {
  endpoint: Resource;
  problems: string[];
}

/**
 * The WorkloadEndpoint that Calico's converter makes of a Pod: labels, ports, profiles, addresses, QoS.
 * @param interfaceName of the host side, see podInterfaceName().
 * @throws Problem "validation" when its name cannot be made, "bad-input" for an annotation that cannot be read.
 * Source: Calico libcalico-go/lib/backend/k8s/conversion/workload_endpoint_default.go.
 */
export function endpointOfPod(pod: Pod, interfaceName: string): PodEndpoint {
  const { name, generateName, uid, creationTimestamp } = pod.metadata;
  const namespace = pod.metadata.namespace ?? "";
  const annotations = pod.metadata.annotations ?? {};
  const account = pod.spec?.serviceAccountName || undefined;
  const node = pod.spec?.nodeName ?? "";
  const addresses = podState(pod).finished ? [] : addressesOf(pod);
  const { controls, problems } = qosOf(annotations);
  const status = annotations[networkStatus];
  const endpoint: Resource = {
    kind: "WorkloadEndpoint",
    apiVersion: "projectcalico.org/v3",
    metadata: present({
      name: endpointName({ node, orchestrator: "k8s", pod: name, endpoint: "eth0" }),
      generateName,
      namespace,
      uid,
      creationTimestamp,
      labels: podLabels(pod),
      annotations: status === undefined ? undefined : { [networkStatus]: status },
    }),
    spec: present({
      orchestrator: "k8s",
      node,
      containerID: annotations["cni.projectcalico.org/containerID"],
      pod: name,
      endpoint: "eth0",
      serviceAccountName: account,
      ipNetworks: nonEmpty(addresses),
      ipNATs: nonEmpty(natsOf(annotations, addresses)),
      profiles: podProfiles(namespace, account),
      interfaceName,
      ports: nonEmpty(podPorts(pod)),
      allowSpoofedSourcePrefixes: nonEmpty(sourcePrefixes(annotations)),
      qosControls: controls,
    }),
  };
  return { endpoint, problems };
}

/** The pod's labels with namespace, orchestrator and (when shorter than 63 characters) service account. */
export function podLabels(pod: Pod): Record<string, string> {
  const account = pod.spec?.serviceAccountName ?? "";
  return {
    ...pod.metadata.labels,
    "projectcalico.org/namespace": pod.metadata.namespace ?? "",
    "projectcalico.org/orchestrator": "k8s",
    ...(account !== "" && account.length < 63 ? { "projectcalico.org/serviceaccount": account } : {}),
  };
}

/** `kns.<namespace>` and, with an account, `ksa.<namespace>.<account>`. */
export function podProfiles(namespace: string, serviceAccount: string | undefined): string[] {
  return [`kns.${namespace}`, ...(serviceAccount ? [`ksa.${namespace}.${serviceAccount}`] : [])];
}

/** Ports of containers, then of init containers, that have a name or a host port. Unknown protocols are left out. */
export function podPorts(pod: Pod): EndpointPort[] {
  const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
  return containers.flatMap((c) => c.ports ?? [])
    .filter((p) => p.containerPort && (p.name || p.hostPort) && ["TCP", "UDP", "SCTP"].includes(p.protocol || "TCP"))
    .map((p) => ({
      name: p.name ?? "",
      protocol: p.protocol || "TCP",
      port: p.containerPort!,
      hostPort: p.hostPort ?? 0,
      hostIP: p.hostIP ?? "",
    }));
}

/**
 * The annotation `allowedSourcePrefixes`, each CIDR with its host bits masked away.
 * @throws Problem "bad-input".
 */
export function sourcePrefixes(annotations: Record<string, string>): string[] {
  const name = "cni.projectcalico.org/allowedSourcePrefixes";
  return annotationList(annotations, name).map((text) => {
    const cidr = tryParseCidr(text);
    if (!cidr) throw badAnnotation(name, `"${text}" is not a CIDR`);
    return formatCidr(cidr);
  });
}

/**
 * An annotation that holds a JSON list of strings; absent or empty = [].
 * @throws Problem "bad-input".
 */
export function annotationList(annotations: Record<string, string>, name: string): string[] {
  const text = annotations[name];
  if (text === undefined || text === "") return [];
  let value: Json;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw badAnnotation(name, `'${text}' is not JSON`);
  }
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
    throw badAnnotation(name, `'${text}' is not a JSON list of strings`);
  }
  return value as string[];
}

/** External addresses mapped to the endpoint's address of their family; those without one are left out. */
function natsOf(annotations: Record<string, string>, networks: string[]): { internalIP: string; externalIP: string }[] {
  if (networks.length === 0) return [];
  return annotationList(annotations, "cni.projectcalico.org/floatingIPs").flatMap((external) => {
    const internal = networks.map((n) => n.split("/")[0]!).findLast((ip) =>
      ip.includes(":") === external.includes(":")
    );
    return internal ? [{ internalIP: internal, externalIP: external }] : [];
  });
}

/** /32 and /128 of the pod: status before Calico's annotations before AWS's. */
function addressesOf(pod: Pod): string[] {
  const sources = [
    pod.status?.podIPs?.map((p) => p.ip) ?? [],
    pod.status?.podIP ? [pod.status.podIP] : [],
  ];
  return (sources.find((s) => s.length > 0) ?? notedAddresses(pod)).map((text) => {
    const cidr = tryParseCidrOrIp(text);
    if (!cidr) throw badAnnotation("status.podIPs", `"${text}" is not an address`);
    return formatCidr(cidr);
  });
}

/** Addresses that a network plugin wrote into the pod's annotations: Calico's own before AWS's. */
export function notedAddresses({ metadata: { annotations } }: Pod): string[] {
  const of = (name: string) => annotations?.[name]?.split(",").filter((text) => text !== "") ?? [];
  return [of("cni.projectcalico.org/podIPs"), of(podIp), of(awsPodIps)].find((list) => list.length > 0) ?? [];
}

/**
 * What a pod counts as. `valid`: it has an endpoint, being scheduled and not in its host's network. `ready`: it has an
 * address too. `finished`: it has given its address back, because it ended, or because the plugin emptied its annotation
 * while it terminates. Source: Calico conversion.go, IsValidCalicoWorkloadEndpoint, IsReadyCalicoPod, IsFinished.
 */
export function podState(pod: Pod): { valid: boolean; ready: boolean; finished: boolean } {
  const annotations = pod.metadata.annotations ?? {};
  const valid = Boolean(pod.spec?.nodeName) && pod.spec?.hostNetwork !== true;
  const released = pod.metadata.deletionTimestamp != null &&
    [podIp, awsPodIps].some((name) => annotations[name] === "");
  return {
    valid,
    ready: valid && Boolean(pod.status?.podIP || annotations[podIp] || annotations[awsPodIps]),
    finished: released || ["Failed", "Succeeded", "Completed"].includes(pod.status?.phase ?? ""),
  };
}

const podIp = "cni.projectcalico.org/podIP";
const awsPodIps = "vpc.amazonaws.com/pod-ips";
const networkStatus = "k8s.v1.cni.cncf.io/network-status";

const nonEmpty = <T>(list: T[]): T[] | undefined => (list.length > 0 ? list : undefined);

const present = <T extends Record<string, unknown>>(members: T): T =>
  Object.fromEntries(Object.entries(members).filter(([, v]) => v !== undefined)) as T;

const badAnnotation = (name: string, what: string) =>
  new Problem({ code: "bad-input", what, where: `annotation ${name}`, todo: "Correct the pod's annotation" });
