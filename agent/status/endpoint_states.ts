import { type Cidr, formatCidr, type Ip } from "../../lib/ip.ts";
import { writeJson } from "../../lib/json64.ts";
import { hostEndpointStatusKey, workloadStatusKey } from "../../datastore/keys.ts";
import type { PolicedEndpoint } from "../desired_policy.ts";
import { hostInterfaces } from "../netfilter/host_interfaces.ts";

/** What Felix says of an endpoint. */
export type EndpointState = "up" | "down" | "error";

/** A workload of this node, as its state is told. */
export interface Workload {
  /** Key of its WorkloadEndpoint. */
  key: string;
  orchestrator: string;
  /** `namespace/pod` for Kubernetes. */
  workload: string;
  endpoint: string;
  interfaceName: string;
  mac: string;
  nets: readonly Cidr[];
}

/** A host endpoint of this node. */
export type HostEndpoint = Pick<PolicedEndpoint, "id" | "interfaceName" | "nets"> & { name: string };

/** An interface of this host. `up`: raised, and packets can pass. */
export interface Interface {
  name: string;
  up: boolean;
  addresses: readonly Ip[];
}

/** Up when the interface is and nothing of the endpoint is missing in the kernel. Source: Calico's endpoint_mgr.go. */
export function workloadState(workload: Workload, isUp: boolean, lacking: string | undefined): EndpointState {
  return workload.interfaceName !== "" && isUp && lacking === undefined ? "up" : "down";
}

/**
 * States of host endpoints, by name: "error" for one that has no interface, because there is none of its name or address, or
 * because another endpoint has it, or it is a workload's; "up" when all its interfaces are. `*` is up whatever its
 * interfaces are. @param workloadPrefixes what names of workloads' interfaces begin with.
 * Source: Calico's felix/dataplane/linux/endpoint_mgr.go.
 */
export function hostStates(
  endpoints: readonly HostEndpoint[],
  interfaces: readonly Interface[],
  workloadPrefixes: readonly string[],
): Map<string, EndpointState> {
  const { named, wildcard } = hostInterfaces(endpoints as unknown as PolicedEndpoint[], interfaces, workloadPrefixes);
  return new Map(endpoints.map((endpoint) => {
    const own = interfaces.filter(({ name }) => named.get(name)?.id === endpoint.id);
    if (wildcard?.id === endpoint.id) return [endpoint.name, "up"];
    if (own.length === 0) return [endpoint.name, "error"];
    return [endpoint.name, own.every(({ up }) => up) ? "up" : "down"];
  }));
}

/** What is told of a state in the datastore. */
export const stateValue = (state: EndpointState): string => writeJson({ status: state });

/** The key under which a workload's state is told. */
export const workloadKey = (node: string, region: string, w: Workload): string =>
  workloadStatusKey({
    ...{ node, orchestrator: w.orchestrator, workload: w.workload, endpoint: w.endpoint },
    region: region || undefined,
  });

/** The key under which a host endpoint's state is told. */
export const hostKey = hostEndpointStatusKey;

/** Name of the file that says that a workload is up: `k8s shop%2Fweb eth0`. Source: Calico's libcalico-go/lib/names. */
export const statusFileName = ({ orchestrator, workload, endpoint }: Workload): string =>
  [orchestrator, workload, endpoint].map(escapePath).join(" ");

/** As Go's url.PathEscape. */
const escapePath = (text: string): string =>
  encodeURIComponent(text).replaceAll(/%(24|26|2B|3D|3A|40)/g, decodeURIComponent)
    .replaceAll(/[!*'()]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

/** What is in that file; what is empty is left out. */
export function statusFile({ interfaceName, mac, nets }: Workload): string {
  const of = (v: 4 | 6) => nets.filter((n) => n.v === v).map(formatCidr);
  const v4 = of(4), v6 = of(6);
  return writeJson({
    ...(interfaceName && { ifaceName: interfaceName }),
    ...(mac && { mac }),
    ...(v4.length > 0 && { ipv4Nets: v4 }),
    ...(v6.length > 0 && { ipv6Nets: v6 }),
  });
}
