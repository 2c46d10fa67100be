import { type Family, tryParseCidrOrIp } from "../../lib/ip.ts";
import type { PortRange } from "../desired_policy.ts";
import {
  addressText,
  anyText,
  enabled,
  flag,
  type HostPort,
  hostPorts,
  integer,
  interfacePrefixes,
  milliseconds,
  namePatterns,
  type Read,
  resolveSettings,
  type Row,
  type SettingProblem,
  type SettingSources,
  word,
} from "../settings.ts";
import { defaultSettings, marksOf, type NetfilterSettings } from "./model.ts";

/** Felix's parameters that netfilter needs, as they are said; NetfilterSettings is made of them per family. */
export interface FilterParameters {
  interfacePrefixes: readonly string[];
  markMask: number;
  filterAllow: "accept" | "return";
  mangleAllow: "accept" | "return";
  filterDeny: "drop" | "reject";
  endpointToHost: "drop" | "accept" | "return" | "reject";
  vxlanPort: number;
  allowVxlan: boolean;
  allowIpip: boolean;
  /** Switch the tunnels on or off, whatever the pools say. */
  ipipEnabled: boolean | undefined;
  vxlanEnabled: boolean | undefined;
  /** Hosts that are no nodes and whose tunnels' packets are let in, too. */
  externalNodes: readonly string[];
  noInvalidCheck: boolean;
  failsafeIn: readonly HostPort[];
  failsafeOut: readonly HostPort[];
  logPrefix: string;
  logRate: string | undefined;
  logBurst: number;
  natPorts: PortRange | undefined;
  natAddress: string | undefined;
  natInterface: string | undefined;
  natExclusions: "ippoolsonly" | "ippoolsandhostips";
  serviceLoops: "drop" | "reject" | "disabled";
  insertMode: "insert" | "append";
  backend: "legacy" | "nft" | "auto";
  maxSetSize: number;
  ipv6: boolean;
  floatingIps: boolean;
  /** Tracked flows that policy denies are ended. */
  cutDeniedFlows: boolean;
  /** Workloads' packets that the filter table has not judged are dropped: one that somebody flushed opens nothing. */
  flushGuard: boolean;
  interfaceExclude: readonly string[];
  /** Endpoints may send from the networks that they are allowed to. */
  sourceSpoofing: boolean;
  wireguard4: boolean;
  wireguard6: boolean;
  wireguardPort4: number;
  wireguardPort6: number;
  wireguardDevice4: string;
  wireguardDevice6: string;
  wireguardHosts: boolean;
  /** Between two looks at everything, asked for or not; 0 = never. */
  refreshMs: number | undefined;
  setRefreshMs: number | undefined;
}

/** A name of an interface; ends in `+` when it is the beginning of names. */
const interfacePattern: Read<string | undefined> = (value) =>
  /^[a-zA-Z0-9:._+-]{1,15}$/.test(String(value)) ? String(value) : undefined;

const deviceName: Read<string> = (value) => /^[a-zA-Z0-9:._-]{1,15}$/.test(String(value)) ? String(value) : undefined;

/** `a:b` or one port, from JSON as text or number. */
const portRange: Read<PortRange | undefined> = (value) => {
  const parts = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(String(value));
  if (!parts) return undefined;
  const min = Number(parts[1]), max = Number(parts[2] ?? parts[1]);
  return min <= max && max <= 65535 ? { min, max } : undefined;
};

const spoofing: Read<boolean> = (value) => {
  const said = word("any", "disabled")(value);
  return said && said === "any";
};

const rate: Read<string | undefined> = (value) =>
  /^[1-9]\d{0,3}\/(second|minute|hour|day)$/.test(String(value)) ? String(value) : undefined;

const usual = defaultSettings(4);

/** A list, in the environment with commas. */
const cidrs: Read<readonly string[]> = (value) => {
  const all = Array.isArray(value) ? value.map(String) : String(value).split(",").map((text) => text.trim());
  return all.every((text) => tryParseCidrOrIp(text)) ? all : undefined;
};

