import { contains, type Family, formatIp, type Ip, tryParseIp } from "../lib/ip.ts";
import { isObject, type Json } from "../lib/json64.ts";
import type { Pool } from "../ipam/pools/pool.ts";

/** A kind of tunnel that gives the node an address of its own. */
export interface TunnelKind {
  /** Stored with the address as its attribute `type`. */
  type: string;
  /** IPAM handle of a node's address. */
  handle(node: string): string;
  family: Family;
  /** Where the Node holds the address. */
  field: readonly [string] | readonly [string, string];
  /** True for pools that need it; the node's status says whether WireGuard runs. */
  wants(pool: Pool, status: Record<string, Json>): boolean;
  /** Not used while WireGuard also encrypts between hosts: its device then has the node's own address. */
  hostEncryptionReplaces?: true;
}

const isOn = (mode: string | undefined): boolean => mode === "Always" || mode === "CrossSubnet";

/** All kinds, in the order in which addresses are taken. Source: Calico's node/pkg/allocateip. */
export const tunnelKinds: readonly TunnelKind[] = [
  {
    type: "wireguardTunnelAddress",
    handle: (node) => `wireguard-tunnel-addr-${node}`,
    family: 4,
    field: ["wireguard", "interfaceIPv4Address"],
    wants: (_pool, status) => isText(status.wireguardPublicKey),
    hostEncryptionReplaces: true,
  },
  {
    type: "wireguardV6TunnelAddress",
    handle: (node) => `wireguard-v6-tunnel-addr-${node}`,
    family: 6,
    field: ["wireguard", "interfaceIPv6Address"],
    wants: (_pool, status) => isText(status.wireguardPublicKeyV6),
    hostEncryptionReplaces: true,
  },
  {
    type: "ipipTunnelAddress",
    handle: (node) => `ipip-tunnel-addr-${node}`,
    family: 4,
    field: ["bgp", "ipv4IPIPTunnelAddr"],
    wants: (pool) => isOn(pool.ipipMode),
  },
  {
    type: "vxlanTunnelAddress",
    handle: (node) => `vxlan-tunnel-addr-${node}`,
    family: 4,
    field: ["ipv4VXLANTunnelAddr"],
    wants: (pool) => isOn(pool.vxlanMode),
  },
  {
    type: "vxlanV6TunnelAddress",
    handle: (node) => `vxlan-v6-tunnel-addr-${node}`,
    family: 6,
    field: ["ipv6VXLANTunnelAddr"],
    wants: (pool) => isOn(pool.vxlanMode),
  },
];

const isText = (value: Json | undefined): boolean => typeof value === "string" && value !== "";

/** Who has an address in IPAM. */
export interface Holder {
  handle: string | undefined;
  attributes: Record<string, Json>;
}

/** What a decision about one kind depends on. */
export interface TunnelView {
  node: string;
  /** The stored Node. */
  resource: Record<string, Json>;
  pools: Pool[];
  hostEncryption: boolean;
  /** Undefined = nobody has it (or it is cooling down). */
  holder(ip: Ip): Holder | undefined;
  /** True when the handle exists. */
  handleExists(handle: string): boolean;
}

/** One change, made in one transaction together with its change of the Node; then everything is looked at again. */
export type TunnelStep =
  /** Take an address of these pools (CIDRs) and set the field. */
  | { do: "assign"; pools: string[] }
  /** Take exactly this address, which is free now. */
  | { do: "take"; ip: Ip }
  /** Release everything of the handle; `clear` = empty the field too. */
  | { do: "release handle"; clear: boolean }
  /** Release this address, which the handle (undefined = none) has. */
  | { do: "release address"; ip: Ip; handle: string | undefined; clear: boolean }
  /** Empty the field. */
  | { do: "clear" };

/** The address that the Node holds for a kind; "" = none. */
export function tunnelAddress(kind: TunnelKind, resource: Record<string, Json>): string {
  const [first, second] = kind.field;
  const spec = isObject(resource.spec) ? resource.spec : {};
  const part = second === undefined ? spec : isObject(spec[first]) ? spec[first] : {};
  const value = part[second ?? first];
  return typeof value === "string" ? value : "";
}

