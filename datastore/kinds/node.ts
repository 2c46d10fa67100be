import { always, given, list, object, text } from "../schema/fields.ts";
import { defineKind, type Resource } from "../kind.ts";
import { asNumber } from "../schema/scalars.ts";
import type { Of } from "../schema/schema.ts";
import * as tags from "../schema/tags.ts";
import { nameColumn, specColumn } from "../columns.ts";

const fields = object({
  spec: always(object({
    bgp: given(object({
      asNumber: given(asNumber()),
      /** Address with the prefix length of its subnet: `192.168.7.11/24`. */
      ipv4Address: text({ tags: [tags.cidrv4] }),
      ipv6Address: text({ tags: [tags.cidrv6] }),
      ipv4IPIPTunnelAddr: text({ tags: [tags.ipv4] }),
      /** Set = this node is a route reflector; written as an IPv4 address. */
      routeReflectorClusterID: text({ tags: [tags.ipv4] }),
    }, { go: "BGP" })),
    ipv4VXLANTunnelAddr: text({ tags: [tags.ipv4] }),
    vxlanTunnelMACAddr: text({ tags: [tags.mac] }),
    ipv6VXLANTunnelAddr: text({ tags: [tags.ipv6] }),
    vxlanTunnelMACAddrV6: text({ tags: [tags.mac] }),
    orchRefs: list(object({ nodeName: text(), orchestrator: always(text()) })),
    wireguard: given(object({
      interfaceIPv4Address: text({ tags: [tags.ipv4] }),
      interfaceIPv6Address: text({ tags: [tags.ipv6] }),
    })),
    /** Not checked at a write. `type`: CalicoNodeIP, InternalIP or ExternalIP. */
    addresses: list(object({ address: always(text()), type: text() })),
    interfaces: list(object({ name: text(), addresses: list(text()) })),
  })),
  status: always(object({
    wireguardPublicKey: text({ tags: [tags.wireguardPublicKey] }),
    wireguardPublicKeyV6: text({ go: "WireguardPublicKeyV6", tags: [tags.wireguardPublicKey] }),
    podCIDRs: list(text()),
  })),
});

/** A host's addresses in the cluster, BGP and tunnel settings. */
export type NodeSpec = Of<typeof fields>["spec"];
/** A host of the cluster. */
export type Node = Resource<NodeSpec, Of<typeof fields>["status"]>;

/** The kind. */
export const node = defineKind<Node>({
  kind: "Node",
  plural: "nodes",
  shortNames: ["no", "nos"],
  namespaced: false,
  hasSchema: false,
  fields,
  check({ spec }, refuse) {
    if (spec.bgp && Object.values(spec.bgp).every((v) => v === "")) {
      refuse("BGP", "Spec.BGP should not be empty", spec.bgp);
    }
  },
  columns: [
    nameColumn,
    {
      head: "ASN",
      only: "wide",
      value: ({ spec }, { asNumber }) => (spec.bgp ? String(spec.bgp.asNumber ?? `(${asNumber})`) : ""),
    },
    specColumn("IPV4", (spec) => spec.bgp?.ipv4Address ?? "", "wide"),
    specColumn("IPV6", (spec) => spec.bgp?.ipv6Address ?? "", "wide"),
  ],
  example: {
    metadata: { name: "node-1", labels: { rack: "r1" } },
    spec: { bgp: { ipv4Address: "192.0.2.11/24" }, addresses: [{ address: "192.0.2.11", type: "InternalIP" }] },
    status: {},
  },
});
