import { type Ip, sameIp } from "../../lib/ip.ts";
import type { PolicedEndpoint } from "../desired_policy.ts";

/** An interface of this host, with its addresses. */
export interface HostInterface {
  name: string;
  addresses: readonly Ip[];
}

/** Which host endpoint stands for which interface. */
export interface HostInterfaces {
  /** By interface name. */
  named: Map<string, PolicedEndpoint>;
  /** For every other interface: the endpoint with the name `*`. */
  wildcard: PolicedEndpoint | undefined;
}

/**
 * Finds the host endpoint of each interface: one with its name, or one without a name that expects one of its addresses.
 * Of several the smallest id wins, whatever way it matched. Endpoints with a name stand for it even while the interface
 * does not exist, so that it is guarded from its first packet on; workloads' interfaces are nobody's host interface.
 * Source: Calico's felix/dataplane/linux/endpoint_mgr.go.
 */
export function hostInterfaces(
  endpoints: Iterable<PolicedEndpoint>,
  interfaces: readonly HostInterface[],
  workloadPrefixes: readonly string[] = [],
): HostInterfaces {
  const named = new Map<string, PolicedEndpoint>();
  let wildcard: PolicedEndpoint | undefined;
  const inOrder = [...endpoints].sort((a, b) => (a.id < b.id ? -1 : 1));
  for (const endpoint of inOrder) {
    if (endpoint.interfaceName === "*") {
      wildcard ??= endpoint;
      continue;
    }
    for (const name of namesOf(endpoint, interfaces)) {
      if (!named.has(name) && !workloadPrefixes.some((p) => name.startsWith(p))) named.set(name, endpoint);
    }
  }
  return { named, wildcard };
}

function namesOf(endpoint: PolicedEndpoint, interfaces: readonly HostInterface[]): string[] {
  if (endpoint.interfaceName !== "") return [endpoint.interfaceName];
  const expects = (ip: Ip) => endpoint.nets.some((net) => sameIp({ v: net.v, n: net.n }, ip));
  return interfaces.filter((i) => i.addresses.some(expects)).map((i) => i.name);
}
