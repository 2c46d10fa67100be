/** What Calico's older in-memory model makes of FelixConfiguration and Node: one text for each parameter or address. */
import { durationMs } from "../../../datastore/duration.ts";
import { felixConfiguration, parameterNames } from "../../../datastore/kinds/felix_configuration.ts";
import type { Node } from "../../../datastore/kinds/node.ts";
import type { Resource } from "../../../datastore/kind.ts";
import { resourceKey } from "../../../datastore/keys.ts";
import { goNameOf } from "../../../datastore/schema/fields.ts";
import type { Field } from "../../../datastore/schema/schema.ts";
import { formatCidr, formatIp, tryParseCidrOrIp, tryParseIp, tryParseNet } from "../../../lib/ip.ts";
import type { Json } from "../../../lib/json64.ts";
import type { V1, V1Answer } from "./_v1_model.ts";

const fields = felixConfiguration.fields.members!.spec!.members!;
const parameterOf = (name: string, field: Field): string => parameterNames[name] ?? field.goName ?? goNameOf(name);
const parameters = new Set(Object.entries(fields).map(([name, field]) => parameterOf(name, field)));
const annotationPrefix = "config.projectcalico.org/";

/** True for the key of a parameter that Felix has: the cases leave its deletion out. */
export const isFelixParameter = (key: string): boolean =>
  key.startsWith("/calico/v1/") && key.includes("/config/") && parameters.has(key.slice(key.lastIndexOf("/") + 1));

/** FelixConfiguration `default` or `node.<name>`: fields as text, annotations in their place. */
export function felixModel({ metadata, spec }: Resource, deleted: boolean): V1[] {
  const { name, annotations } = metadata;
  const at = name === "default" ? "/calico/v1/config/" : `/calico/v1/host/${name.replace(/^node\./, "")}/config/`;
  if (deleted) return [];
  const texts = new Map<string, string>();
  for (const [member, field] of Object.entries(fields)) {
    const text = member === "nodeSelector" ? undefined : parameterText(member, field, spec[member]);
    if (text !== undefined) texts.set(parameterOf(member, field), text);
  }
  for (const [key, value] of Object.entries(annotations ?? {})) {
    if (key.startsWith(annotationPrefix)) texts.set(key.slice(annotationPrefix.length), value);
  }
  return [...texts].map(([parameter, text]) => [at + parameter, text]);
}

type HostPort = { protocol?: string; port: number; net?: string };
type IdRange = { min: number; max: number };

const special: Record<string, (value: never) => string | undefined> = {
  failsafeInboundHostPorts: hostPortsText,
  failsafeOutboundHostPorts: hostPortsText,
  routeTableRange: ({ min, max }: IdRange) => `${min}-${max}`,
  routeTableRanges: (ranges: IdRange[]) => ranges.map(({ min, max }) => `${min}-${max}`).join(","),
  healthTimeoutOverrides: (list: { name: string; timeout: string }[]) =>
    list.length > 0 ? list.map((o) => `${o.name}=${o.timeout}`).join(",") : undefined,
  bpfConntrackTimeouts: (timeouts: Record<string, string>) =>
    Object.entries(timeouts).map(([name, text]) => `${goNameOf(name)}=${text}`).join(","),
  iptablesLockProbeInterval: (text: string) => String(durationMs(text)),
};

function parameterText(member: string, field: Field, value: unknown): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  if (special[member]) return special[member](value as never);
  if (Array.isArray(value)) return value.join(",");
  const isDuration = typeof value === "string" && field.read("1m", "", () => {}) === "1m0s";
  return isDuration ? String(durationMs(value)! / 1000) : String(value);
}

function hostPortsText(ports: HostPort[]): string {
  const texts = ports.map(({ protocol = "", port, net }) => {
    const where = net ? `${tryParseCidrOrIp(net)?.v === 6 ? `[${net}]` : net}:` : "";
    return `${protocol.toLowerCase()}:${where}${port}`;
  });
  return texts.join(",") || "none";
}

/** Tunnel addresses of a node, each under a key of its own. One that cannot be read counts as absent, with an error. */
export function nodeModel(resource: Resource, deleted: boolean): V1Answer {
  const { spec, status } = resource as Node;
  const { name } = resource.metadata;
  let error = false;
  const address = (text: string | undefined): string | null => {
    const ip = text ? tryParseIp(text) : undefined;
    error ||= Boolean(text) && !ip;
    return ip ? formatIp(ip) : null;
  };
  const wireguard = Object.fromEntries(
    Object.entries({
      interfaceIPv4Addr: address(spec.wireguard?.interfaceIPv4Address),
      publicKey: status?.wireguardPublicKey,
      interfaceIPv6Addr: address(spec.wireguard?.interfaceIPv6Address),
      publicKeyV6: status?.wireguardPublicKeyV6,
    }).filter(([, value]) => value),
  ) as Record<string, Json>;
  const values: Record<string, string | null> = {
    IpInIpTunnelAddr: address(spec.bgp?.ipv4IPIPTunnelAddr),
    IPv4VXLANTunnelAddr: address(spec.ipv4VXLANTunnelAddr),
    VXLANTunnelMACAddr: spec.vxlanTunnelMACAddr || null,
    IPv6VXLANTunnelAddr: address(spec.ipv6VXLANTunnelAddr),
    VXLANTunnelMACAddrV6: spec.vxlanTunnelMACAddrV6 || null,
  };
  const kvs: V1[] = [
    [resourceKey("Node", name), deleted ? null : "<the v3 object>"],
    [`/calico/v1/host/${name}/wireguard`, !deleted && Object.keys(wireguard).length > 0 ? wireguard : null],
    ...Object.entries(values).map((
      [key, value],
    ): V1 => [`/calico/v1/host/${name}/config/${key}`, deleted ? null : value]),
  ];
  return { kvs, error };
}

/** What BGP needs of a node. Absent addresses are empty texts, all else is absent. */
export function bgpNodeModel(resource: Resource, deleted: boolean): V1Answer {
  const { spec, metadata } = resource as Node;
  let error = false;
  const address = (text: string | undefined): { ip: string; net: string | null } => {
    const ip = text ? tryParseNet(text)?.ip ?? tryParseIp(text) : undefined;
    error ||= Boolean(text) && !ip;
    return { ip: ip ? formatIp(ip) : "", net: ip ? formatCidr(tryParseCidrOrIp(text!)!) : null };
  };
  const [v4, v6] = [address(spec.bgp?.ipv4Address), address(spec.bgp?.ipv6Address)];
  const values: Record<string, string | null> = {
    ip_addr_v4: v4.ip,
    ip_addr_v6: v6.ip,
    network_v4: v4.net,
    network_v6: v6.net,
    as_num: spec.bgp?.asNumber === undefined ? null : String(spec.bgp.asNumber),
    rr_cluster_id: spec.bgp?.routeReflectorClusterID ?? "",
    wireguard_addr_v4: spec.wireguard?.interfaceIPv4Address ?? "",
    wireguard_addr_v6: spec.wireguard?.interfaceIPv6Address ?? "",
  };
  const at = `/calico/bgp/v1/host/${metadata.name}/`;
  return { kvs: Object.entries(values).map(([key, value]): V1 => [at + key, deleted ? null : value]), error };
}
