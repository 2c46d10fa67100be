import { bits, type Family } from "../../lib/ip.ts";
import { type Address, addressKey } from "../../kernel/rtnetlink/address.ts";
import { type Forwarding, forwardingKey } from "../../kernel/rtnetlink/forwarding.ts";
import { neighbourKey, type StaticNeighbour } from "../../kernel/rtnetlink/neighbour.ts";
import { type Route, route, routeKey } from "../../kernel/rtnetlink/route.ts";
import type { TunnelDevice } from "../../kernel/rtnetlink/tunnel_device.ts";
import type { ClusterRoute, Desired, Encapsulation, NetworkSettings, OwnTunnel } from "../desired.ts";
import type { Interfaces } from "./interfaces.ts";
import { tunnelMtu } from "./mtu.ts";
import { exclusiveProtocol, tunnelNames } from "./ownership.ts";

/** Entries of the kernel's ports for tunnels, by their keys. */
export interface WantedTunnels {
  /** By name. */
  devices: Map<string, TunnelDevice>;
  addresses: Map<string, Address>;
  neighbours: Map<string, StaticNeighbour>;
  forwarding: Map<string, Forwarding>;
  /** Indexes of the VXLAN devices that are there. */
  forwarders: number[];
}

const familyOf = (e: Encapsulation): Family => (e === "vxlan6" ? 6 : 4);

/**
 * Devices of the tunnels that are on, and on those that are there already: the address, and where each VTEP is. A VXLAN
 * waits for the interface that has this node's address. Source: Calico felix/dataplane/linux/{vxlan,ipip,route}_mgr.go.
 */
export function wantedTunnels(desired: Desired, interfaces: Interfaces, host: number): WantedTunnels {
  const wanted: WantedTunnels = {
    devices: new Map(),
    addresses: new Map(),
    neighbours: new Map(),
    forwarding: new Map(),
    forwarders: [],
  };
  for (const [kind, own] of Object.entries(desired.tunnels) as [Encapsulation, OwnTunnel][]) {
    const v = familyOf(kind), name = tunnelNames[kind];
    const device = deviceOf(kind, own, desired, interfaces, tunnelMtu(kind, host, desired.settings));
    if (!device) continue;
    wanted.devices.set(name, device);
    const on = interfaces.named(name);
    if (!on?.up) continue;
    const address = { index: on.index, ip: own.ip, len: bits(v), scope: 0, flags: 0 };
    wanted.addresses.set(addressKey(address), address);
    if (kind === "ipip") continue;
    wanted.forwarders.push(on.index);
    for (const { ip, mac, host } of desired.vteps[v]) {
      const neighbour = { index: on.index, ip, mac }, entry = { index: on.index, mac, ip: host };
      wanted.neighbours.set(neighbourKey(neighbour), neighbour);
      wanted.forwarding.set(forwardingKey(entry), entry);
    }
  }
  return wanted;
}

function deviceOf(
  kind: Encapsulation,
  own: OwnTunnel,
  { ownAddresses, settings }: Desired,
  interfaces: Interfaces,
  mtuBytes: number,
): TunnelDevice | undefined {
  if (kind === "ipip") return { kind: "ipip", mtuBytes, up: true };
  const local = ownAddresses[familyOf(kind)], parent = local && interfaces.withAddress(local);
  if (!local || !own.mac) return undefined;
  // While this node's address is away (DHCP), a device that is there stays as it is.
  if (!parent) return interfaces.named(tunnelNames[kind]) && { kind: "vxlan", mtuBytes, up: true, mac: own.mac };
  const vxlan = { vni: settings.vxlanVni, port: settings.vxlanPort, parent: parent.index, local };
  return { kind: "vxlan", mtuBytes, up: true, mac: own.mac, vxlan };
}

/** Where packets to other nodes can leave now: interface and, through a tunnel, MTU. Undefined = not there, or down. */
export type Exits = Partial<Record<"direct4" | "direct6" | Encapsulation, { index: number; mtuBytes?: number }>>;

/** The exits of this moment. */
export function exits(desired: Desired, interfaces: Interfaces, host: number): Exits {
  const found: Exits = {};
  for (const v of [4, 6] as const) {
    const own = desired.ownAddresses[v], parent = own && interfaces.withAddress(own);
    if (parent?.up) found[`direct${v}`] = { index: parent.index };
  }
  for (const kind of Object.keys(desired.tunnels) as Encapsulation[]) {
    const on = interfaces.named(tunnelNames[kind]);
    if (on?.up) found[kind] = { index: on.index, mtuBytes: tunnelMtu(kind, host, desired.settings) };
  }
  return found;
}

/** One route as the kernel holds it; undefined while it has no exit. */
export function clusterRouteEntry(r: ClusterRoute, out: Exits, settings: NetworkSettings): Route | undefined {
  const { dst, by, via } = r;
  const exit = by === "ipip" ? out.ipip : out[`${by}${dst.v}` as const];
  if (!exit) return undefined;
  return route({
    ...{ dst, via, index: exit.index, mtuBytes: exit.mtuBytes },
    // Routes of a VXLAN's device are ours by the device.
    protocol: by === "vxlan" ? settings.routeProtocol : exclusiveProtocol(settings),
    onlink: via !== undefined,
  });
}

/** Entries of one family by their keys. */
export type RouteEntries = Record<Family, ReadonlyMap<string, Route>>;

/** Turns the cluster's routes into entries, each anew only when it or the exits changed: there are tens of thousands. */
export class ClusterRouteEntries {
  #routes: ReadonlyMap<string, ClusterRoute> | undefined;
  #on = "";
  #cache = new WeakMap<ClusterRoute, { key: string; entry: Route }>();
  #entries: RouteEntries = { 4: new Map(), 6: new Map() };

  /** The same maps while nothing changed. */
  entries(desired: Desired, out: Exits): RouteEntries {
    const { clusterRoutes, settings } = desired;
    const on = JSON.stringify([out, settings.routeProtocol]);
    if (clusterRoutes === this.#routes && on === this.#on) return this.#entries;
    if (on !== this.#on) this.#cache = new WeakMap();
    const found = { 4: new Map<string, Route>(), 6: new Map<string, Route>() };
    for (const r of clusterRoutes.values()) {
      let cached = this.#cache.get(r);
      if (!cached) {
        const entry = clusterRouteEntry(r, out, settings);
        if (!entry) continue;
        cached = { key: routeKey(entry), entry };
        this.#cache.set(r, cached);
      }
      found[r.dst.v].set(cached.key, cached.entry);
    }
    this.#routes = clusterRoutes;
    this.#on = on;
    this.#entries = found;
    return found;
  }
}
