import { createHash } from "node:crypto";
import {
  bits,
  cidrOf,
  type Family,
  formatIp,
  formatMac,
  type Ip,
  type IpNet,
  sameIp,
  tryParseIp,
  tryParseMac,
  tryParseNet,
} from "../../lib/ip.ts";
import { keyBytes } from "../../lib/wireguard_key.ts";
import { isObject } from "../../lib/json64.ts";
import type { Vtep } from "../desired.ts";

type Spec = Record<string, unknown>;
const families = [4, 6] as const;

/** A node of the cluster as packets between nodes depend on it. */
export interface ClusterNode {
  name: string;
  /** Its address with its subnet, per version. */
  address: Partial<Record<Family, IpNet>>;
  /** Address of its `tunl0`. */
  ipip: Ip | undefined;
  /** Its ends of the VXLANs, per version of the outer packet. */
  vtep: Partial<Record<Family, Vtep>>;
  /** Its public keys, and the addresses of its devices, per version of the pods' packets. */
  wireguardKey: Partial<Record<Family, string>>;
  wireguardIp: Partial<Record<Family, Ip>>;
  /** All its own addresses: none of them is ever reached through a tunnel. */
  hostAddresses: readonly Ip[];
  /** Fields that are set and not understood; the rest holds. */
  faults: readonly string[];
}

/**
 * A node from its resource. Its address is that for BGP, else its internal, else its external one. Without a stored MAC a
 * VTEP has one that every node derives alike from the name.
 * Source: Calico felix/calc l3_route_resolver.go, vxlan_resolver.go.
 */
export function clusterNode(name: string, spec: Spec, status: Spec = {}): ClusterNode {
  const faults: string[] = [];
  const field = <T>(path: string, value: unknown, parse: (text: string) => T | undefined): T | undefined => {
    if (value === undefined || value === null || value === "") return undefined;
    const read = typeof value === "string" ? parse(value) : undefined;
    if (read === undefined) faults.push(`${path}: ${JSON.stringify(value)} is not understood`);
    return read;
  };
  const bgp = isObject(spec.bgp) ? spec.bgp as Spec : undefined;
  const listed = (Array.isArray(spec.addresses) ? spec.addresses : []).filter(isObject) as Spec[];
  const ipOf = (v: Family) => (text: string) => {
    const ip = tryParseIp(text);
    return ip?.v === v ? ip : undefined;
  };
  const wireguard = isObject(spec.wireguard) ? spec.wireguard as Spec : {};
  const address: ClusterNode["address"] = {}, vtep: ClusterNode["vtep"] = {};
  const wireguardKey: ClusterNode["wireguardKey"] = {}, wireguardIp: ClusterNode["wireguardIp"] = {};
  for (const v of families) {
    const own = field(`spec.bgp.ipv${v}Address`, bgp?.[`ipv${v}Address`], (text) => netOf(text, v));
    const found = own ?? (hasAddress(bgp) ? undefined : listedAddress(listed, v));
    if (found) address[v] = found;
    const ip = field(`spec.ipv${v}VXLANTunnelAddr`, spec[`ipv${v}VXLANTunnelAddr`], ipOf(v));
    const macField = v === 4 ? "vxlanTunnelMACAddr" : "vxlanTunnelMACAddrV6";
    const hasMac = typeof spec[macField] === "string" && spec[macField] !== "";
    const stored = field(`spec.${macField}`, spec[macField], tryParseMac);
    const mac = stored ? formatMac(stored) : hasMac ? undefined : derivedMac(name, v);
    const keyField = v === 4 ? "wireguardPublicKey" : "wireguardPublicKeyV6", ipField = `interfaceIPv${v}Address`;
    const key = field(`status.${keyField}`, status[keyField] === noKey ? "" : status[keyField], asKey);
    const device = field(`spec.wireguard.${ipField}`, wireguard[ipField], ipOf(v));
    if (key !== undefined) wireguardKey[v] = key;
    if (device) wireguardIp[v] = device;
    if (ip && mac && own) vtep[v] = { ip, mac, host: own.ip };
  }
  const ipip = field("spec.bgp.ipv4IPIPTunnelAddr", bgp?.ipv4IPIPTunnelAddr, ipOf(4));
  const others = listed.flatMap(({ address }) => tryParseIp(String(address)) ?? []);
  const hostAddresses = [...families.flatMap((v) => address[v]?.ip ?? []), ...others];
  return { name, address, ipip, vtep, wireguardKey, wireguardIp, hostAddresses, faults };
}

/** What Felix publishes of a device without a key. */
const noKey = new Uint8Array(32).toBase64();
const asKey = (text: string): string | undefined => (keyBytes(text) ? text : undefined);

