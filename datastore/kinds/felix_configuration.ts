import { tryParseIp } from "../../lib/ip.ts";
import {
  always,
  type FieldOptions,
  flag,
  given,
  integer,
  list,
  map,
  object,
  type Pattern,
  type Refuse,
  text,
  type TextOptions,
} from "../schema/fields.ts";
import { durationMs } from "../duration.ts";
import { defineKind, type Resource } from "../kind.ts";
import { labelPattern } from "../names.ts";
import { dscp, duration, port, portRange } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn } from "../columns.ts";

/** The schema's text of a pattern that JavaScript reads as Go does. */
const same = (pattern: string): Pattern => ({ text: pattern, test: new RegExp(pattern) });

/** One of `values`, exactly; told by the schema only. */
const words = (values: string[], options: TextOptions = {}) => text({ ...options, oneOf: values });

/** One of `values`, exactly; told by the tag and by the schema. */
const choice = (values: string[], options: TextOptions = {}) =>
  text({ ...options, tags: [tags.oneof(...values)], oneOf: values });

/** One of `values` in upper or lower case. */
const anyCase = (values: string[], options: TextOptions = {}) =>
  text({
    ...options,
    pattern: { text: `^(?i)(${values.join("|")})?$`, test: new RegExp(`^(?:${values.join("|")})?$`, "i") },
  });

/**
 * Calico's schema escapes the dot of its duration pattern twice, so a fraction is refused: `1.5s`, and `1500ms`, which
 * is stored as `1.5s`.
 */
const wholeDuration = (options: FieldOptions<string> = {}) =>
  given(duration({
    ...options,
    pattern: { text: "^([0-9]+(\\\\.[0-9]+)?(ms|s|m|h))*$", test: /^([0-9]+(ms|s|m|h))*$/ },
  }));
const fractionalDuration = () => given(duration({ pattern: same("^([0-9]+(\\.[0-9]+)?(ms|s|m|h))*$") }));
const anyDuration = () => given(duration());

const portTags = [tags.gte(0), tags.lte(65535)];
const routePriority = () => given(integer({ tags: [tags.gte(1), tags.lte(2147483646)] }));
const severities = ["Trace", "Debug", "Info", "Warning", "Error", "Fatal"];

const healthTimeoutOverride = object({ name: always(text()), timeout: always(duration()) }, {
  rules(value, refuse) {
    if (!/^[a-zA-Z0-9_ -]+$/.test(value.name)) {
      refuse("HealthTimeoutOverride.Name", "name should match regex ^[a-zA-Z0-9_ -]+$", value);
    }
    if ((durationMs(value.timeout) ?? 0) < 0) {
      refuse("HealthTimeoutOverride.Timeout", "Timeout should not be negative", value);
    }
  },
});

/** `protocol` is not checked at a write. */
const hostPort = object({
  protocol: text(),
  port: always(integer({ readable: [0, 65535], required: true })),
  net: text(),
});

const conntrackTimeout = () => given(text({ pattern: same("^(([0-9]*(\\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$") }));
const conntrackTimeouts = object({
  creationGracePeriod: conntrackTimeout(),
  tcpSynSent: conntrackTimeout(),
  tcpEstablished: conntrackTimeout(),
  tcpFinsSeen: conntrackTimeout(),
  tcpResetSeen: conntrackTimeout(),
  udpTimeout: conntrackTimeout(),
  genericTimeout: conntrackTimeout(),
  icmpTimeout: conntrackTimeout(),
});

const oldRangeText = "must be a range of route table indices within 1..250";
const isOldRange = (r: { min: number; max: number }) => r.min >= 1 && r.max >= r.min && r.max <= 250;
const oldRouteTableRange = object({ min: always(integer()), max: always(integer()) }, {
  rules: (value, refuse) => isOldRange(value) || refuse("RouteTableRange", oldRangeText, value),
  cel: (value, refuse) => isOldRange(value) || refuse(oldRangeText),
});

const routeTableIdRange = object({ min: always(integer()), max: always(integer()) }, {
  rules({ min, max }, refuse) {
    if (min > max) refuse("RouteTableRange", "min value cannot be greater than max value", { min, max });
    if (min <= 0) refuse("RouteTableRange", "cannot target indices < 1", { min, max });
    if (max > 0xffff_ffff) refuse("RouteTableRange", "max index too high", { min, max });
  },
  cel({ min, max }, refuse) {
    if (min < 1) refuse("min must be >= 1");
    if (min > max) refuse("min must not be greater than max");
  },
});

