import {
  bits,
  type Cidr,
  cidrOf,
  contains,
  type Family,
  formatCidr,
  formatIp,
  sameIp,
  tryParseIp,
} from "../../lib/ip.ts";
import { publicKeyOf } from "../../lib/wireguard_key.ts";
import { type Address, addressKey } from "../../kernel/rtnetlink/address.ts";
import { kind, type Route, route, routeKey, scope } from "../../kernel/rtnetlink/route.ts";
import { type Rule, ruleKey } from "../../kernel/rtnetlink/rule.ts";
import type { TunnelDevice } from "../../kernel/rtnetlink/tunnel_device.ts";
import { peerKey, type WireguardDevice, type WireguardPeer } from "../../kernel/rtnetlink/wireguard.ts";
import type { Desired, WireguardPlan, WireguardSettings } from "../desired.ts";
import type { ResolvedNodes } from "./cluster_nodes.ts";
import type { Owned } from "./cluster_routes.ts";
import type { Interfaces } from "./interfaces.ts";
import { wireguardMtu } from "./mtu.ts";
import { exclusiveProtocol } from "./ownership.ts";

const families = [4, 6] as const;

/**
 * WireGuard of one IP version: a peer is another node with an address and a key of its own, and its networks are its
 * blocks, what it borrowed and its tunnels' addresses; with host encryption its own address too. Whatever else has an
 * owner is reached as without WireGuard: this node's networks, and those of nodes without a key. Where encryption is
 * mandatory those of other nodes are closed instead, and with them all that the pools may ever give to anybody; hosts' own
 * addresses never are, because etcd, BGP and WireGuard itself are reached there.
 * Source: Calico felix/wireguard/wireguard.go, dataplane/linux/wireguard_mgr.go; mandatory is tortie's own.
 * @param pools networks of the pools.
 */
export function wireguardPlan(
  v: Family,
  owned: Iterable<Owned>,
  nodes: ResolvedNodes,
  settings: WireguardSettings,
  pools: readonly Cidr[] = [],
): WireguardPlan {
  const { own, others } = nodes, { mandatory } = settings;
  const owners = ownersOf(v, owned, nodes, settings);
  const isPeer = (name: string) => Boolean(others.get(name)?.wireguardKey[v] && others.get(name)?.address[v]);
  const allowed = new Map<string, Cidr[]>(), bypassed: Cidr[] = [], closed: Cidr[] = [];
  for (const { dst, node } of owners.values()) {
    if (!isPeer(node)) (mandatory && node !== own?.name && !isHost(dst, nodes) ? closed : bypassed).push(dst);
    else if (allowed.has(node)) allowed.get(node)!.push(dst);
    else allowed.set(node, [dst]);
  }
  if (mandatory) {
    const ofVersion = pools.filter((p) => p.v === v);
    closed.push(...ofVersion.filter((p) => !closed.some((c) => c.len === p.len && sameIp(c, p))));
    bypassed.push(...hostsInside(ofVersion, nodes).filter((dst) => !owners.has(formatCidr(dst))));
  }
  const peers = [...others.values()].filter(({ name }) => isPeer(name)).map((node) => ({
    node: node.name,
    publicKey: node.wireguardKey[v]!,
    endpoint: node.address[v]!.ip,
    allowed: allowed.get(node.name) ?? [],
  }));
  // With host encryption packets of the host itself leave by the device: without an address of its own it has the host's.
  const ip = own?.wireguardIp[v] ?? (settings.hostEncryption ? own?.address[v]?.ip : undefined);
  return { ip, peers, bypassed, closed };
}

/** Whose which network is, by its text. */
function ownersOf(
  v: Family,
  owned: Iterable<Owned>,
  nodes: ResolvedNodes,
  { hostEncryption }: WireguardSettings,
): Map<string, Owned> {
  const { own, others } = nodes;
  const owners = new Map<string, Owned>();
  const add = (o: Owned) => void owners.set(formatCidr(o.dst), o);
  for (const o of owned) if (o.dst.v === v && !isHost(o.dst, nodes)) add(o);
  for (const node of [...others.values(), ...(own ? [own] : [])]) {
    const tunnels = [v === 4 ? node.ipip : undefined, node.vtep[v]?.ip, node.wireguardIp[v]];
    for (const ip of tunnels) if (ip) add({ dst: cidrOf(ip, bits(v)), node: node.name });
    const host = node.address[v]?.ip;
    if (hostEncryption && host && node !== own) add({ dst: cidrOf(host, bits(v)), node: node.name });
  }
  return owners;
}

const isHost = (dst: Cidr, { hostAddresses }: ResolvedNodes): boolean =>
  dst.len === bits(dst.v) && hostAddresses.has(formatIp(dst));

/** Hosts' own addresses that lie in a pool. */
const hostsInside = (pools: readonly Cidr[], { hostAddresses }: ResolvedNodes): Cidr[] =>
  [...hostAddresses].flatMap((text) => {
    const ip = tryParseIp(text);
    return ip && pools.some((p) => contains(p, ip)) ? [cidrOf(ip, bits(ip.v))] : [];
  });

