import { contains } from "../../lib/ip.ts";
import { always, given, integer, integer64, list, object, type Refuse, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { endpointName } from "../names.ts";
import { invalid } from "../problems.ts";
import { dscp, protocol } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { joined, nameColumn, specColumn } from "../columns.ts";
import { hasPorts } from "./rule.ts";

const uint16: { readable: [number, number] } = { readable: [0, 65535] };

const fields = object({
  spec: always(object({
    orchestrator: text({ tags: [tags.name] }),
    workload: text({ tags: [tags.name] }),
    node: text({ tags: [tags.name] }),
    containerID: text({ tags: [tags.containerID] }),
    pod: text({ tags: [tags.name] }),
    endpoint: text({ tags: [tags.name] }),
    serviceAccountName: text({ tags: [tags.name] }),
    /** Addresses as /32 or /128. */
    ipNetworks: list(text({ tags: [tags.net] }), { go: "IPNetworks" }),
    ipNATs: list(
      object({
        internalIP: always(text({ tags: [tags.ip] })),
        externalIP: always(text({ tags: [tags.ip] })),
      }, {
        rules({ internalIP, externalIP }, refuse) {
          const [inside, outside] = [tags.parseNetOrIp(internalIP), tags.parseNetOrIp(externalIP)];
          if (internalIP && !inside) refuse("InternalIP", "invalid IP address", externalIP);
          if (externalIP && !outside) refuse("InternalIP", "invalid IP address", externalIP);
          if (inside?.ip.v !== outside?.ip.v) refuse("ExternalIP", "mismatched IP versions", externalIP);
        },
      }),
      { go: "IPNATs" },
    ),
    ipv4Gateway: text({ go: "IPv4Gateway", tags: [tags.ipv4] }),
    ipv6Gateway: text({ go: "IPv6Gateway", tags: [tags.ipv6] }),
    profiles: list(text({ tags: [tags.name] })),
    /** Name of the interface on the host's side. */
    interfaceName: text({ tags: [tags.asked(tags.interfaceName)] }),
    mac: text({ go: "MAC", tags: [tags.mac] }),
    ports: list(object({
      name: always(text({ tags: [tags.portName] })),
      protocol: always(protocol()),
      port: always(integer({ ...uint16, tags: [tags.gt(0)] })),
      hostPort: always(integer(uint16)),
      hostIP: always(text({ tags: [tags.net] })),
    }, {
      rules({ name, protocol, hostPort }, refuse) {
        if (!hasPorts(protocol)) {
          refuse("WorkloadEndpointPort.Protocol", "WorkloadEndpointPort protocol does not support ports.", protocol);
        }
        if (name === "" && hostPort === 0) {
          const reason = "WorkloadEndpointPort name must not be empty if no HostPort is specified";
          refuse("WorkloadEndpointPort.Name", reason, name);
        }
      },
    })),
    allowSpoofedSourcePrefixes: list(text({ tags: [tags.cidr] })),
    qosControls: given(object({
      ingressBandwidth: integer64(),
      ingressBurst: integer64(),
      ingressPeakrate: integer64(),
      ingressMinburst: integer64(),
      egressBandwidth: integer64(),
      egressBurst: integer64(),
      egressPeakrate: integer64(),
      egressMinburst: integer64(),
      ingressPacketRate: integer64(),
      ingressPacketBurst: integer64(),
      egressPacketRate: integer64(),
      egressPacketBurst: integer64(),
      ingressMaxConnections: integer64(),
      egressMaxConnections: integer64(),
      dscp: given(dscp()),
    })),
  })),
});

/** Who the endpoint is, its addresses and its interface. */
export type WorkloadEndpointSpec = Of<typeof fields>["spec"];
/** One interface of a pod or container. */
export type WorkloadEndpoint = Resource<WorkloadEndpointSpec>;

/** The kind. */
export const workloadEndpoint = defineKind<WorkloadEndpoint>({
  kind: "WorkloadEndpoint",
  plural: "workloadendpoints",
  shortNames: ["wep", "weps"],
  namespaced: true,
  hasSchema: false,
  fields,
  computeName: ({ spec }) => nameOf(spec),
  defaults,
  check: ({ spec }, refuse) => checkSpec(spec, refuse),
  columns: [
    { ...nameColumn, only: "wide" },
    specColumn("WORKLOAD", (spec) => spec.workload || spec.pod || ""),
    specColumn("NODE", (spec) => spec.node ?? ""),
    specColumn("NETWORKS", (spec) => joined(spec.ipNetworks)),
    specColumn("INTERFACE", (spec) => spec.interfaceName ?? ""),
    specColumn("PROFILES", (spec) => joined(spec.profiles), "wide"),
    specColumn("NATS", (spec) => joined(spec.ipNATs?.map((nat) => `{${nat.internalIP} ${nat.externalIP}}`)), "wide"),
  ],
  example: {
    metadata: { name: "node--1-k8s-web--0-eth0", namespace: "shop", labels: { app: "web" } },
    spec: {
      orchestrator: "k8s",
      node: "node-1",
      pod: "web-0",
      endpoint: "eth0",
      ipNetworks: ["192.0.2.130/32"],
      profiles: ["kns.shop"],
      interfaceName: "cali18582a65b10",
    },
  },
});

function nameOf(spec: WorkloadEndpointSpec): string {
  const { node = "", orchestrator = "", endpoint = "", pod, containerID, workload } = spec;
  return endpointName({ node, orchestrator, endpoint, pod, containerID, workload });
}

/** The name is the one that the spec gives; namespace and orchestrator become labels that nobody can claim otherwise. */
function defaults({ metadata, spec }: WorkloadEndpoint): void {
  const name = nameOf(spec);
  if (metadata.name && metadata.name !== name) {
    const reason =
      `the WorkloadEndpoint name does not match the primary identifiers assigned in the Spec: expected name ${name}`;
    throw invalid([{ field: "Name", value: metadata.name, reason }]);
  }
  metadata.name = name;
  metadata.labels = {
    ...metadata.labels,
    "projectcalico.org/namespace": metadata.namespace ?? "",
    "projectcalico.org/orchestrator": spec.orchestrator ?? "",
  };
}

function checkSpec(spec: WorkloadEndpointSpec, refuse: Refuse): void {
  const networks = spec.ipNetworks ?? [];
  for (const network of networks) {
    const net = tags.parseNetOrIp(network);
    if (!net) refuse("IPNetworks", "invalid CIDR", network);
    else if (net.len !== (net.ip.v === 4 ? 32 : 128)) {
      refuse("IPNetworks", "IP network contains multiple addresses", networks);
    }
  }
  for (const [version, gateway] of [[4, spec.ipv4Gateway], [6, spec.ipv6Gateway]] as const) {
    const net = gateway ? tags.parseNetOrIp(gateway) : undefined;
    const field = `IPv${version}Gateway`;
    if (gateway && !net) refuse(field, "invalid CIDR", gateway);
    if (net && net.ip.v !== version) refuse(field, `invalid IPv${version} gateway address specified`, gateway);
  }
  const inside = (ip: string) => {
    const address = tags.parseNetOrIp(ip)?.ip;
    return networks.some((n) => address && tags.parseNetOrIp(n) && contains(tags.networkOf(n)!, address));
  };
  if (spec.ipNATs?.some((nat) => !inside(nat.internalIP))) {
    refuse("IPNATs", "NAT is not in the endpoint networks", spec.ipNATs);
  }
}
