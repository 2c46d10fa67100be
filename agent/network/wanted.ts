import { type Family, formatIp } from "../../lib/ip.ts";
import type { FileContent } from "../../kernel/files.ts";
import type { Address } from "../../kernel/rtnetlink/address.ts";
import type { Bandwidth } from "../../kernel/rtnetlink/bandwidth.ts";
import type { Forwarding } from "../../kernel/rtnetlink/forwarding.ts";
import type { LinkState } from "../../kernel/rtnetlink/link.ts";
import type { StaticNeighbour } from "../../kernel/rtnetlink/neighbour.ts";
import { kind, type Route, route, routeKey } from "../../kernel/rtnetlink/route.ts";
import type { TunnelDevice } from "../../kernel/rtnetlink/tunnel_device.ts";
import type { WireguardDevice, WireguardPeer } from "../../kernel/rtnetlink/wireguard.ts";
import type { Rule } from "../../kernel/rtnetlink/rule.ts";
import type { Sysctl } from "../../kernel/sysctl.ts";
import type { Desired, LocalEndpoint } from "../desired.ts";
import { passing } from "./bandwidth.ts";
import type { HostInterface, Interfaces } from "./interfaces.ts";
import { type EndpointMemory, sysctlKey } from "./endpoint_entries.ts";
import { blackholeRoute, byInterface, byPlace } from "./local_routes.ts";
import { hostMtu, podMtu } from "./mtu.ts";
import { hostSysctls } from "./sysctls.ts";
import { type ClusterRouteEntries, exits, type RouteEntries, wantedTunnels } from "./tunnels.ts";
import { wantedWireguard, type WireguardKeys } from "./wireguard.ts";

/** Entries of the kernel's ports, by their keys. */
export interface WantedNetwork {
  /** By interface index and path: an interface that is made anew has its switches anew. Index 0 = the whole host. */
  sysctls: Map<string, Sysctl>;
  /** Keys of `sysctls` by interface index. */
  sysctlsOf: Map<number, string[]>;
  /** By interface index. */
  links: Map<number, LinkState>;
  routes4: Map<string, Route>;
  routes6: Map<string, Route>;
  neighbours: Map<string, StaticNeighbour>;
  neighbours6: Map<string, StaticNeighbour>;
  /** Tunnels' devices, by name. */
  tunnels: Map<string, TunnelDevice>;
  /** Of the tunnels. */
  addresses: Map<string, Address>;
  forwarding: Map<string, Forwarding>;
  /** Indexes of VXLAN devices, whose forwarding tables are ours. */
  forwarders: readonly number[];
  /** What is set on WireGuard's devices, by name, and their peers, by peerKey(). */
  wireguard: Map<string, WireguardDevice>;
  peers: Map<string, WireguardPeer>;
  /** Of WireGuard's tables. */
  wireguardRoutes4: Map<string, Route>;
  wireguardRoutes6: Map<string, Route>;
  rules4: Map<string, Rule>;
  rules6: Map<string, Rule>;
  /** By name of the host side. */
  bandwidths: Map<string, Bandwidth>;
  /** MTU of the pods' sides, by the index of the host's side. */
  farMtus: Map<number, number>;
  /** MTU of new pods. */
  podMtu: number;
  /** By path. */
  files: Map<string, FileContent>;
  /** Addresses of this node's that several interfaces have, with their names: packets to them may end at the wrong one. */
  rivals: Map<string, string>;
  /** What belongs to each endpoint, by its key; one that is missing here has no interface, or another has it. */
  ofEndpoint: Map<string, EndpointEntries>;
}

/** Keys of one endpoint's entries. `raised` = its interface is up, without which there are no routes. */
export interface EndpointEntries {
  raised: boolean;
  sysctls: string[];
  links: number[];
  routes4: string[];
  routes6: string[];
  neighbours: string[];
}

/** What the network's entries depend on besides Desired. */
export interface HostFacts {
  interfaces: Interfaces;
  /** `net/ipv4/conf/default/rp_filter` at start. */
  rpFilter: string | undefined;
  /** File for the MTU of new pods. */
  mtuFile: string | undefined;
  /** What new pods once got as their MTU: an interface that has one of these follows, others were given their own. */
  podMtus: ReadonlySet<number>;
  /** Private keys of this node's WireGuard devices. */
  wireguardKeys: WireguardKeys;
  /** Remembers the entries of routes that did not change. */
  clusterEntries: ClusterRouteEntries;
  /** Remembers the entries of endpoints that did not change. */
  endpointEntries: EndpointMemory;
}

