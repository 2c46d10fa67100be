import { rfc3339 } from "../../lib/clock.ts";
import { formatIp, hostCidr, type Ip, tryParseCidr } from "../../lib/ip.ts";
import type { WorkloadEndpoint, WorkloadEndpointSpec } from "../../datastore/kinds/workload_endpoint.ts";

/** A WorkloadEndpoint before its addresses and its container are known: labels, profiles, ports, names. */
export type EndpointDraft = WorkloadEndpoint;

/** What becomes known on the way. */
export interface Found {
  containerId: string;
  mac: string;
  addresses: Ip[];
  /** External addresses that stand for the endpoint's address of their family. */
  floatingIps: Ip[];
}

/** Members of spec that a new ADD decides; others of an older endpoint of the same name stay. */
const decided: (keyof WorkloadEndpointSpec)[] = [
  "orchestrator",
  "workload",
  "node",
  "containerID",
  "pod",
  "endpoint",
  "serviceAccountName",
  "ipNetworks",
  "ipNATs",
  "ipv4Gateway",
  "ipv6Gateway",
  "profiles",
  "interfaceName",
  "mac",
  "ports",
  "allowSpoofedSourcePrefixes",
  "qosControls",
];

/**
 * The endpoint to store. One of an older sandbox of the same pod keeps its uid, its creation time, and what we don't know.
 * @param uid for a new one.
 */
export function storedEndpoint(
  draft: EndpointDraft,
  found: Found,
  old: WorkloadEndpoint | undefined,
  uid: string,
  nowMs: number,
): WorkloadEndpoint {
  const { resourceVersion: _, ...metadata } = { ...old?.metadata, ...draft.metadata };
  const nats = natsOf(found);
  const kept = Object.entries(old?.spec ?? {}).filter(([name]) => !(decided as string[]).includes(name));
  return {
    ...draft,
    metadata: {
      ...metadata,
      uid: old?.metadata.uid ?? uid,
      creationTimestamp: old?.metadata.creationTimestamp ?? rfc3339(nowMs),
    },
    spec: {
      ...Object.fromEntries(kept),
      ...draft.spec,
      containerID: found.containerId,
      ipNetworks: found.addresses.map(hostCidr),
      ...(nats.length > 0 ? { ipNATs: nats } : {}),
      mac: found.mac,
    },
  };
}

function natsOf(found: Found): { internalIP: string; externalIP: string }[] {
  return found.floatingIps.flatMap((external) => {
    const internal = found.addresses.findLast((ip) => ip.v === external.v);
    return internal ? [{ internalIP: formatIp(internal), externalIP: formatIp(external) }] : [];
  });
}

/** The endpoint's own addresses; what is not a network is left out. */
export function addressesOf(endpoint: WorkloadEndpoint): Ip[] {
  return (endpoint.spec.ipNetworks ?? []).flatMap((text) => {
    const cidr = tryParseCidr(text);
    return cidr ? [{ v: cidr.v, n: cidr.n }] : [];
  });
}
