import { goTimestamp } from "../lib/clock.ts";
import { type Ip, tryParseIp } from "../lib/ip.ts";
import { isObject, type Json } from "../lib/json64.ts";
import { Problem } from "../lib/problem.ts";
import { containerInterfaceName, endpointName } from "../datastore/names.ts";
import type { Profile } from "../datastore/kinds/profile.ts";
import type { AddRequest, AddressSource } from "../agent/endpoints/request.ts";
import type { EndpointDraft } from "../agent/endpoints/stored.ts";
import { type Call, isOurIpam } from "./call.ts";

/** An AddRequest whose addresses another IPAM plugin may still have to give. */
export type Wanted = Omit<AddRequest, "addresses"> & {
  addresses: AddressSource | { from: "plugin" };
  /** Calico's answer lists routes only when its IPAM plugin chose the address or CNI_ARGS named it. */
  answersRoutes: boolean;
};

/** The key parts of the endpoint of a call: its name and namespace. */
export function endpointIdentity(call: Call): { name: string; namespace: string } {
  const { node, orchestrator, pod, containerId, endpoint, namespace } = call.ids;
  const identity = { node, orchestrator, pod, containerID: containerId, endpoint };
  return {
    name: endpointName(identity),
    namespace: orchestrator === "cni" ? mesosNamespace(call) ?? namespace : namespace,
  };
}

/** What does not depend on the orchestrator. `attributes` are stored with each address. */
export function commonRequest(call: Call, nowMs: number, mtu: number) {
  const { attachment, netns, config, ids } = call;
  const where: Record<string, string> = ids.pod === "" ? {} : { pod: ids.pod, namespace: ids.namespace };
  return {
    attachment,
    netns,
    attributes: { node: ids.node, timestamp: goTimestamp(nowMs), ...where },
    floatingIps: [] as Ip[],
    ...(mtu > 0 ? { mtu } : {}),
    queues: config.num_queues <= 0 ? 1 : config.num_queues,
    ipForwarding: config.container_settings.allow_ip_forwarding,
  };
}

/**
 * What the plain orchestrator `cni` wants: a profile named after the network, labels of Mesos.
 * @throws Problem "unsupported", "validation".
 */
export function plainRequest(call: Call, nowMs: number, mtu: number): Wanted {
  const { config, ids } = call;
  if (config.feature_control.ip_addrs_no_ipam) {
    throw new Problem({
      code: "unsupported",
      what: "requested feature is not supported for this runtime: ip_addrs_no_ipam",
      where: "feature_control.ip_addrs_no_ipam",
    });
  }
  const { name, namespace } = endpointIdentity(call);
  const endpoint: EndpointDraft = {
    kind: "WorkloadEndpoint",
    apiVersion: "projectcalico.org/v3",
    metadata: { name, namespace, labels: { ...mesosLabels(call), ...ownLabels(namespace, "cni") } },
    spec: {
      orchestrator: "cni",
      node: ids.node,
      endpoint: ids.endpoint,
      profiles: [config.name],
      interfaceName: containerInterfaceName(ids.containerId),
    },
  };
  return {
    ...commonRequest(call, nowMs, mtu),
    endpoint,
    addresses: addressSource(call, {}),
    answersRoutes: true,
    profile: networkProfile(call),
  };
}

/** Labels that every endpoint carries. */
export const ownLabels = (namespace: string, orchestrator: string): Record<string, string> => ({
  "projectcalico.org/namespace": namespace,
  "projectcalico.org/orchestrator": orchestrator,
});

/** What a pod's and its namespace's annotations say about addresses. */
export interface AddressWishes {
  pools4?: string[];
  pools6?: string[];
  families?: { v4: boolean; v6: boolean };
  specific?: Ip[];
  withoutIpam?: Ip[];
}

