import { bits, type Cidr, cidrOf, type Family, formatCidr, formatIp } from "../../lib/ip.ts";
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
 * owner is reached as without WireGuard: this node's networks, and those of nodes without a key.
 * Source: Calico felix/wireguard/wireguard.go, dataplane/linux/wireguard_mgr.go.
 */
export function wireguardPlan(
  v: Family,
  owned: Iterable<Owned>,
  nodes: ResolvedNodes,
  settings: WireguardSettings,
): WireguardPlan {
  const { own, others } = nodes, { hostEncryption } = settings;
  const owners = new Map<string, Owned>();
  const add = (o: Owned) => void owners.set(formatCidr(o.dst), o);
  for (const o of owned) {
    const isHost = o.dst.len === bits(v) && nodes.hostAddresses.has(formatIp(o.dst));
    if (o.dst.v === v && !isHost) add(o);
  }
  for (const node of [...others.values(), ...(own ? [own] : [])]) {
    const tunnels = [v === 4 ? node.ipip : undefined, node.vtep[v]?.ip, node.wireguardIp[v]];
    for (const ip of tunnels) if (ip) add({ dst: cidrOf(ip, bits(v)), node: node.name });
    const host = node.address[v]?.ip;
    if (hostEncryption && host && node !== own) add({ dst: cidrOf(host, bits(v)), node: node.name });
  }
  const isPeer = (name: string) => Boolean(others.get(name)?.wireguardKey[v] && others.get(name)?.address[v]);
  const allowed = new Map<string, Cidr[]>(), bypassed: Cidr[] = [];
  for (const { dst, node } of owners.values()) {
    if (!isPeer(node)) bypassed.push(dst);
    else if (allowed.has(node)) allowed.get(node)!.push(dst);
    else allowed.set(node, [dst]);
  }
  const peers = [...others.values()].filter(({ name }) => isPeer(name)).map((node) => ({
    node: node.name,
    publicKey: node.wireguardKey[v]!,
    endpoint: node.address[v]!.ip,
    allowed: allowed.get(node.name) ?? [],
  }));
  // With host encryption packets of the host itself leave by the device: without an address of its own it has the host's.
  const ip = own?.wireguardIp[v] ?? (hostEncryption ? own?.address[v]?.ip : undefined);
  return { ip, peers, bypassed };
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

/** What WireGuard needs in the kernel: a device, and once it is up the rest. Packets come to it by the rule, made last. */
export function wantedWireguard(
  { wireguard, settings }: Desired,
  interfaces: Interfaces,
  host: number,
  keys: WireguardKeys,
): WantedWireguard {
  const wanted: WantedWireguard = {
    ...{ devices: new Map(), settings: new Map(), peers: new Map(), addresses: new Map() },
    routes: { 4: new Map(), 6: new Map() },
    rules: { 4: new Map(), 6: new Map() },
  };
  for (const v of families) {
    const plan = wireguard[v], privateKey = keys[v];
    if (!plan || privateKey === undefined) continue;
    const { deviceName, port, mark, table, rulePriority, keepaliveSeconds } = settings.wireguard;
    const device = deviceName[v];
    wanted.devices.set(device, { kind: "wireguard", mtuBytes: wireguardMtu(v, host, settings.wireguard), up: true });
    const on = interfaces.named(device);
    if (!on?.up) continue;
    wanted.settings.set(device, { privateKey, port: port[v], mark });
    const address = plan.ip && { index: on.index, ip: plan.ip, len: bits(v), scope: 0, flags: 0 };
    if (address) wanted.addresses.set(addressKey(address), address);
    const place = (r: Pick<Route, "dst"> & Partial<Route>) => {
      const entry = route({ table: table[v], protocol: exclusiveProtocol(settings), ...r });
      wanted.routes[v].set(routeKey(entry), entry);
    };
    const ownKey = publicKeyOf(privateKey);
    for (const { publicKey, endpoint, allowed } of plan.peers) {
      // The kernel keeps no peer with the device's own key.
      if (publicKey === ownKey) continue;
      const peer = { device, publicKey, endpoint: { ip: endpoint, port: port[v] }, keepaliveSeconds, allowed };
      wanted.peers.set(peerKey(peer), peer);
      for (const dst of allowed) place({ dst, index: on.index, scope: v === 4 ? scope.link : scope.universe });
    }
    for (const dst of plan.bypassed) place({ dst, kind: kind.throw });
    const rule = { family: v, priority: rulePriority, table: table[v], mark, mask: mark, invert: true };
    wanted.rules[v].set(ruleKey({ ...rule, protocol: 0 }), { ...rule, protocol: exclusiveProtocol(settings) });
  }
  return wanted;
}
