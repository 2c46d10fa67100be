import { type Ip, tryParseIp } from "../../lib/ip.ts";
import type { NetworkSettings, WireguardSettings } from "../desired.ts";
import {
  enabled,
  flag,
  integer,
  interfacePrefixes,
  milliseconds,
  pattern,
  type Read,
  resolveSettings,
  type Row,
  type SettingProblem,
  type SettingSources,
  word,
} from "../settings.ts";

/** NetworkSettings with one value a parameter. */
type Flat = Omit<NetworkSettings, "tunnelMtu" | "wireguard"> & FlatWireguard & {
  mtuIpip: number;
  mtuVxlan4: number;
  mtuVxlan6: number;
} & {
  programClusterRoutes: string | undefined;
};

interface FlatWireguard {
  wgEnabled: boolean;
  wgEnabledV6: boolean;
  wgName: string;
  wgNameV6: string;
  wgPort: number;
  wgPortV6: number;
  wgMtu: number;
  wgMtuV6: number;
  wgPriority: number;
  wgHosts: boolean;
  wgMandatory: boolean;
  wgKeepaliveMs: number;
  wgRound: string;
  markMask: number;
  tables: readonly TableRange[];
  oldTables: readonly TableRange[] | undefined;
}

/** Numbers of routing tables that are for us. */
interface TableRange {
  min: number;
  max: number;
}

const deviceName: Read<string> = (value) => /^[a-zA-Z0-9:._-]{1,15}$/.test(String(value)) ? String(value) : undefined;

const oneLine: Read<string> = (value) => typeof value === "string" && !/[\r\n]/.test(value) ? value : undefined;

/** A range or several; the environment writes `1-250,300-400`. */
const tableRanges: Read<readonly TableRange[]> = (value) => {
  const texts = typeof value === "string" ? value.split(",").map((t) => /^\s*(\d+)-(\d+)\s*$/.exec(t)) : undefined;
  const ranges = texts ? texts.map((t) => t && { min: Number(t[1]), max: Number(t[2]) }) : [value].flat();
  const good = ranges.flatMap((r): TableRange[] => {
    const { min, max } = (r ?? {}) as { min?: unknown; max?: unknown };
    const fits = typeof min === "number" && typeof max === "number" && min >= 1 && min <= max && max <= 0xffffffff;
    return fits ? [{ min, max }] : [];
  });
  return good.length > 0 && good.length === ranges.length ? good : undefined;
};

/** The first two tables, in order, that no kernel has for itself. */
function firstTables(ranges: readonly TableRange[]): [number, number] | undefined {
  const found: number[] = [];
  for (const { min, max } of ranges) {
    for (let n = min; n <= max && found.length < 2; n++) if (n < 253 || n > 255) found.push(n);
  }
  return found.length === 2 ? [found[0]!, found[1]!] : undefined;
}

const address = (v: 4 | 6): Read<Ip | undefined> => (value) => {
  const ip = tryParseIp(String(value));
  return ip?.v === v ? ip : undefined;
};
const clusterRoutes: Read<string | undefined> = (value) =>
  ["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"].find((w) =>
    w.toLowerCase() === String(value).toLowerCase()
  );

const spoofing: Read<boolean> = (value) => {
  const said = word("any", "disabled")(value);
  return said && said === "any";
};

const usualTables: readonly TableRange[] = [{ min: 1, max: 250 }];