/** The stored Node with the address set, or removed (""); a part that is empty then goes too. Nothing else changes. */
export function withTunnelAddress(
  kind: TunnelKind,
  resource: Record<string, Json>,
  address: string,
): Record<string, Json> {
  const [first, second] = kind.field;
  const spec = isObject(resource.spec) ? resource.spec : {};
  if (second === undefined) return { ...resource, spec: withMember(spec, first, address) };
  const part = withMember(isObject(spec[first]) ? spec[first] : {}, second, address);
  return { ...resource, spec: withMember(spec, first, Object.keys(part).length > 0 ? part : "") };
}

function withMember(object: Record<string, Json>, name: string, value: Json): Record<string, Json> {
  const { [name]: _, ...rest } = object;
  if (value === "") return rest;
  return name in object ? { ...object, [name]: value } : { ...rest, [name]: value };
}

/** CIDRs of the pools that a kind may take its address from; none = it needs no address. */
export function candidatePools(kind: TunnelKind, view: TunnelView): Pool[] {
  if (kind.hostEncryptionReplaces && view.hostEncryption) return [];
  const status = isObject(view.resource.status) ? view.resource.status : {};
  const labels = labelsOf(view.resource);
  return view.pools.filter((pool) =>
    pool.enabled && pool.cidr.v === kind.family && pool.uses.includes("Tunnel") && pool.nodeSelector.matches(labels) &&
    kind.wants(pool, status)
  );
}

function labelsOf(resource: Record<string, Json>): Record<string, string> {
  const metadata = isObject(resource.metadata) ? resource.metadata : {};
  const labels = isObject(metadata.labels) ? metadata.labels : {};
  return Object.fromEntries(Object.entries(labels).filter((l): l is [string, string] => typeof l[1] === "string"));
}

/**
 * What has to be done next about a kind; undefined when all is well.
 * @param retake an address that the step before released because it had neither handle nor attributes (as old versions
 * stored it): it is taken again, now with both.
 */
export function nextStep(kind: TunnelKind, view: TunnelView, retake?: Ip): TunnelStep | undefined {
  const pools = candidatePools(kind, view);
  return pools.length > 0 ? stepTowards(kind, view, pools, retake) : stepAway(kind, view);
}

function stepTowards(
  kind: TunnelKind,
  view: TunnelView,
  pools: Pool[],
  retake: Ip | undefined,
): TunnelStep | undefined {
  const handle = kind.handle(view.node);
  const assign: TunnelStep = { do: "assign", pools: pools.map((p) => p.text) };
  const fresh: TunnelStep = view.handleExists(handle) ? { do: "release handle", clear: false } : assign;
  const ip = tryParseIp(tunnelAddress(kind, view.resource));
  if (!ip || ip.v !== kind.family) return fresh;
  const holder = view.holder(ip);
  if (!holder) return retake && formatIp(retake) === formatIp(ip) ? { do: "take", ip } : fresh;
  const inPool = pools.some((pool) => contains(pool.cidr, ip));
  if (isOurs(kind, view, holder)) return inPool ? undefined : { do: "release handle", clear: true };
  if (isUnnamed(holder)) return { do: "release address", ip, handle: undefined, clear: false };
  return assign;
}

function stepAway(kind: TunnelKind, view: TunnelView): TunnelStep | undefined {
  const handle = kind.handle(view.node);
  const address = tunnelAddress(kind, view.resource);
  if (view.handleExists(handle)) return { do: "release handle", clear: address !== "" };
  if (address === "") return undefined;
  const ip = tryParseIp(address);
  const holder = ip && view.holder(ip);
  if (!holder) return { do: "clear" };
  if (holder.handle === handle || isUnnamed(holder)) {
    return { do: "release address", ip, handle: holder.handle, clear: true };
  }
  return { do: "clear" };
}

const isOurs = (kind: TunnelKind, view: TunnelView, holder: Holder): boolean =>
  holder.attributes.type === kind.type && holder.attributes.node === view.node;

const isUnnamed = (holder: Holder): boolean =>
  holder.handle === undefined && Object.keys(holder.attributes).length === 0;