const rows: { [K in keyof FilterParameters]: Row<FilterParameters[K]> } = {
  interfacePrefixes: ["interfacePrefix", interfacePrefixes, usual.interfacePrefixes],
  markMask: ["iptablesMarkMask", integer(0, 0xffffffff), 0xffff0000],
  filterAllow: ["iptablesFilterAllowAction", word("accept", "return"), "accept"],
  mangleAllow: ["iptablesMangleAllowAction", word("accept", "return"), "accept"],
  filterDeny: ["iptablesFilterDenyAction", word("drop", "reject"), "drop"],
  endpointToHost: ["defaultEndpointToHostAction", word("drop", "accept", "return"), "drop"],
  vxlanPort: ["vxlanPort", integer(1, 65535), 4789],
  allowVxlan: ["allowVXLANPacketsFromWorkloads", flag, false],
  allowIpip: ["allowIPIPPacketsFromWorkloads", flag, false],
  ipipEnabled: ["ipipEnabled", flag, undefined],
  vxlanEnabled: ["vxlanEnabled", flag, undefined],
  externalNodes: ["externalNodesList", cidrs, []],
  noInvalidCheck: ["disableConntrackInvalidCheck", flag, false],
  failsafeIn: ["failsafeInboundHostPorts", hostPorts, usual.failsafeIn],
  failsafeOut: ["failsafeOutboundHostPorts", hostPorts, usual.failsafeOut],
  logPrefix: ["logPrefix", anyText, usual.logPrefix],
  logRate: ["logActionRateLimit", rate, undefined],
  logBurst: ["logActionRateLimitBurst", integer(0, 9999), 5],
  natPorts: ["natPortRange", portRange, undefined],
  natAddress: ["natOutgoingAddress", addressText(4), undefined],
  natInterface: ["iptablesNATOutgoingInterfaceFilter", interfacePattern, undefined],
  natExclusions: ["natOutgoingExclusions", word("ippoolsonly", "ippoolsandhostips"), "ippoolsonly"],
  serviceLoops: ["serviceLoopPrevention", word("drop", "reject", "disabled"), "drop"],
  insertMode: ["chainInsertMode", word("insert", "append"), "insert"],
  backend: ["iptablesBackend", word("legacy", "nft", "auto"), "auto"],
  maxSetSize: ["maxIpsetSize", integer(1, 0xffffffff), 1048576],
  ipv6: ["ipv6Support", flag, true],
  floatingIps: ["floatingIPs", enabled, false],
  cutDeniedFlows: ["tortieCutDeniedFlows", flag, false],
  flushGuard: ["tortieFlushGuard", flag, false],
  interfaceExclude: ["interfaceExclude", namePatterns, ["^kube-ipvs0$"]],
  sourceSpoofing: ["workloadSourceSpoofing", spoofing, false],
  wireguard4: ["wireguardEnabled", flag, false],
  wireguard6: ["wireguardEnabledV6", flag, false],
  wireguardPort4: ["wireguardListeningPort", integer(1, 65535), 51820],
  wireguardPort6: ["wireguardListeningPortV6", integer(1, 65535), 51821],
  wireguardDevice4: ["wireguardInterfaceName", deviceName, "wireguard.cali"],
  wireguardDevice6: ["wireguardInterfaceNameV6", deviceName, "wg-v6.cali"],
  wireguardHosts: ["wireguardHostEncryptionEnabled", flag, false],
  // Changes of others are noticed when they happen: nothing is read periodically unless somebody asks for it.
  refreshMs: ["iptablesRefreshInterval", milliseconds, undefined],
  setRefreshMs: ["ipsetsRefreshInterval", milliseconds, undefined],
};

/** Resolves the parameters; a mark mask with too few bits counts as not understood. */
export function filterParameters(sources: SettingSources): { settings: FilterParameters; problems: SettingProblem[] } {
  const { settings, problems } = resolveSettings(rows, sources);
  if (marksOf(settings.markMask, false)) return { settings, problems };
  const object = "FelixConfiguration";
  problems.push({ object, setting: "iptablesMarkMask (fewer than five bits)", value: settings.markMask });
  return { settings: { ...settings, markMask: 0xffff0000 }, problems };
}

/** Tunnels that are on, which the settings of a family depend on. */
export interface TunnelFacts {
  ipip: boolean;
  vxlan: boolean;
  /** Devices with an address of the family. */
  devices: readonly string[];
}

/** What rendering one family depends on. */
export function settingsOf(p: FilterParameters, family: Family, tunnels: TunnelFacts): NetfilterSettings {
  // Without a bit for it in the mask there is no WireGuard.
  const withWireguard = p.wireguard4 || p.wireguard6 ? marksOf(p.markMask, true) : undefined;
  const wireguard = withWireguard !== undefined && (family === 4 ? p.wireguard4 : p.wireguard6);
  return {
    ...defaultSettings(family),
    marks: withWireguard ?? marksOf(p.markMask, false)!,
    wireguardPort: !wireguard ? undefined : family === 4 ? p.wireguardPort4 : p.wireguardPort6,
    wireguardHostEncryption: p.wireguardHosts,
    wireguardDevices: [p.wireguardDevice4, p.wireguardDevice6],
    interfacePrefixes: p.interfacePrefixes,
    filterAllow: p.filterAllow,
    mangleAllow: p.mangleAllow,
    deny: p.filterDeny,
    endpointToHost: p.endpointToHost,
    vxlan: tunnels.vxlan,
    vxlanPort: p.vxlanPort,
    ipip: tunnels.ipip,
    tunnels: wireguard ? [...tunnels.devices, family === 4 ? p.wireguardDevice4 : p.wireguardDevice6] : tunnels.devices,
    allowVxlanFromWorkloads: p.allowVxlan,
    allowIpipFromWorkloads: p.allowIpip,
    conntrackInvalidCheck: !p.noInvalidCheck,
    failsafeIn: p.failsafeIn,
    failsafeOut: p.failsafeOut,
    logPrefix: p.logPrefix,
    logLimit: p.logRate ? { rate: p.logRate, burst: p.logBurst } : undefined,
    natPorts: p.natPorts,
    natOutgoingAddress: family === 4 ? p.natAddress : undefined,
    natOutgoingInterface: p.natInterface,
    natExcludesHosts: p.natExclusions === "ippoolsandhostips",
    serviceLoops: p.serviceLoops,
    // Appended behind the host's own rules ours do not see what those accept.
    flushGuard: p.flushGuard && p.insertMode === "insert",
  };
}
