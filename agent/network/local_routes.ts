import { bits, type Cidr, cidrOf, type Family } from "../../lib/ip.ts";
import { type StaticNeighbour } from "../../kernel/rtnetlink/neighbour.ts";
import { kind, type Route, route, routeKey, scope } from "../../kernel/rtnetlink/route.ts";
import type { LocalEndpoint, NetworkSettings } from "../desired.ts";
import type { HostInterface } from "./interfaces.ts";
import { exclusiveProtocol } from "./ownership.ts";

/**
 * Routes to an endpoint's addresses over its interface, which must be up. IPv4: link scope, as Calico's.
 * Source: Calico felix/dataplane/linux/endpoint_mgr.go, felix/routetable.
 */
export function endpointRoutes(endpoint: LocalEndpoint, on: HostInterface, settings: NetworkSettings): Route[] {
  const floating = settings.floatingIps ? endpoint.floatingIps.map((ip) => cidrOf(ip, bits(ip.v))) : [];
  return [...endpoint.nets, ...floating].map((dst) =>
    route({
      dst,
      index: on.index,
      protocol: settings.routeProtocol,
      metric: dst.v === 4 ? settings.metric4 : settings.metric6,
      scope: dst.v === 4 ? scope.link : scope.universe,
      source: dst.v === 4 ? settings.source4 : settings.source6,
    })
  );
}

/** Who has the endpoint's IPv4 addresses: no pod is asked by ARP when its MAC is known. IPv6 is left to the kernel. */
export function endpointNeighbours(endpoint: LocalEndpoint, on: HostInterface): StaticNeighbour[] {
  const mac = endpoint.mac?.toLowerCase();
  const hosts = endpoint.nets.filter((net) => net.v === 4 && net.len === 32);
  return mac === undefined ? [] : hosts.map(({ v, n }) => ({ index: on.index, ip: { v, n }, mac }));
}

/** A block's unused addresses end here instead of leaving by the default route. */
export const blackholeRoute = (block: Cidr, settings: NetworkSettings): Route =>
  route({ dst: block, kind: kind.blackhole, protocol: exclusiveProtocol(settings) });

/** Routes by their place in the kernel. Of two for one place that with the higher interface index is taken. */
export function byPlace(routes: Iterable<Route>, keyOf: (r: Route) => string = routeKey): Map<string, Route> {
  const found = new Map<string, Route>();
  for (const r of routes) {
    const key = keyOf(r), other = found.get(key);
    if (!other || (r.index ?? -1) > (other.index ?? -1)) found.set(key, r);
  }
  return found;
}

/** IP versions of an endpoint's addresses, IPv4 first. */
export const familiesOf = (endpoint: LocalEndpoint): Family[] =>
  ([4, 6] as const).filter((v) => endpoint.nets.some((net) => net.v === v));

/** Who has each interface: the endpoint with the smaller key. @returns by interface name. */
export function byInterface(endpoints: Iterable<LocalEndpoint>): Map<string, LocalEndpoint> {
  const found = new Map<string, LocalEndpoint>();
  for (const endpoint of endpoints) {
    const other = found.get(endpoint.interfaceName);
    if (!other || endpoint.key < other.key) found.set(endpoint.interfaceName, endpoint);
  }
  return found;
}