/** MAC of a node's VTEP: `f` and five bytes of SHA-1 of its name; for IPv6 of its name with `-v6`. */
export function derivedMac(node: string, v: Family): string {
  const hash = createHash("sha1").update(v === 4 ? node : `${node}-v6`).digest();
  return formatMac(Uint8Array.of(0x66, ...hash.subarray(0, 5)));
}

const hasAddress = (bgp: Spec | undefined) => Boolean(bgp?.ipv4Address || bgp?.ipv6Address);

/** `a/b`, or a bare address, which is alone in its subnet. */
function netOf(text: string, v: Family): IpNet | undefined {
  const ip = tryParseIp(text);
  const net = ip ? { ip, cidr: cidrOf(ip, bits(ip.v)) } : tryParseNet(text);
  return net?.ip.v === v ? net : undefined;
}

function listedAddress(listed: Spec[], v: Family): IpNet | undefined {
  for (const type of ["InternalIP", "ExternalIP"]) {
    const found = listed.filter((a) => a.type === type).flatMap((a) => netOf(String(a.address), v) ?? [])[0];
    if (found) return found;
  }
  return undefined;
}

/** The nodes of a cluster, without what two of them claim. */
export interface ResolvedNodes {
  own: ClusterNode | undefined;
  /** The others, by name. */
  others: ReadonlyMap<string, ClusterNode>;
  /** Addresses of hosts, as text. */
  hostAddresses: ReadonlySet<string>;
  /** What is wrong, by the node's name. */
  findings: readonly { node: string; why: string }[];
}

/**
 * Takes out what cannot be: a VTEP whose address or MAC another node has (this node keeps its own, else the node whose
 * name comes first), a WireGuard key that several nodes have, and another node's address that is this node's. Two other nodes with one address are told and stay:
 * mostly one of them is an old name of the same host.
 */
export function resolveNodes(nodes: Iterable<ClusterNode>, ownName: string): ResolvedNodes {
  const sorted = [...nodes].sort((a, b) => rank(a, ownName) - rank(b, ownName) || (a.name < b.name ? -1 : 1));
  const own = sorted[0]?.name === ownName ? sorted[0] : undefined;
  const findings: { node: string; why: string }[] = [];
  const claims = new Map<string, string>(), keyHolders = holdersOfKeys(sorted);
  const others = new Map<string, ClusterNode>(), hostAddresses = new Set<string>();
  for (const node of sorted) {
    for (const why of node.faults) findings.push({ node: node.name, why });
    const kept = {
      ...{ ...node, address: { ...node.address }, vtep: { ...node.vtep }, wireguardKey: { ...node.wireguardKey } },
    };
    for (const v of families) {
      for (const [what, value, part] of claimsOf(node, v)) {
        const rival = claims.get(`${what} ${value}`);
        claims.set(`${what} ${value}`, rival ?? node.name);
        if (rival === undefined) continue;
        findings.push({ node: node.name, why: `${what} ${value} is also that of node ${rival}` });
        if (part === "vtep") delete kept.vtep[v];
        else if (rival === ownName) delete kept.address[v];
      }
      const key = node.wireguardKey[v], rivals = (key && keyHolders.get(`${v} ${key}`)) || [];
      if (rivals.length > 1) {
        const rival = rivals.find((name) => name !== node.name) ?? node.name;
        findings.push({ node: node.name, why: `WireGuard key of IPv${v} ${key} is also that of node ${rival}` });
        delete kept.wireguardKey[v];
      }
      const host = kept.address[v];
      if (!host || (kept.vtep[v] && !sameIp(kept.vtep[v]!.host, host.ip))) delete kept.vtep[v];
    }
    for (const ip of node.hostAddresses) hostAddresses.add(formatIp(ip));
    if (node !== own) others.set(node.name, kept);
  }
  return { own, others, hostAddresses, findings };
}

/** Names of the nodes with a key, by version and key. */
function holdersOfKeys(nodes: ClusterNode[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { name, wireguardKey } of nodes) {
    for (const [v, key] of Object.entries(wireguardKey)) {
      found.set(`${v} ${key}`, [...found.get(`${v} ${key}`) ?? [], name]);
    }
  }
  return found;
}

const rank = (node: ClusterNode, ownName: string) => (node.name === ownName ? 0 : 1);

function claimsOf(
  { address, vtep }: ClusterNode,
  v: Family,
): [what: string, value: string, part: "address" | "vtep"][] {
  const host = address[v], end = vtep[v];
  return [
    ...(host ? [["address", formatIp(host.ip), "address"] as const] : []),
    ...(end
      ? [
        [`VXLAN address`, formatIp(end.ip), "vtep"] as const,
        [`VXLAN MAC of IPv${v}`, end.mac, "vtep"] as const,
      ]
      : []),
  ].map(([what, value, part]) => [what, value, part]);
}
