/**
 * Felix's parameters that do nothing here, by name, with the reason; those of eBPF besides. What the others do is in
 * docs/felix_parameters.md.
 */
export const idleParameters: Readonly<Record<string, string>> = {
  NFTablesMode: "there is no nftables backend yet; `Auto` and `Disabled` mean iptables",
  NFTablesFlowTableOffload: "there is no nftables backend yet; `Auto` and `Disabled` mean iptables",
  NFTablesFlowTableDataIfacePattern: "there is no nftables backend yet; `Auto` and `Disabled` mean iptables",
  NftablesRefreshInterval: "there is no nftables backend yet; `Auto` and `Disabled` mean iptables",
  NftablesFilterAllowAction: "there is no nftables backend yet; `Auto` and `Disabled` mean iptables",
  NftablesMangleAllowAction: "there is no nftables backend yet; `Auto` and `Disabled` mean iptables",
  NftablesFilterDenyAction: "there is no nftables backend yet; `Auto` and `Disabled` mean iptables",
  NftablesMarkMask: "there is no nftables backend yet; `Auto` and `Disabled` mean iptables",
  WireguardThreadingEnabled: "the kernel's own choice stays",
  IptablesPostWriteCheckIntervalSecs: "tables are not read after a write: a change of others is an event",
  IptablesLockProbeIntervalMillis: "iptables-restore itself waits for the lock",
  FeatureDetectOverride: "what kernel and programs can is asked of them",
  FeatureGates: "there are none",
  NetlinkTimeoutSecs: "each netlink request has a deadline of its own",
  XDPEnabled: "untracked policy is enforced in the raw table only",
  XDPRefreshInterval: "untracked policy is enforced in the raw table only",
  GenericXDPEnabled: "untracked policy is enforced in the raw table only",
  SidecarAccelerationEnabled: "no longer does anything in Felix",
  LocalSubnetL2Reachability: "not built yet",
  LocalSubnetL2ReachabilityRefreshInterval: "not built yet",
  IPv4ElevatedRoutePriority: "live migration is not built yet",
  IPv6ElevatedRoutePriority: "live migration is not built yet",
  LiveMigrationRouteConvergenceTime: "live migration is not built yet",
  RouteSource: "routes follow IPAM's blocks (`CalicoIPAM`)",
  KubeNodePortRanges: "kube-proxy in IPVS mode is not supported",
  RequireMTUFile: "the MTU is found out and written, not read",
  PrometheusGoMetricsEnabled: "there is no Go runtime",
  PrometheusMetricsCAFile: "no client certificates yet",
  LogFilePath: "logs go to standard error",
  LogSeverityFile: "logs go to standard error",
  LogSeveritySys: "logs go to standard error",
  LogDebugFilenameRegex: "logs go to standard error",
  UsageReportingEnabled: "nothing is ever reported to anybody",
  UsageReportingInitialDelaySecs: "nothing is ever reported to anybody",
  UsageReportingIntervalSecs: "nothing is ever reported to anybody",
  MetadataAddr: "OpenStack's metadata service is not supported",
  MetadataPort: "OpenStack's metadata service is not supported",
  PolicySyncPathPrefix: "application-layer policy is not built yet",
  UseInternalDataplaneDriver: "there are no drivers outside the process yet",
  DataplaneDriver: "there are no drivers outside the process yet",
  AWSSrcDstCheck: "not built",
  WindowsManageFirewallRules: "Windows only",
  IstioAmbientMode: "not built",
  IstioDSCPMark: "not built",
  CgroupV2Path: "eBPF only",
  GoGCThreshold: "there is no Go runtime",
  GoMemoryLimitMB: "there is no Go runtime",
  GoMaxProcs: "there is no Go runtime",
  FlowLogsPolicyEvaluationMode: "flow logs are not built yet",
  FlowLogsFlushInterval: "flow logs are not built yet",
  FlowLogsCollectorDebugTrace: "flow logs are not built yet",
  FlowLogsGoldmaneServer: "flow logs are not built yet",
  FlowLogsLocalReporter: "flow logs are not built yet",
  DebugHost: "no profiler",
  DebugPort: "no profiler",
  DebugMemoryProfilePath: "no profiler",
  DebugDisableLogDropping: "log lines are not dropped",
  DebugSimulateCalcGraphHangAfter: "a test of Felix",
  DebugSimulateDataplaneHangAfter: "a test of Felix",
  DebugSimulateDataplaneApplyDelay: "a test of Felix",
  DatastoreType: "etcd; `DATASTORE_TYPE`",
  FelixHostname: "`NODENAME`",
  EtcdAddr: "`ETCD_ENDPOINTS`",
  EtcdScheme: "`ETCD_ENDPOINTS`",
  EtcdEndpoints: "`ETCD_ENDPOINTS`",
  EtcdKeyFile: "`ETCD_KEY_FILE`",
  EtcdCertFile: "`ETCD_CERT_FILE`",
  EtcdCaFile: "`ETCD_CA_CERT_FILE`",
  IPv4VXLANTunnelAddr: "the Node says it",
  IPv6VXLANTunnelAddr: "the Node says it",
  VXLANTunnelMACAddr: "the Node says it",
  VXLANTunnelMACAddrV6: "the Node says it",
  IpInIpTunnelAddr: "the Node says it",
};

/** Values that mean what we do anyway: who says them asks for nothing. Calico's own clients write some of them. */
const usual: Readonly<Record<string, string[]>> = {
  NFTablesMode: ["auto", "disabled"],
  NFTablesFlowTableOffload: ["disabled"],
  RouteSource: ["calicoipam"],
  DatastoreType: ["etcdv3"],
  LocalSubnetL2Reachability: ["disabled"],
  AWSSrcDstCheck: ["donothing"],
  IstioAmbientMode: ["disabled"],
  UseInternalDataplaneDriver: ["true"],
  FlowLogsLocalReporter: ["disabled"],
};

const byLowerName = new Map(Object.entries(idleParameters).map(([name, why]) => [name.toLowerCase(), { name, why }]));

/** Why saying this parameter does nothing; undefined when it does something, or asks for what is there anyway. */
export function idleReason(parameter: string, value: unknown): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  const text = String(value).toLowerCase();
  if (parameter.toLowerCase() === "bpfenabled" && text === "true") return "the eBPF dataplane is not built yet";
  const idle = byLowerName.get(parameter.toLowerCase());
  if (!idle || text === "false" || text === "none") return undefined;
  return usual[idle.name]?.includes(text) ? undefined : idle.why;
}
