import { tryParseMac } from "../lib/ip.ts";
import { Problem } from "../lib/problem.ts";
import type { ClusterObject } from "../datastore/kubernetes/client.ts";
import {
  annotationList,
  type Pod,
  podLabels,
  podPorts,
  podProfiles,
  sourcePrefixes,
} from "../datastore/kubernetes/pod.ts";
import { qosOf } from "../datastore/kubernetes/qos.ts";
import { podInterfaceName } from "../datastore/names.ts";
import type { EndpointDraft } from "../agent/endpoints/stored.ts";
import { type Call, isOurIpam } from "./call.ts";
import {
  addressList,
  addressSource,
  type AddressWishes,
  commonRequest,
  endpointIdentity,
  networkProfile,
  onePerFamily,
  ownLabels,
  type Wanted,
} from "./request.ts";

/** What Kubernetes says about the pod of a call. */
export interface PodFacts {
  /** Read only with `policy.type` k8s: labels, ports, annotations count only then. */
  pod?: Pod;
  /** For pool annotations and the pools' namespace selectors. */
  namespace?: ClusterObject;
}

const prefix = "cni.projectcalico.org/";

/**
 * What a Kubernetes pod wants. @throws Problem "bad-input" for an annotation that cannot be followed, "unsupported" for a
 * feature that is not switched on. Source: Calico cni-plugin/pkg/k8s/k8s.go.
 */
export async function podRequest(call: Call, facts: PodFacts, nowMs: number, mtu: number): Promise<Wanted> {
  const { pod, namespace: inNamespace } = facts;
  const { config, ids } = call;
  const annotations = pod?.metadata.annotations ?? {};
  const wishes = pod ? addressWishes(call, annotations, inNamespace?.metadata.annotations ?? {}) : {};
  const { name, namespace } = endpointIdentity(call);
  const account = pod?.spec?.serviceAccountName || undefined;
  const ports = pod ? podPorts(pod) : [];
  const prefixes = sourcePrefixes(annotations);
  // DIFFERS: Calico's plugin leaves these annotations out, because its etcd installations know no such limits.
  const { controls } = qosOf(annotations);
  const generateName = pod?.metadata.generateName;
  const endpoint: EndpointDraft = {
    kind: "WorkloadEndpoint",
    apiVersion: "projectcalico.org/v3",
    metadata: {
      name,
      namespace,
      ...(generateName ? { generateName } : {}),
      labels: { ...(pod ? podLabels(pod) : {}), ...ownLabels(namespace, "k8s") },
    },
    spec: {
      orchestrator: "k8s",
      node: ids.node,
      pod: ids.pod,
      endpoint: ids.endpoint,
      ...(account ? { serviceAccountName: account } : {}),
      profiles: pod ? podProfiles(namespace, account) : [config.name],
      interfaceName: await podInterfaceName(namespace, ids.pod, interfacePrefix(call.env)),
      ...(ports.length > 0 ? { ports } : {}),
      ...(prefixes.length > 0 ? { allowSpoofedSourcePrefixes: prefixes } : {}),
      ...(controls ? { qosControls: controls as EndpointDraft["spec"]["qosControls"] } : {}),
    },
  };
  return {
    ...commonRequest(call, nowMs, mtu),
    endpoint,
    addresses: addressSource(call, wishes),
    answersRoutes: !wishes.specific && !wishes.withoutIpam,
    floatingIps: floatingIps(call, annotations),
    ...(annotations[`${prefix}hwAddr`] ? { mac: macOf(annotations[`${prefix}hwAddr`]!) } : {}),
    ...(inNamespace ? { namespaceLabels: inNamespace.metadata.labels ?? {} } : {}),
    profile: networkProfile(call),
  };
}

/** What in a pod's annotations is followed only in part, or not at all, and stops nothing. */
export const annotationProblems = ({ pod }: PodFacts): string[] => qosOf(pod?.metadata.annotations ?? {}).problems;

/** The first entry of FELIX_INTERFACEPREFIX, or `cali`. */
export const interfacePrefix = (env: Record<string, string>): string =>
  (env.FELIX_INTERFACEPREFIX ?? "").split(",")[0] || "cali";

/** Pool and family annotations of the pod win over those of its namespace; an empty one counts as absent. */
function addressWishes(
  call: Call,
  pod: Record<string, string>,
  namespace: Record<string, string>,
): AddressWishes {
  const { type } = call.config.ipam;
  const either = (name: string) => {
    const annotation = prefix + name;
    return pod[annotation] ? annotationList(pod, annotation) : annotationList(namespace, annotation);
  };
  const isGiven = (name: string) => Boolean(pod[prefix + name] || namespace[prefix + name]);
  const ours = isOurIpam(type);
  return {
    ...(ours && isGiven("ipv4pools") ? { pools4: either("ipv4pools") } : {}),
    ...(ours && isGiven("ipv6pools") ? { pools6: either("ipv6pools") } : {}),
    ...(ours && isGiven("ipFamilies") ? { families: familiesOf(either("ipFamilies")) } : {}),
    ...fixedAddresses(call, pod),
  };
}

function familiesOf(names: string[]): { v4: boolean; v6: boolean } {
  const unknown = names.find((name) => name !== "IPv4" && name !== "IPv6");
  if (unknown !== undefined || names.length === 0) {
    const what = `error parsing ipFamilies: ${JSON.stringify(names)}`;
    throw new Problem({ code: "bad-input", what, where: `annotation ${prefix}ipFamilies` });
  }
  return { v4: names.includes("IPv4"), v6: names.includes("IPv6") };
}

function fixedAddresses(call: Call, pod: Record<string, string>): AddressWishes {
  const { ipam: { type }, feature_control } = call.config;
  const names = ["ipAddrs", "ipAddrsNoIpam"].filter((name) => pod[prefix + name]);
  if (names.length === 0) return {};
  const annotation = prefix + names[0];
  const refuse = (what: string, code: "bad-input" | "unsupported" = "unsupported") =>
    new Problem({ code, what, where: `annotation ${annotation}` });
  if (names.length === 2) {
    throw refuse("can't have both annotations: 'ipAddrs' and 'ipAddrsNoIpam' in use at the same time", "bad-input");
  }
  if (!isOurIpam(type)) throw refuse(`${names[0]} is not compatible with configured IPAM: ${type}`);
  const withoutIpam = names[0] === "ipAddrsNoIpam";
  if (withoutIpam && !feature_control.ip_addrs_no_ipam) {
    throw refuse("requested feature is not enabled: ip_addrs_no_ipam");
  }
  const ips = onePerFamily(annotationList(pod, annotation), annotation);
  return withoutIpam ? { withoutIpam: ips } : { specific: ips };
}

function floatingIps(call: Call, annotations: Record<string, string>) {
  const annotation = `${prefix}floatingIPs`;
  if (!annotations[annotation]) return [];
  if (!call.config.feature_control.floating_ips) {
    const what = "requested feature is not enabled: floating_ips";
    throw new Problem({ code: "unsupported", what, where: `annotation ${annotation}` });
  }
  return addressList(annotationList(annotations, annotation), annotation);
}

function macOf(text: string): string {
  const mac = tryParseMac(text);
  if (mac) return text.toLowerCase().replaceAll("-", ":");
  throw new Problem({ code: "bad-input", what: `"${text}" is not a MAC address`, where: `annotation ${prefix}hwAddr` });
}