const spec = object({
  nodeSelector: given(text({ max: 1024 })),
  useInternalDataplaneDriver: given(flag()),
  dataplaneDriver: text(),
  dataplaneWatchdogTimeout: anyDuration(),
  ipv6Support: given(flag()),
  routeRefreshInterval: wholeDuration(),
  interfaceRefreshInterval: wholeDuration(),
  iptablesRefreshInterval: wholeDuration(),
  iptablesPostWriteCheckInterval: wholeDuration(),
  iptablesLockProbeInterval: wholeDuration(),
  featureDetectOverride: text({
    tags: [tags.keyValueList],
    pattern: same("^([a-zA-Z0-9-_]+=(true|false|),)*([a-zA-Z0-9-_]+=(true|false|))?$"),
  }),
  featureGates: text({
    tags: [tags.keyValueList],
    pattern: same("^([a-zA-Z0-9-_]+=([^=]+),)*([a-zA-Z0-9-_]+=([^=]+))?$"),
  }),
  ipsetsRefreshInterval: wholeDuration(),
  maxIpsetSize: given(integer()),
  iptablesBackend: given(anyCase(["Auto", "Legacy", "NFT"], { oneOf: ["Legacy", "NFT", "Auto"] })),
  xdpRefreshInterval: wholeDuration(),
  netlinkTimeout: wholeDuration(),
  metadataAddr: text(),
  metadataPort: given(integer()),
  openstackRegion: text(),
  interfacePrefix: text(),
  interfaceExclude: text(),
  chainInsertMode: anyCase(["Insert", "Append"]),
  defaultEndpointToHostAction: anyCase(["Drop", "Accept", "Return"]),
  iptablesFilterAllowAction: anyCase(["Accept", "Return"]),
  iptablesMangleAllowAction: anyCase(["Accept", "Return"]),
  iptablesFilterDenyAction: anyCase(["Drop", "Reject"]),
  logPrefix: text({ pattern: same("^([a-zA-Z0-9%: /_-])*$") }),
  logActionRateLimit: given(text({ pattern: same("^[1-9]\\d{0,3}/(?:second|minute|hour|day)$") })),
  logActionRateLimitBurst: given(integer({ min: 0, max: 9999 })),
  logFilePath: text(),
  logSeverityFile: anyCase(severities),
  logSeverityScreen: anyCase(severities),
  logSeveritySys: anyCase(severities),
  logDebugFilenameRegex: text({ tags: [tags.regexp] }),
  ipipEnabled: given(flag()),
  ipipMTU: given(integer()),
  vxlanEnabled: given(flag()),
  vxlanMTU: given(integer()),
  vxlanMTUV6: given(integer()),
  vxlanPort: given(integer()),
  vxlanVNI: given(integer()),
  allowVXLANPacketsFromWorkloads: given(flag()),
  allowIPIPPacketsFromWorkloads: given(flag()),
  reportingInterval: wholeDuration(),
  reportingTTL: wholeDuration(),
  endpointReportingEnabled: given(flag()),
  endpointReportingDelay: wholeDuration(),
  endpointStatusPathPrefix: text(),
  iptablesMarkMask: given(integer({ min: 0, max: 4294967295 })),
  disableConntrackInvalidCheck: given(flag()),
  healthEnabled: given(flag()),
  healthHost: given(text()),
  healthPort: given(integer()),
  healthTimeoutOverrides: list(healthTimeoutOverride),
  prometheusMetricsEnabled: given(flag()),
  prometheusMetricsHost: text({ tags: [tags.prometheusHost] }),
  prometheusMetricsPort: given(integer()),
  prometheusGoMetricsEnabled: given(flag()),
  prometheusProcessMetricsEnabled: given(flag()),
  prometheusWireGuardMetricsEnabled: given(flag()),
  prometheusMetricsCAFile: given(text()),
  prometheusMetricsCertFile: given(text()),
  prometheusMetricsKeyFile: given(text()),
  prometheusMetricsClientAuth: given(
    choice(["RequireAndVerifyClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "NoClientCert"]),
  ),
  failsafeInboundHostPorts: given(list(hostPort)),
  failsafeOutboundHostPorts: given(list(hostPort)),
  kubeNodePortRanges: given(list(port(), { maxItems: 7 })),
  policySyncPathPrefix: text(),
  usageReportingEnabled: given(flag()),
  usageReportingInitialDelay: wholeDuration(),
  usageReportingInterval: wholeDuration(),
  natPortRange: given(port()),
  natOutgoingAddress: text({ max: 45 }),
  natOutgoingExclusions: given(choice(["IPPoolsOnly", "IPPoolsAndHostIPs"])),
  deviceRouteSourceAddress: text({ max: 45 }),
  deviceRouteSourceAddressIPv6: text({ max: 45 }),
  deviceRouteProtocol: given(integer()),
  removeExternalRoutes: given(flag()),
  programClusterRoutes: given(words(["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"])),
  ipForwarding: words(["Enabled", "Disabled"]),
  externalNodesList: given(list(text(), { go: "ExternalNodesCIDRList" })),
  debugMemoryProfilePath: text(),
  debugDisableLogDropping: given(flag()),
  debugSimulateCalcGraphHangAfter: wholeDuration(),
  debugSimulateDataplaneHangAfter: wholeDuration(),
  debugSimulateDataplaneApplyDelay: wholeDuration(),
  debugHost: given(text()),
  debugPort: given(integer({ tags: portTags })),
  iptablesNATOutgoingInterfaceFilter: text({ tags: [tags.ifaceFilter] }),
  sidecarAccelerationEnabled: given(flag()),
  xdpEnabled: given(flag()),
  genericXDPEnabled: given(flag()),
  nftablesMode: given(words(["Disabled", "Enabled", "Auto"], { go: "NFTablesMode", default: "Auto" })),
  nftablesFlowTableOffload: given(words(["All", "Disabled"], { go: "NFTablesFlowTableOffload", default: "Disabled" })),
  nftablesFlowTableDataIfacePattern: text({ go: "NFTablesFlowTableDataIfacePattern", tags: [tags.regexp] }),
  nftablesRefreshInterval: anyDuration(),
  nftablesFilterAllowAction: anyCase(["Accept", "Return"]),
  nftablesMangleAllowAction: anyCase(["Accept", "Return"]),
  nftablesFilterDenyAction: anyCase(["Drop", "Reject"]),
  nftablesMarkMask: given(integer({ min: 0, max: 4294967295 })),
  bpfEnabled: given(flag()),
  bpfOverlayHostSourceIP: given(choice(["TunnelAddress", "HostAddress"])),
  bpfDisableUnprivileged: given(flag()),
  bpfJITHardening: given(choice(["Auto", "Strict"])),
  bpfLogLevel: always(anyCase(["Off", "Info", "Debug"])),
  bpfConntrackLogLevel: choice(["Off", "Debug"]),
  bpfConntrackMode: given(choice(["Auto", "Userspace", "BPFProgram"], { go: "BPFConntrackCleanupMode" })),
  bpfConntrackTimeouts: given(conntrackTimeouts),
  bpfIPFragTimeout: wholeDuration(),
  bpfLogFilters: given(map(text(), { tags: [tags.interfaceKeys] })),
  bpfCTLBLogFilter: text(),
  bpfDataIfacePattern: text({ tags: [tags.regexp] }),
  bpfL3IfacePattern: text({ tags: [tags.regexp] }),
  bpfConnectTimeLoadBalancingEnabled: given(flag()),
  bpfConnectTimeLoadBalancing: given(choice(["TCP", "Enabled", "Disabled"])),
  bpfHostNetworkedNATWithoutCTLB: given(choice(["Enabled", "Disabled"])),
  bpfExternalServiceMode: anyCase(["Tunnel", "DSR"]),
  bpfDSROptoutCIDRs: given(list(text(), { tags: [tags.cidrs] })),
  bpfExtToServiceConnmark: given(integer({ tags: [tags.gte(0), tags.lte(4294967295)] })),
  bpfKubeProxyIptablesCleanupEnabled: given(flag()),
  bpfKubeProxyMinSyncPeriod: wholeDuration(),
  bpfKubeProxyHealthzPort: given(integer({ tags: portTags })),
  bpfPSNATPorts: given(port()),
  bpfMapSizeNATFrontend: given(integer()),
  bpfMapSizeNATBackend: given(integer()),
  bpfMapSizeNATAffinity: given(integer()),
  bpfMapSizeRoute: given(integer()),
  bpfMapSizeConntrack: given(integer()),
  bpfMapSizePerCpuConntrack: given(integer({ go: "BPFMapSizePerCPUConntrack" })),
  bpfMapSizeConntrackScaling: anyCase(["Disabled", "DoubleIfFull"]),
  bpfMapSizeConntrackCleanupQueue: given(integer({ tags: [tags.gte(1)], min: 1 })),
  bpfMapSizeIPSets: given(integer()),
  bpfMapSizeIfState: given(integer()),
  bpfHostConntrackBypass: given(flag()),
  bpfIPFragmentReassemblyEnabled: given(flag()),
  bpfEnforceRPF: anyCase(["Disabled", "Strict", "Loose"]),
  bpfPolicyDebugEnabled: given(flag()),
  bpfForceTrackPacketsFromIfaces: given(list(text(), { tags: [tags.ifaceFilterSlice] })),
  bpfDisableGROForIfaces: text({ tags: [tags.regexp] }),
  bpfExcludeCIDRsFromNAT: given(list(text(), { tags: [tags.cidrs] })),
  bpfExportBufferSizeMB: given(integer()),
  istioAmbientMode: given(words(["Enabled", "Disabled"])),
  istioDSCPMark: given(dscp()),
  cgroupV2Path: text(),
  flowLogsPolicyEvaluationMode: given(words(["None", "Continuous"])),
  bpfRedirectToPeer: words(["Enabled", "Disabled"]),
  bpfAttachType: given(choice(["TC", "TCX", "Netkit"])),
  flowLogsFlushInterval: wholeDuration(),
  flowLogsCollectorDebugTrace: given(flag()),
  flowLogsGoldmaneServer: given(text()),
  flowLogsLocalReporter: given(words(["Disabled", "Enabled"])),
  bpfProfiling: words(["Enabled", "Disabled"]),
  routeSource: anyCase(["WorkloadIPs", "CalicoIPAM"]),
  routeTableRanges: given(list(routeTableIdRange)),
  routeTableRange: given(oldRouteTableRange),
  routeSyncDisabled: given(flag()),
  ipv4NormalRoutePriority: routePriority(),
  ipv4ElevatedRoutePriority: routePriority(),
  ipv6NormalRoutePriority: routePriority(),
  ipv6ElevatedRoutePriority: routePriority(),
  liveMigrationRouteConvergenceTime: fractionalDuration(),
  wireguardEnabled: given(flag()),
  wireguardEnabledV6: given(flag()),
  wireguardThreadingEnabled: given(flag()),
  wireguardListeningPort: given(integer({ tags: [tags.gt(0), tags.lte(65535)] })),
  wireguardListeningPortV6: given(integer({ tags: [tags.gt(0), tags.lte(65535)] })),
  wireguardRoutingRulePriority: given(integer({ tags: [tags.gt(0), tags.lt(32766)] })),
  wireguardInterfaceName: text({ tags: [tags.interfaceName] }),
  wireguardInterfaceNameV6: text({ tags: [tags.interfaceName] }),
  wireguardMTU: given(integer()),
  wireguardMTUV6: given(integer()),
  wireguardHostEncryptionEnabled: given(flag()),
  wireguardKeepAlive: wholeDuration({ go: "WireguardPersistentKeepAlive" }),
  awsSrcDstCheck: given(choice(["DoNothing", "Enable", "Disable"])),
  serviceLoopPrevention: anyCase(["Drop", "Reject", "Disabled"], { tags: [tags.oneof("Drop", "Reject", "Disabled")] }),
  workloadSourceSpoofing: anyCase(["Disabled", "Any"], { tags: [tags.oneof("Disabled", "Any")] }),
  mtuIfacePattern: text({ tags: [tags.regexp] }),
  floatingIPs: given(words(["Enabled", "Disabled"])),
  localSubnetL2Reachability: given(choice(["Disabled", "PodsAndLoadBalancers"])),
  localSubnetL2ReachabilityRefreshInterval: anyDuration(),
  windowsManageFirewallRules: given(choice(["Enabled", "Disabled"])),
  goGCThreshold: given(integer({ tags: [tags.gte(-1)] })),
  goMemoryLimitMB: given(integer({ tags: [tags.gte(-1)] })),
  goMaxProcs: given(integer({ tags: [tags.gte(-1)] })),
  requireMTUFile: given(flag()),
  bpfMaglevMaxEndpointsPerService: given(integer({ tags: [tags.gt(0), tags.lte(3000)] })),
  bpfMaglevMaxServices: given(integer({ tags: [tags.gt(0), tags.lte(3000)] })),
});

const fields = object({ spec: always(spec) });

/** Names of all fields of the spec. */
export const felixFields: readonly string[] = Object.keys(spec.members);

/** Settings of the agent. */
export type FelixConfigurationSpec = Of<typeof spec>;
/** Settings of the agent: `default` for all nodes, `node.<name>` for one, any other name for those that it selects. */
export type FelixConfiguration = Resource<FelixConfigurationSpec>;

/**
 * Names of the parameters that the fields turn into, where they differ by more than case from the field's. Durations are in seconds,
 * but for iptablesLockProbeInterval (milliseconds).
 */
export const parameterNames: Readonly<Record<string, string>> = {
  ipv6Support: "Ipv6Support",
  iptablesPostWriteCheckInterval: "IptablesPostWriteCheckIntervalSecs",
  iptablesLockProbeInterval: "IptablesLockProbeIntervalMillis",
  netlinkTimeout: "NetlinkTimeoutSecs",
  ipipEnabled: "IpInIpEnabled",
  ipipMTU: "IpInIpMtu",
  reportingInterval: "ReportingIntervalSecs",
  reportingTTL: "ReportingTTLSecs",
  endpointReportingDelay: "EndpointReportingDelaySecs",
  usageReportingInitialDelay: "UsageReportingInitialDelaySecs",
  usageReportingInterval: "UsageReportingIntervalSecs",
  externalNodesList: "ExternalNodesCIDRList",
  bpfConntrackMode: "BPFConntrackCleanupMode",
  wireguardKeepAlive: "WireguardPersistentKeepAlive",
};

/** The kind. */
export const felixConfiguration = defineKind<FelixConfiguration>({
  kind: "FelixConfiguration",
  plural: "felixconfigurations",
  shortNames: ["felixconfig", "felixconfigs"],
  namespaced: false,
  fields,
  defaults,
  check: ({ spec }, refuse) => checkSpec(spec, refuse),
  checkSchema({ metadata, spec }, refuse) {
    checkFamilies(spec, refuse);
    const own = metadata.name === "default" || metadata.name.startsWith("node.");
    const reason = "nodeSelector must not be set on the 'default' or per-node ('node.*') FelixConfiguration";
    if (own && spec.nodeSelector !== undefined) refuse(reason, "FelixConfiguration");
  },
  columns: [nameColumn],
  example: { metadata: { name: "default" }, spec: { bpfLogLevel: "", logSeverityScreen: "Info" } },
});

/** What Calico's client writes on every object, so that a per-node object overrides the global one in these fields. */
function defaults({ spec }: FelixConfiguration): void {
  spec.floatingIPs ??= "Disabled";
  spec.bpfConnectTimeLoadBalancing ??= "TCP";
  spec.bpfHostNetworkedNATWithoutCTLB ??= "Enabled";
  if (spec.bpfConnectTimeLoadBalancingEnabled === undefined) return;
  spec.bpfConnectTimeLoadBalancing = spec.bpfConnectTimeLoadBalancingEnabled ? "Enabled" : "Disabled";
  spec.bpfHostNetworkedNATWithoutCTLB = "Disabled";
}

function checkSpec(spec: FelixConfigurationSpec, refuse: Refuse): void {
  const ports = spec.kubeNodePortRanges ?? [];
  if (ports.length > 7) refuse("KubeNodePortRanges", "node port ranges list is too long (max 7)", ports);
  for (const p of ports) {
    if (!portRange(p)) refuse("KubeNodePortRanges", "node port ranges should not contain named ports", ports);
  }
  for (const cidr of spec.externalNodesList ?? []) {
    const family = tags.parseNetOrIp(cidr)?.ip.v;
    if (!family) refuse("ExternalNodesCIDRList", "has invalid CIDR(s)", cidr);
    else if (family !== 4) refuse("ExternalNodesCIDRList", "has invalid IPv6 CIDR", cidr);
  }
  const region = spec.openstackRegion ?? "";
  // 63 less the length of the prefix "openstack-region-" of the namespace that bears its name.
  if (region.length > 46) refuse("OpenstackRegion", "is too long", region);
  else if (region !== "" && !labelPattern.test(region)) refuse("OpenstackRegion", "must be a valid DNS label", region);
  for (const [field, address] of addresses(spec)) {
    if (address && !tryParseIp(address)) refuse(field, "is not a valid IP address", address);
  }
  const tables = (spec.routeTableRanges ?? []).reduce((n, r) => n + r.max - r.min + 1, 0);
  if (tables > 65535) refuse("RouteTableRanges", "targets too many tables", spec.routeTableRanges);
}

function checkFamilies(spec: FelixConfigurationSpec, refuse: (reason: string) => void): void {
  if (spec.routeTableRange && spec.routeTableRanges) refuse("routeTableRange and routeTableRanges cannot both be set");
  for (const [, address, member, family] of addresses(spec)) {
    if (address && tryParseIp(address)?.v !== family) refuse(`${member} must be a valid IPv${family} address`);
  }
}

const addresses = (spec: FelixConfigurationSpec) =>
  [
    ["NATOutgoingAddress", spec.natOutgoingAddress, "natOutgoingAddress", 4],
    ["DeviceRouteSourceAddress", spec.deviceRouteSourceAddress, "deviceRouteSourceAddress", 4],
    ["DeviceRouteSourceAddressIPv6", spec.deviceRouteSourceAddressIPv6, "deviceRouteSourceAddressIPv6", 6],
  ] as const;