/** Why nodes are not reached although they are there: encryption is mandatory and they have no key. By node. */
export function unencrypted(
  nodes: ResolvedNodes,
  { mandatory, enabled }: WireguardSettings,
): ResolvedNodes["findings"] {
  const without = (v: Family) =>
    [...nodes.others.values()].filter((n) => n.address[v] && !n.wireguardKey[v]).map(({ name }) => ({
      node: name,
      why: `no WireGuard key of IPv${v} is known of it, and TortieWireguardMandatory lets nothing out in clear`,
    }));
  return families.flatMap((v) => (mandatory && enabled[v] ? without(v) : []));
}

/** Private keys of this node's devices, base64; a version without one has no WireGuard. */
export type WireguardKeys = Partial<Record<Family, string>>;

/** Entries of the kernel's ports for WireGuard, by their keys. */
export interface WantedWireguard {
  /** By name, as are `settings`. */
  devices: Map<string, TunnelDevice>;
  settings: Map<string, WireguardDevice>;
  peers: Map<string, WireguardPeer>;
  addresses: Map<string, Address>;
  routes: Record<Family, Map<string, Route>>;
  rules: Record<Family, Map<string, Rule>>;
}

/** Metric of the routes that close networks: whatever else leads there comes first. */
const lastMetric = 0x7fffffff;

/**
 * What WireGuard needs in the kernel: a device, and once it is up the rest. Packets come to it by the rule, made last. What
 * is closed is closed without a device too.
 */
export function wantedWireguard(
  desired: Pick<Desired, "wireguard" | "settings" | "endpoints">,
  interfaces: Interfaces,
  host: number,
  keys: WireguardKeys,
): WantedWireguard {
  const { settings } = desired, { deviceName, mark, table, rulePriority } = settings.wireguard;
  const wanted: WantedWireguard = {
    ...{ devices: new Map(), settings: new Map(), peers: new Map(), addresses: new Map() },
    routes: { 4: new Map(), 6: new Map() },
    rules: { 4: new Map(), 6: new Map() },
  };
  for (const v of families) {
    const plan = desired.wireguard[v], privateKey = keys[v];
    if (!plan) continue;
    const place: Place = (r) => {
      const entry = route({ table: table[v], protocol: exclusiveProtocol(settings), ...r });
      wanted.routes[v].set(routeKey(entry), entry);
    };
    const mtuBytes = wireguardMtu(v, host, settings.wireguard);
    if (privateKey !== undefined) wanted.devices.set(deviceName[v], { kind: "wireguard", mtuBytes, up: true });
    const on = privateKey === undefined ? undefined : interfaces.named(deviceName[v]);
    if (on?.up) throughDevice(v, plan, on.index, privateKey!, settings.wireguard, wanted, place);
    else if (plan.closed.length === 0) continue;
    for (const dst of plan.closed) place({ dst, kind: kind.prohibit, metric: lastMetric });
    for (const dst of [...plan.bypassed, ...podsHere(v, plan, desired)]) place({ dst, kind: kind.throw });
    const rule = { family: v, priority: rulePriority, table: table[v], mark, mask: mark, invert: true };
    wanted.rules[v].set(ruleKey({ ...rule, protocol: 0 }), { ...rule, protocol: exclusiveProtocol(settings) });
  }
  return wanted;
}

type Place = (r: Pick<Route, "dst"> & Partial<Route>) => void;

/** Settings, address and peers of a device that is up, and the routes to what peers have. */
function throughDevice(
  v: Family,
  plan: WireguardPlan,
  index: number,
  privateKey: string,
  { deviceName, port, mark, keepaliveSeconds }: WireguardSettings,
  wanted: WantedWireguard,
  place: Place,
): void {
  const device = deviceName[v], ownKey = publicKeyOf(privateKey);
  wanted.settings.set(device, { privateKey, port: port[v], mark });
  const address = plan.ip && { index, ip: plan.ip, len: bits(v), scope: 0, flags: 0 };
  if (address) wanted.addresses.set(addressKey(address), address);
  for (const { publicKey, endpoint, allowed } of plan.peers) {
    // The kernel keeps no peer with the device's own key.
    if (publicKey === ownKey) continue;
    const peer = { device, publicKey, endpoint: { ip: endpoint, port: port[v] }, keepaliveSeconds, allowed };
    wanted.peers.set(peerKey(peer), peer);
    for (const dst of allowed) place({ dst, index, scope: v === 4 ? scope.link : scope.universe });
  }
}

/** Pods of this host that lie in a closed network and in none of this node's: theirs no block says. */
const podsHere = (v: Family, { closed, bypassed }: WireguardPlan, { endpoints }: Pick<Desired, "endpoints">): Cidr[] =>
  closed.length === 0 ? [] : [...endpoints.values()].flatMap(({ nets }) =>
    nets.filter((net) => {
      const inside = (c: Cidr) => c.len <= net.len && contains(c, net);
      return net.v === v && closed.some(inside) && !bypassed.some(inside);
    })
  );
