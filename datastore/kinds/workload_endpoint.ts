import { always, given, integer, integer64, list, object, text } from "../fields.ts";
import { type Resource } from "../kind.ts";
import { dscp, protocol } from "../scalars.ts";
import type { Of } from "../schema.ts";
import * as tags from "../tags.ts";

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
      }),
      { go: "IPNATs" },
    ),
    ipv4Gateway: text({ go: "IPv4Gateway", tags: [tags.ipv4] }),
    ipv6Gateway: text({ go: "IPv6Gateway", tags: [tags.ipv6] }),
    profiles: list(text({ tags: [tags.name] })),
    /** Name of the interface on the host's side. */
    interfaceName: text({ tags: [tags.interfaceName] }),
    mac: text({ go: "MAC", tags: [tags.mac] }),
    ports: list(object({
      name: always(text({ tags: [tags.portName] })),
      protocol: always(protocol()),
      port: always(integer({ ...uint16, tags: [tags.gt(0)] })),
      hostPort: always(integer(uint16)),
      hostIP: always(text({ tags: [tags.net] })),
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
