import { felixConfiguration, parameterNames } from "../datastore/kinds/felix_configuration.ts";
import type { Field } from "../datastore/schema/schema.ts";

/** Parameters that Felix takes from its environment or file only, and those whose field has quite another name. */
const otherParameters = [
  ...["DatastoreType", "FelixHostname", "Variant", "ClusterGUID", "ClusterType", "CalicoVersion"],
  ...["EtcdAddr", "EtcdScheme", "EtcdKeyFile", "EtcdCertFile", "EtcdCaFile", "EtcdEndpoints"],
  ...["TyphaAddr", "TyphaK8sServiceName", "TyphaK8sNamespace", "TyphaReadTimeout", "TyphaWriteTimeout"],
  ...["TyphaKeyFile", "TyphaCertFile", "TyphaCAFile", "TyphaCN", "TyphaURISAN"],
  ...["IPv4VXLANTunnelAddr", "IPv6VXLANTunnelAddr", "VXLANTunnelMACAddr", "VXLANTunnelMACAddrV6", "IpInIpTunnelAddr"],
  ...["WireguardPersistentKeepAlive", "BPFConntrackCleanupMode", "ExternalNodesCIDRList"],
  ...["DebugBPFCgroupV2", "DebugCPUProfilePath", "DebugPanicAfter", "DebugSimulateDataRace"],
];

const names = new Set([...fieldParameters(), ...otherParameters].map((name) => name.toLowerCase()));

function fieldParameters(): string[] {
  const { spec } = (felixConfiguration.fields as unknown as { members: { spec: { members: Record<string, Field> } } })
    .members;
  return Object.keys(spec.members).map((field) => parameterNames[field] ?? field);
}

/**
 * True for the name of a Felix parameter, as it stands after `FELIX_` in a variable; any case.
 * Source: Calico's felix/config/config_params.go.
 */
export const isFelixParameter = (name: string): boolean => names.has(name.toLowerCase());
