import { type Ip, tryParseIp } from "../../lib/ip.ts";
import type { NetworkSettings } from "../desired.ts";
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
type Flat = Omit<NetworkSettings, "tunnelMtu"> & { mtuIpip: number; mtuVxlan4: number; mtuVxlan6: number } & {
  programClusterRoutes: string | undefined;
};

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
  const { mtuIpip, mtuVxlan4, mtuVxlan6, programClusterRoutes, ...rest } = settings;
  const tunnelMtu = { ipip: mtuIpip, vxlan4: mtuVxlan4, vxlan6: mtuVxlan6 };
  return { settings: { ...rest, tunnelMtu }, programClusterRoutes, problems };
}