/** Everything that the network of this node needs in the kernel. Pure; the whole of it each time. */
export function wantedNetwork(desired: Desired, facts: HostFacts): WantedNetwork {
  const { settings } = desired, { interfaces, rpFilter, mtuFile } = facts;
  const host = hostMtu(interfaces.all(), settings.mtuInterfacePattern);
  const { devices, addresses, neighbours, forwarding, forwarders } = wantedTunnels(desired, interfaces, host);
  const wireguard = wantedWireguard(desired, interfaces, host, facts.wireguardKeys);
  const ofHost = hostSysctls(settings).map((s): [string, Sysctl] => [sysctlKey(0, s.path), s]);
  const wanted: WantedNetwork = {
    sysctls: new Map(ofHost),
    sysctlsOf: new Map([[0, ofHost.map(([key]) => key)]]),
    links: new Map(),
    routes4: new Map(),
    routes6: new Map(),
    neighbours: new Map([...neighbours].filter(([, n]) => n.ip.v === 4)),
    neighbours6: new Map([...neighbours].filter(([, n]) => n.ip.v === 6)),
    ...{ forwarding, forwarders, wireguard: wireguard.settings, peers: wireguard.peers },
    tunnels: new Map([...devices, ...wireguard.devices]),
    addresses: new Map([...addresses, ...wireguard.addresses]),
    ...{ wireguardRoutes4: new Map(), wireguardRoutes6: new Map(), rules4: new Map(), rules6: new Map() },
    bandwidths: new Map(),
    farMtus: new Map(),
    podMtu: podMtu(host, desired.encapsulations, settings),
    files: new Map(),
    ofEndpoint: new Map(),
    rivals: rivalsOf(desired, [...addresses.values(), ...wireguard.addresses.values()], interfaces),
  };
  if (mtuFile !== undefined) wanted.files.set(mtuFile, { text: String(wanted.podMtu) });
  const routes: Route[] = desired.blackholes.map((block) => blackholeRoute(block, settings));
  const memory = facts.endpointEntries;
  memory.begin(settings, rpFilter);
  for (const [name, endpoint] of byInterface(desired.endpoints.values())) {
    const on = interfaces.named(name);
    if (!on) continue;
    const { sysctls, routes: own, neighbours } = memory.of(endpoint, on, settings, rpFilter);
    for (const [key, sysctl] of sysctls) wanted.sysctls.set(key, sysctl);
    wanted.sysctlsOf.set(on.index, sysctls.map(([key]) => key));
    const follows = on.mtuBytes === wanted.podMtu || facts.podMtus.has(on.mtuBytes);
    wanted.links.set(on.index, { up: true, ...(follows ? { mtuBytes: wanted.podMtu } : {}) });
    if (follows) wanted.farMtus.set(on.index, wanted.podMtu);
    const limits = bandwidthEntry(endpoint, on, follows ? wanted.podMtu : on.mtuBytes);
    if (limits) wanted.bandwidths.set(name, limits);
    routes.push(...own);
    for (const [key, n] of neighbours) wanted.neighbours.set(key, n);
    wanted.ofEndpoint.set(endpoint.key, {
      raised: on.up,
      sysctls: sysctls.map(([key]) => key),
      links: [on.index],
      ...keysOf(settings.routeSyncDisabled ? [] : own, memory),
      neighbours: neighbours.map(([key]) => key),
    });
  }
  if (!settings.routeSyncDisabled) {
    const cluster = facts.clusterEntries.entries(desired, exits(desired, interfaces, host));
    wanted.routes4 = withCluster(routes, 4, cluster, memory);
    wanted.routes6 = withCluster(routes, 6, cluster, memory);
    wanted.wireguardRoutes4 = wireguard.routes[4];
    wanted.wireguardRoutes6 = wireguard.routes[6];
    wanted.rules4 = wireguard.rules[4];
    wanted.rules6 = wireguard.rules[6];
  }
  return wanted;
}

function rivalsOf({ ownAddresses }: Desired, ofTunnels: Address[], interfaces: Interfaces): Map<string, string> {
  const own = Object.values(ownAddresses).flatMap((ip) => {
    const on = ip && interfaces.withAddress(ip);
    return on ? [{ ip, index: on.index }] : [];
  });
  return new Map([...own, ...ofTunnels].flatMap(({ ip, index }): [string, string][] => {
    const others = interfaces.othersWith(ip, index), mine = interfaces.at(index)?.name;
    return others.length > 0 ? [[formatIp(ip), `${mine} has it, and so has ${others.join(", ")}`]] : [];
  }));
}

function bandwidthEntry({ bandwidth }: LocalEndpoint, on: HostInterface, mtuBytes: number): Bandwidth | undefined {
  if (!bandwidth) return undefined;
  const { ingress, egress } = bandwidth;
  return { index: on.index, ingress: passing(ingress, mtuBytes), egress: passing(egress, mtuBytes) };
}

/** This node's own routes and those to other nodes: pods here win, whoever the datastore says has their address. */
function withCluster(own: Route[], v: Family, cluster: RouteEntries, memory: EndpointMemory): Map<string, Route> {
  const routes = own.filter((r) => r.dst.v === v);
  const all = new Map(cluster[v]);
  if (all.size > 0) {
    for (const r of routes.filter((r) => r.kind !== kind.blackhole)) all.delete(routeKey(route({ dst: r.dst })));
  }
  for (const [key, r] of byPlace(routes, (r) => memory.keyOf(r))) {
    if (r.kind !== kind.blackhole || !all.has(key)) all.set(key, r);
  }
  return all;
}

function keysOf(routes: readonly Route[], memory: EndpointMemory): Pick<EndpointEntries, "routes4" | "routes6"> {
  const keys = (v: Family) => routes.filter((r) => r.dst.v === v).map((r) => memory.keyOf(r));
  return { routes4: keys(4), routes6: keys(6) };
}
