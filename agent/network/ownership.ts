import { type Family, parseCidr, sameIp } from "../../lib/ip.ts";
import type { Address } from "../../kernel/rtnetlink/address.ts";
import { kind, type Route } from "../../kernel/rtnetlink/route.ts";
import type { Rule } from "../../kernel/rtnetlink/rule.ts";
import type { Encapsulation, NetworkSettings } from "../desired.ts";
import type { Interfaces } from "./interfaces.ts";

/** Calico's names of the tunnels' devices. */
export const tunnelNames: Record<Encapsulation, string> = {
  ipip: "tunl0",
  vxlan4: "vxlan.calico",
  vxlan6: "vxlan-v6.calico",
};

/** Devices that are ours by their name, with their kind; `tunl0` is the kernel's own and only used by us. */
export const ownDevices = ({ wireguard }: Pick<NetworkSettings, "wireguard">): ReadonlyMap<string, string> =>
  new Map([
    [tunnelNames.vxlan4, "vxlan"],
    [tunnelNames.vxlan6, "vxlan"],
    ...Object.values(wireguard.deviceName).map((name): [string, string] => [name, "wireguard"]),
  ]);

/** Devices on which addresses, neighbours and forwarding are ours, whoever made them. */
export const isTunnelName = (name: string, { wireguard }: Pick<NetworkSettings, "wireguard">): boolean =>
  Object.values(tunnelNames).includes(name) || Object.values(wireguard.deviceName).includes(name);

/** Calico's own number for routes that no interface marks as ours, while pods' routes have the number of "boot". */
const calicoProtocol = 80;
const bootProtocol = 3, kernelProtocol = 2, birdProtocol = 12;
const linkLocal = parseCidr("fe80::/64");
/** How long routes of an unknown endpoint's interface stay: the CNI plugin wires before we hear of the endpoint. */
export const graceMs = 10_000;

/** Protocol of routes that are ours wherever they lead: blackholes, and routes to other nodes. */
export const exclusiveProtocol = (settings: NetworkSettings): number =>
  settings.routeProtocol === bootProtocol ? calicoProtocol : settings.routeProtocol;

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
 * True when a route of the main table is ours to change and remove: our own protocol number anywhere, on our tunnels'
 * devices whatever the kernel did not make, on `tunl0` what a BIRD of Calico left, or on a pod's interface every route
 * (`removeExternalRoutes`) or those with our numbers. On the interface of an unknown endpoint only after a grace period.
 * IPv6's link-local network is always the kernel's.
 * Source: Calico felix/routetable/ownershippol.
 */
export function ownsRoute(r: Route, { interfaces, settings, known, nowMs }: Ownership): boolean {
  if (r.dst.v === 6 && sameIp(r.dst, linkLocal)) return false;
  // DIFFERS: Calico's number stays ours after the setting changed, or what was made before would be in the way for ever.
  if (r.protocol === exclusiveProtocol(settings) || r.protocol === calicoProtocol) return true;
  const on = r.index === undefined ? undefined : interfaces.at(r.index);
  if (on?.name === tunnelNames.ipip) return r.protocol === birdProtocol;
  if (on && isTunnelName(on.name, settings)) return r.protocol !== kernelProtocol;
  if (!on || !isPodInterface(on.name, settings)) return false;
  if (!settings.removeExternalRoutes && r.protocol !== settings.routeProtocol) return false;
  return known.has(on.index) || nowMs - on.firstSeenMs >= graceMs;
}

/** True when a permanent neighbour is ours: all of those on tunnels and, with the same grace period, on pods' interfaces. */
export function ownsNeighbour(
  n: { index: number },
  { interfaces, settings, known, nowMs }: Ownership,
): boolean {
  const on = interfaces.at(n.index);
  if (on && isTunnelName(on.name, settings)) return true;
  if (!on || !isPodInterface(on.name, settings)) return false;
  return known.has(on.index) || nowMs - on.firstSeenMs >= graceMs;
}

/** True when an address is ours: all on our tunnels' devices but IPv6's link-local one, which is the kernel's. */
export function ownsAddress(
  { index, ip, len }: Pick<Address, "index" | "ip" | "len">,
  { interfaces, settings }: Ownership,
): boolean {
  const on = interfaces.at(index);
  return on !== undefined && isTunnelName(on.name, settings) && !(ip.v === 6 && len === 64);
}

/**
 * True when a route of WireGuard's table is ours: on its device all but the kernel's, and the ways past it or
 * to nowhere. While it is
 * off the table may be another's, and only what has our own number is ours.
 */
export function ownsWireguardRoute(r: Route, { interfaces, settings }: Ownership): boolean {
  const { enabled, deviceName } = settings.wireguard, v = r.dst.v;
  if (r.kind === kind.throw || r.kind === kind.prohibit) {
    return enabled[v] || r.protocol === exclusiveProtocol(settings);
  }
  const on = r.index === undefined ? undefined : interfaces.at(r.index);
  return on?.name === deviceName[v] && r.protocol !== kernelProtocol;
}

/**
 * True when a rule is ours: it leads to WireGuard's table for packets without its mark, as Felix's does, or has our own
 * number, as those made before table or mark changed.
 */
export function ownsWireguardRule(r: Rule, family: Family, settings: NetworkSettings): boolean {
  const { table, mark } = settings.wireguard;
  if (r.protocol === exclusiveProtocol(settings) && r.invert && r.mark !== 0) return true;
  return r.table === table[family] && r.invert && r.mark === mark && r.mask === mark;
}