/** Felix's parameters that the network needs. */
const rows: { [K in keyof Flat]-?: Row<Flat[K]> } = {
  interfacePrefixes: ["interfacePrefix", interfacePrefixes, ["cali"]],
  routeProtocol: ["deviceRouteProtocol", integer(1, 255), 3],
  removeExternalRoutes: ["removeExternalRoutes", flag, true],
  routeSyncDisabled: ["routeSyncDisabled", flag, false],
  metric4: ["ipv4NormalRoutePriority", integer(1, 2147483646), 1024],
  metric6: ["ipv6NormalRoutePriority", integer(1, 2147483646), 1024],
  source4: ["deviceRouteSourceAddress", address(4), undefined],
  source6: ["deviceRouteSourceAddressIPv6", address(6), undefined],
  floatingIps: ["floatingIPs", enabled, false],
  sourceSpoofing: ["workloadSourceSpoofing", spoofing, false],
  ipForwarding: ["ipForwarding", enabled, true],
  ipv6: ["ipv6Support", flag, true],
  mtuInterfacePattern: ["mtuIfacePattern", pattern, "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"],
  programClusterRoutes: ["programClusterRoutes", clusterRoutes, undefined],
  mtuIpip: ["ipipMTU", integer(0, 65535), 0],
  mtuVxlan4: ["vxlanMTU", integer(0, 65535), 0],
  mtuVxlan6: ["vxlanMTUV6", integer(0, 65535), 0],
  ipipEnabled: ["ipipEnabled", flag, undefined],
  vxlanEnabled: ["vxlanEnabled", flag, undefined],
  vxlanVni: ["vxlanVNI", integer(1, 0xffffff), 4096],
  vxlanPort: ["vxlanPort", integer(1, 65535), 4789],
  wgEnabled: ["wireguardEnabled", flag, false],
  wgEnabledV6: ["wireguardEnabledV6", flag, false],
  wgName: ["wireguardInterfaceName", deviceName, "wireguard.cali"],
  wgNameV6: ["wireguardInterfaceNameV6", deviceName, "wg-v6.cali"],
  wgPort: ["wireguardListeningPort", integer(1, 65535), 51820],
  wgPortV6: ["wireguardListeningPortV6", integer(1, 65535), 51821],
  wgMtu: ["wireguardMTU", integer(0, 65535), 0],
  wgMtuV6: ["wireguardMTUV6", integer(0, 65535), 0],
  wgPriority: ["wireguardRoutingRulePriority", integer(1, 32765), 99],
  wgHosts: ["wireguardHostEncryptionEnabled", flag, false],
  wgMandatory: ["tortieWireguardMandatory", flag, false],
  wgKeepaliveMs: ["wireguardKeepAlive", milliseconds, 0],
  wgRound: ["tortieWireguardKeyRound", oneLine, ""],
  markMask: ["iptablesMarkMask", integer(0, 0xffffffff), 0xffff0000],
  tables: ["routeTableRanges", tableRanges, usualTables],
  oldTables: ["routeTableRange", tableRanges, undefined],
  routeRefreshMs: ["routeRefreshInterval", milliseconds, 90_000],
  interfaceRefreshMs: ["interfaceRefreshInterval", milliseconds, 90_000],
};

/** The network's settings: environment and files, then FelixConfigurations, then Calico's default. */
export function networkSettings(sources: SettingSources): {
  settings: NetworkSettings;
  /** Whose routes are whose, as route_owner.ts takes it. */
  programClusterRoutes: string | undefined;
  problems: SettingProblem[];
} {
  const { settings, problems } = resolveSettings<Flat>(rows, sources);
  const { wireguard, rest: others } = wireguardSettings(settings, problems);
  const { mtuIpip, mtuVxlan4, mtuVxlan6, programClusterRoutes, ...rest } = others;
  const tunnelMtu = { ipip: mtuIpip, vxlan4: mtuVxlan4, vxlan6: mtuVxlan6 };
  return { settings: { ...rest, tunnelMtu, wireguard }, programClusterRoutes, problems };
}

/** WireGuard's settings out of the flat ones. Without a bit of the mark mask, or two tables, it stays off and is told. */
function wireguardSettings<F extends FlatWireguard>(flat: F, problems: SettingProblem[]) {
  const { wgEnabled, wgEnabledV6, wgName, wgNameV6, wgPort, wgPortV6, wgMtu, wgMtuV6, ...more } = flat;
  const { wgPriority, wgHosts, wgMandatory, wgKeepaliveMs, wgRound, markMask, tables, oldTables, ...rest } = more;
  const mark = sixthBit(markMask);
  const ranges = tables === usualTables && oldTables ? oldTables : tables;
  const numbers = firstTables(ranges);
  const object = "FelixConfiguration", wanted = wgEnabled || wgEnabledV6;
  if (wanted && mark === 0) {
    problems.push({ object, setting: "iptablesMarkMask (fewer than six bits)", value: markMask });
  }
  if (wanted && !numbers) problems.push({ object, setting: "routeTableRanges (fewer than two tables)", value: ranges });
  if (wgMandatory && !wanted) {
    problems.push({ object, setting: "tortieWireguardMandatory (WireGuard is off)", value: wgMandatory });
  }
  const able = mark !== 0 && numbers !== undefined;
  const wireguard: WireguardSettings = {
    enabled: { 4: wgEnabled && able, 6: wgEnabledV6 && able },
    deviceName: { 4: wgName, 6: wgNameV6 },
    port: { 4: wgPort, 6: wgPortV6 },
    mtuBytes: { 4: wgMtu, 6: wgMtuV6 },
    rulePriority: wgPriority,
    table: { 4: numbers?.[0] ?? 1, 6: numbers?.[1] ?? 2 },
    mark,
    hostEncryption: wgHosts,
    mandatory: wgMandatory,
    keepaliveSeconds: Math.min(Math.round(wgKeepaliveMs / 1000), 65535),
    keyRound: wgRound,
  };
  return { wireguard, rest };
}

/** The lower five are policy's. */
function sixthBit(mask: number): number {
  let left = mask;
  for (let i = 0; i < 5; i++) left &= left - 1;
  return (left & -left) >>> 0;
}
