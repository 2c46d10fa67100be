import { bits, type Cidr, cidrOf, type Family, parseCidr, sameIp } from "../../lib/ip.ts";
import { type StaticNeighbour } from "../../kernel/rtnetlink/neighbour.ts";
import { kind, type Route, route, routeKey, scope } from "../../kernel/rtnetlink/route.ts";
import type { LocalEndpoint, NetworkSettings } from "../desired.ts";
import type { HostInterface, Interfaces } from "./interfaces.ts";

/** Calico's own number for routes that no interface marks as ours, while pods' routes have the number of "boot". */
const calicoProtocol = 80;
const bootProtocol = 3;
const linkLocal = parseCidr("fe80::/64");
/** How long routes of an unknown endpoint's interface stay: the CNI plugin wires before we hear of the endpoint. */
export const graceMs = 10_000;

/** Protocol of routes that are ours wherever they lead: blackholes, and tunnels later. */
const exclusiveProtocol = (settings: NetworkSettings): number =>
  settings.routeProtocol === bootProtocol ? calicoProtocol : settings.routeProtocol;

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
export function byPlace(routes: Iterable<Route>): Map<string, Route> {
  const found = new Map<string, Route>();
  for (const r of routes) {
    const key = routeKey(r), other = found.get(key);
    if (!other || (r.index ?? -1) > (other.index ?? -1)) found.set(key, r);
  }
  return found;
}

/** What tells ours from others'. */
export interface Ownership {
  interfaces: Interfaces;
  settings: NetworkSettings;
  /** Indexes of interfaces whose endpoint is or was known; on the others the grace period holds. */
  known: ReadonlySet<number>;
  nowMs: number;
}

/** True for an interface that is a pod's host side by its name. */
export const isPodInterface = (name: string, settings: NetworkSettings): boolean =>
  settings.interfacePrefixes.some((prefix) => name.startsWith(prefix));

/**
 * True when a route of the main table is ours to change and remove: our own protocol number anywhere, or on a pod's
 * interface every route (`removeExternalRoutes`) or those with our numbers. On the interface of an unknown endpoint only
 * after a grace period. IPv6's link-local network is always the kernel's.
 * Source: Calico felix/routetable/ownershippol.
 */
export function ownsRoute(r: Route, { interfaces, settings, known, nowMs }: Ownership): boolean {
  if (r.dst.v === 6 && sameIp(r.dst, linkLocal)) return false;
  // DIFFERS: Calico's number stays ours after the setting changed, or what was made before would be in the way for ever.
  if (r.protocol === exclusiveProtocol(settings) || r.protocol === calicoProtocol) return true;
  const on = r.index === undefined ? undefined : interfaces.at(r.index);
  if (!on || !isPodInterface(on.name, settings)) return false;
  if (!settings.removeExternalRoutes && r.protocol !== settings.routeProtocol) return false;
  return known.has(on.index) || nowMs - on.firstSeenMs >= graceMs;
}

/** True when a permanent neighbour is ours: all of those on a pod's interface, with the same grace period. */
export function ownsNeighbour(
  n: { index: number },
  { interfaces, settings, known, nowMs }: Ownership,
): boolean {
  const on = interfaces.at(n.index);
  if (!on || !isPodInterface(on.name, settings)) return false;
  return known.has(on.index) || nowMs - on.firstSeenMs >= graceMs;
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