/** Where the addresses come from: annotations before CNI_ARGS before the configuration. */
export function addressSource(call: Call, wishes: AddressWishes): Wanted["addresses"] {
  const { ipam } = call.config;
  if (wishes.withoutIpam) return { from: "given", addresses: wishes.withoutIpam };
  if (!isOurIpam(ipam.type)) return { from: "plugin" };
  const specific = wishes.specific ?? (call.args.ip ? [call.args.ip] : undefined);
  const pools4 = wishes.pools4 ?? ipam.ipv4_pools, pools6 = wishes.pools6 ?? ipam.ipv6_pools;
  return {
    from: "ipam",
    v4: wishes.families?.v4 ?? ipam.assign_ipv4 !== "false",
    v6: wishes.families?.v6 ?? ipam.assign_ipv6 === "true",
    ...(pools4.length > 0 ? { pools4 } : {}),
    ...(pools6.length > 0 ? { pools6 } : {}),
    ...(specific ? { specific } : {}),
  };
}

/**
 * The profile of a network without policy type: Kubernetes pods may be reached by everybody, others by those of the same
 * network. Undefined when the configuration has a policy type. Source: Calico cni-plugin/pkg/plugin/plugin.go.
 */
export function networkProfile(call: Call): Profile | undefined {
  const { name, policy } = call.config;
  if (policy.type !== "") return undefined;
  const from = call.ids.orchestrator === "k8s" ? {} : { source: { selector: `has(${name})` } };
  return {
    kind: "Profile",
    apiVersion: "projectcalico.org/v3",
    metadata: { name },
    spec: {
      ingress: [{ action: "Allow", ...from }],
      egress: [{ action: "Allow" }],
      labelsToApply: { [name]: "" },
    },
  } as Profile;
}

const namespaceLabel = "projectcalico.org/namespace";

function mesosPairs(call: Call): { key: string; value: string }[] {
  const list: Json | undefined = call.config.args["org.apache.mesos"].network_info.labels.labels;
  if (!Array.isArray(list)) return [];
  return list.flatMap((pair) =>
    isObject(pair) && typeof pair.key === "string"
      ? [{ key: pair.key, value: typeof pair.value === "string" ? pair.value : "" }]
      : []
  );
}

function mesosLabels(call: Call): Record<string, string> {
  const pairs = mesosPairs(call).filter(({ key }) => key !== namespaceLabel);
  return Object.fromEntries(pairs.map(({ key, value }) => [sanitizeLabel(key), sanitizeLabel(value)]));
}

/** A label with this key moves the endpoint into a namespace; a DEL gets the same configuration and finds it there. */
function mesosNamespace(call: Call): string | undefined {
  const pair = mesosPairs(call).findLast(({ key }) => key === namespaceLabel);
  return pair && sanitizeLabel(pair.value);
}

/**
 * A label of Mesos as one that Calico takes: `team/blue` becomes `team.blue`.
 * Source: Calico cni-plugin/internal/pkg/utils SanitizeMesosLabel.
 */
export function sanitizeLabel(text: string): string {
  return text.replaceAll("/", ".").replace(/[^-_.a-zA-Z0-9]+/g, "-").replace(/-*\.[.-]*/g, ".")
    .replace(/^[.-]+|[.-]+$/g, "");
}

/**
 * Addresses of an annotation, at most one of each family.
 * @throws Problem "bad-input".
 */
export function onePerFamily(texts: string[], annotation: string): Ip[] {
  const where = `annotation ${annotation}`;
  const ips = addressList(texts, annotation);
  for (const v of [4, 6]) {
    if (ips.filter((ip) => ip.v === v).length < 2) continue;
    const what = `cannot have more than one IPv${v} address for "${annotation}" annotation`;
    throw new Problem({ code: "bad-input", what, where });
  }
  if (ips.length === 0) throw new Problem({ code: "bad-input", what: "no address is given", where });
  return ips.sort((a, b) => a.v - b.v);
}

/** Addresses of an annotation. @throws Problem "bad-input". */
export function addressList(texts: string[], annotation: string): Ip[] {
  return texts.map((text) => {
    const ip = tryParseIp(text);
    if (ip) return ip;
    throw new Problem({ code: "bad-input", what: `"${text}" is not an IP address`, where: `annotation ${annotation}` });
  });
}
