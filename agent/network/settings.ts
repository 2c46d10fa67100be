import { type Ip, tryParseIp } from "../../lib/ip.ts";
import { parameterNames } from "../../datastore/kinds/felix_configuration.ts";
import { durationMs } from "../../datastore/duration.ts";
import type { NetworkSettings } from "../desired.ts";

/** Where a parameter may be said, strongest first. Values of specs are JSON, those of the environment are text. */
export interface SettingSources {
  /** FELIX_<PARAMETER> of this process. */
  env: (name: string) => string | undefined;
  /** Spec of FelixConfiguration `node.<this node>`. */
  ofNode?: Record<string, unknown>;
  /** Spec of FelixConfiguration `default`. */
  ofCluster?: Record<string, unknown>;
}

/** A value that is not understood; the next weaker source holds. */
export interface SettingProblem {
  /** `FELIX_REMOVEEXTERNALROUTES`, or `removeExternalRoutes` of a FelixConfiguration. */
  setting: string;
  value: unknown;
}

/** NetworkSettings with one value a parameter. */
type Flat = Omit<NetworkSettings, "tunnelMtu"> & { mtuIpip: number; mtuVxlan4: number; mtuVxlan6: number };

/** A value from JSON or text; undefined = not understood. */
type Read<T> = (value: unknown) => T | undefined;

const flag: Read<boolean> = (value) => {
  if (typeof value === "boolean") return value;
  const text = String(value).toLowerCase();
  if (["true", "1", "yes", "y", "t"].includes(text)) return true;
  return ["false", "0", "no", "n", "f"].includes(text) ? false : undefined;
};
const enabled: Read<boolean> = (value) => value === "Enabled" ? true : value === "Disabled" ? false : undefined;
const integer = (min: number, max: number): Read<number> => (value) => {
  const n = Number(value);
  return Number.isInteger(n) && n >= min && n <= max ? n : undefined;
};
/** The environment says seconds as a plain number, JSON a duration with units. */
const milliseconds: Read<number> = (value) => {
  const ms = /^\d+(\.\d+)?$/.test(String(value)) ? Number(value) * 1000 : durationMs(String(value));
  return ms !== undefined && ms >= 0 ? ms : undefined;
};
const address = (v: 4 | 6): Read<Ip | undefined> => (value) => {
  const ip = tryParseIp(String(value));
  return ip?.v === v ? ip : undefined;
};
const prefixes: Read<string[]> = (value) => {
  const names = String(value).split(",").map((name) => name.trim());
  return names.every((name) => /^[a-zA-Z0-9:._+-]{1,15}$/.test(name)) ? names : undefined;
};

const pattern: Read<string> = (value) => {
  try {
    return String(new RegExp(String(value)).source);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
};

/** Felix's parameters that the network needs: name in FelixConfiguration, how it is read. The default is Calico's. */
const rows: {
  [K in keyof Flat]: [name: string, read: Read<Flat[K]>, otherwise: Flat[K]];
} = {
  interfacePrefixes: ["interfacePrefix", prefixes, ["cali"]],
  routeProtocol: ["deviceRouteProtocol", integer(1, 255), 3],
  removeExternalRoutes: ["removeExternalRoutes", flag, true],
  routeSyncDisabled: ["routeSyncDisabled", flag, false],
  metric4: ["ipv4NormalRoutePriority", integer(1, 2147483646), 1024],
  metric6: ["ipv6NormalRoutePriority", integer(1, 2147483646), 1024],
  source4: ["deviceRouteSourceAddress", address(4), undefined],
  source6: ["deviceRouteSourceAddressIPv6", address(6), undefined],
  floatingIps: ["floatingIPs", enabled, false],
  ipForwarding: ["ipForwarding", enabled, true],
  ipv6: ["ipv6Support", flag, true],
  mtuInterfacePattern: ["mtuIfacePattern", pattern, "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"],
  mtuIpip: ["ipipMTU", integer(0, 65535), 0],
  mtuVxlan4: ["vxlanMTU", integer(0, 65535), 0],
  mtuVxlan6: ["vxlanMTUV6", integer(0, 65535), 0],
  routeRefreshMs: ["routeRefreshInterval", milliseconds, 90_000],
  interfaceRefreshMs: ["interfaceRefreshInterval", milliseconds, 90_000],
};

/** Resolves each parameter: environment, then this node's FelixConfiguration, then the cluster's, then Calico's default. */
export function networkSettings(sources: SettingSources): { settings: NetworkSettings; problems: SettingProblem[] } {
  const problems: SettingProblem[] = [];
  const resolve = ([name, read, otherwise]: [string, Read<unknown>, unknown]) => {
    const variable = `FELIX_${(parameterNames[name] ?? name).toUpperCase()}`;
    const said = [[variable, sources.env(variable)], [name, sources.ofNode?.[name]], [name, sources.ofCluster?.[name]]];
    for (const [setting, value] of said) {
      if (value === undefined || value === null || value === "") continue;
      const result = read(value);
      if (result !== undefined) return result;
      problems.push({ setting: String(setting), value });
    }
    return otherwise;
  };
  const all = Object.entries(rows).map(([key, row]) => [key, resolve(row as [string, Read<unknown>, unknown])]);
  const { mtuIpip, mtuVxlan4, mtuVxlan6, ...settings } = Object.fromEntries(all) as Flat;
  return { settings: { ...settings, tunnelMtu: { ipip: mtuIpip, vxlan4: mtuVxlan4, vxlan6: mtuVxlan6 } }, problems };
}
