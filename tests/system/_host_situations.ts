import type { Stored } from "../packets/host_network.ts";

/** Actions. */
export const allow = { action: "Allow" }, deny = { action: "Deny" };
/** A TCP rule by destination ports. */
export const tcpTo = (...ports: (number | string)[]) => ({ protocol: "TCP", destination: { ports } });
const udpTo = (...ports: (number | string)[]) => ({ protocol: "UDP", destination: { ports } });
const tcpFrom = (...ports: number[]) => ({ protocol: "TCP", source: { ports } });
/** A host endpoint of this node. */
export const hep = (name: string, spec: object, labels: Record<string, string> = { role: "host" }): Stored => ({
  kind: "HostEndpoint",
  metadata: { name, labels },
  spec: { node: "alder", ...spec },
});
/** A policy of the tier `default`; ingress of every host endpoint unless it says otherwise. */
export const gnp = (name: string, spec: object): Stored => ({
  kind: "GlobalNetworkPolicy",
  metadata: { name: `default.${name}` },
  spec: { tier: "default", selector: "role == 'host'", types: ["Ingress"], ...spec },
});
/** Felix's parameters. */
export const felix = (spec: object): Stored => ({ kind: "FelixConfiguration", metadata: { name: "default" }, spec });
/** The tier that is always there. */
export const tier: Stored = {
  kind: "Tier",
  metadata: { name: "default" },
  spec: { order: 1_000_000, defaultAction: "Deny" },
};
const lan0 = hep("h0", { interfaceName: "lan0" });
/** The built-in profile. */
export const open = "projectcalico-default-allow";

/** What stands beside tier and pod; which packets arrive and are answered, arrive unanswered, and do not arrive. */
export interface Situation {
  resources: Stored[];
  arrive?: string[];
  unanswered?: string[];
  not?: string[];
}

/** By what they show. */
export const situations: Record<string, Situation> = {
  "a host endpoint without policy and profile leaves the failsafe ports, and what is forwarded": {
    resources: [lan0],
    arrive: [
      ...[
        "left > host tcp 22",
        "left > host tcp 179",
        "left > host udp 68",
        "host > left tcp 2379",
        "host > left udp 53",
      ],
      ...["left > right tcp 80", "right > left udp 9", "right > host tcp 80", "host > right tcp 80"],
      ...["left > pod tcp 80", "pod > left tcp 80", "host > pod tcp 80"],
    ],
    not: ["left > host tcp 80", "left > host udp 22", "left > host icmp", "host > left tcp 80", "host > left icmp"],
  },
  "neighbour discovery passes without failsafe ports": {
    resources: [lan0, felix({ failsafeInboundHostPorts: [], failsafeOutboundHostPorts: [] })],
    unanswered: [133, 134, 135, 136].flatMap((type) => [`left > host icmp ${type} v6`, `host > left icmp ${type} v6`]),
    arrive: ["right > host tcp 22"],
    not: [
      "left > host tcp 22",
      "left > host tcp 2379",
      "host > left udp 53",
      "left > host udp 68",
      "left > host icmp 137 v6",
    ],
  },
  "failsafe ports by network, protocol and direction": {
    resources: [
      lan0,
      felix({
        failsafeInboundHostPorts: [
          { protocol: "tcp", port: 8022, net: "10.99.1.2/32" },
          { protocol: "tcp", port: 8023, net: "fd99:1::/64" },
          { protocol: "udp", port: 8024 },
          { protocol: "tcp", port: 8025, net: "192.0.2.0/24" },
        ],
        failsafeOutboundHostPorts: [{ protocol: "udp", port: 8026, net: "10.99.1.0/24" }, {
          protocol: "tcp",
          port: 8027,
        }],
      }),
    ],
    arrive: [
      ...["left > host tcp 8022 v4", "left > host tcp 8023 v6", "left > host udp 8024"],
      ...["host > left udp 8026 v4", "host > left tcp 8027"],
    ],
    not: [
      ...["left > host tcp 8022 v6", "left > host tcp 8023 v4", "left > host tcp 8024", "left > host tcp 8025"],
      ...["left > host tcp 22", "host > left udp 8026 v6", "host > left udp 8027", "host > left tcp 2379"],
    ],
  },
  "policies select by label; named ports are the endpoint's; both directions": {
    resources: [
      hep("h0", {
        interfaceName: "lan0",
        expectedIPs: ["10.99.1.1", "fd99:1::1"],
        ports: [{ name: "web", protocol: "TCP", port: 8080 }],
      }),
      hep("h1", { interfaceName: "lan1" }, { role: "other" }),
      gnp("a", {
        types: ["Ingress", "Egress"],
        ingress: [
          {
            ...allow,
            protocol: "TCP",
            source: { nets: ["10.99.1.2/32", "fd99:1::/64"] },
            destination: { ports: [81, "web"] },
          },
          { ...deny, ...udpTo(82) },
          { ...allow, ...udpTo("80:90") },
        ],
        egress: [{ ...allow, ...tcpTo(443) }],
      }),
    ],
    arrive: [
      ...[
        "left > host tcp 81",
        "left > host tcp 8080",
        "left > host udp 81",
        "left > host tcp 22",
        "host > left tcp 443",
      ],
      "left > right tcp 99",
    ],
    not: [
      "left > host tcp 80",
      "left > host udp 82",
      "host > left tcp 444",
      "right > host tcp 81",
      "host > right tcp 443",
    ],
  },
  "a profile allows what no policy decided; the built-in one is not stored": {
    resources: [
      hep("h0", { interfaceName: "lan0", profiles: ["p"] }),
      hep("h1", { interfaceName: "lan1", profiles: [open] }),
      { kind: "Profile", metadata: { name: "p" }, spec: { ingress: [{ ...allow, ...tcpTo(80) }], egress: [allow] } },
    ],
    arrive: ["left > host tcp 80", "host > left udp 9", "right > host udp 9", "host > right tcp 9"],
    not: ["left > host tcp 81", "left > host udp 80"],
  },
  "a policy in one direction leaves the other to profiles": {
    resources: [
      hep("h0", { interfaceName: "lan0", profiles: [open] }),
      gnp("a", { ingress: [{ ...allow, ...tcpTo(80) }] }),
    ],
    arrive: ["left > host tcp 80", "host > left tcp 81", "host > left icmp"],
    not: ["left > host tcp 81", "left > host icmp"],
  },
  "expectedIPs find the interface; of several endpoints the smallest name has it": {
    resources: [
      hep("b", { expectedIPs: ["10.99.1.1"] }),
      hep("a", { expectedIPs: ["fd99:2::1"] }, { role: "none" }),
      hep("c", { interfaceName: "lan1", profiles: [open] }),
      // Its address is lan1's, but it has a name.
      hep("0", { interfaceName: "nowhere", expectedIPs: ["10.99.2.1"], profiles: [open] }),
      gnp("a", { ingress: [{ ...allow, ...tcpTo(80) }] }),
    ],
    arrive: ["left > host tcp 80", "right > host tcp 22"],
    not: ["left > host tcp 81", "right > host tcp 80"],
  },
  "two host endpoints of one name: the smaller id": {
    resources: [
      hep("y", { interfaceName: "lan0", profiles: [open] }),
      hep("x", { interfaceName: "lan0" }, { role: "x" }),
      gnp("a", { selector: "role == 'x'", ingress: [{ ...allow, ...tcpTo(80) }] }),
    ],
    arrive: ["left > host tcp 80"],
    not: ["left > host tcp 81", "host > left tcp 81"],
  },
  "`*` stands for every interface without an endpoint, and not for what goes to workloads": {
    resources: [
      hep("all", { interfaceName: "*" }),
      hep("h1", { interfaceName: "lan1", profiles: [open] }),
      gnp("a", { ingress: [{ ...allow, ...tcpTo(80) }] }),
    ],
    arrive: [
      ...["left > host tcp 80", "left > host tcp 22", "right > host tcp 80", "host > right tcp 9", "host > pod tcp 80"],
      ...["left > right tcp 80", "left > pod tcp 80", "pod > left tcp 80"],
    ],
    not: ["left > host tcp 81", "host > left tcp 80", "right > host tcp 81"],
  },
  "`*` with the built-in profile changes nothing": {
    resources: [hep("all", { interfaceName: "*", profiles: [open] })],
    arrive: [
      "left > host tcp 80",
      "host > left udp 9",
      "left > right tcp 80",
      "pod > right tcp 80",
      "host > pod udp 80",
      "left > host icmp",
    ],
  },
  "forward policy applies to what is forwarded, in the direction that it has": {
    resources: [
      lan0,
      gnp("f", { applyOnForward: true, ingress: [{ ...allow, ...tcpTo(80) }] }),
    ],
    arrive: [
      "left > right tcp 80",
      "left > pod tcp 80",
      "right > left tcp 81",
      "left > host tcp 80",
      "pod > left udp 9",
    ],
    not: ["left > right tcp 81", "left > pod tcp 81", "left > host tcp 81", "left > right icmp"],
  },
  "forward policy in both directions, on both interfaces": {
    resources: [
      lan0,
      hep("h1", { interfaceName: "lan1" }),
      gnp("f", {
        applyOnForward: true,
        types: ["Ingress", "Egress"],
        ingress: [{ ...allow, ...tcpTo(80, 81) }],
        egress: [{ ...allow, ...tcpTo(80, 82) }],
      }),
    ],
    arrive: ["left > right tcp 80", "right > left tcp 80", "left > pod tcp 81", "pod > right tcp 82"],
    not: ["left > right tcp 81", "left > right tcp 82", "pod > right tcp 81", "right > pod tcp 82"],
  },
  "profiles say nothing of what is forwarded": {
    resources: [
      hep("h0", { interfaceName: "lan0", profiles: [open] }),
      gnp("f", { applyOnForward: true, ingress: [{ ...allow, ...tcpTo(80) }] }),
    ],
    arrive: ["left > right tcp 80"],
    not: ["left > right tcp 81"],
  },
  "preDNAT policy: before normal policy, for what comes in, with failsafes; it ends in nothing": {
    resources: [
      hep("h0", { interfaceName: "lan0", profiles: [open] }),
      gnp("p", {
        applyOnForward: true,
        preDNAT: true,
        ingress: [{ ...deny, ...tcpTo(22, 81) }, { ...allow, ...tcpTo(82) }, { ...deny, ...udpTo(9) }],
      }),
      gnp("n", { applyOnForward: true, ingress: [{ ...deny, ...tcpTo(82, 83) }, allow] }),
    ],
    arrive: [
      "left > host tcp 22",
      "left > right tcp 22",
      "left > host tcp 80",
      "left > host tcp 82",
      "left > right tcp 82",
      "right > host tcp 81",
      "left > right tcp 80",
    ],
    not: [
      "left > host tcp 81",
      "left > right tcp 81",
      "left > host tcp 83",
      "left > right tcp 83",
      "left > pod udp 9",
    ],
  },
  "preDNAT policy of `*` applies to every interface": {
    resources: [
      hep("all", { interfaceName: "*", profiles: [open] }),
      gnp("p", { applyOnForward: true, preDNAT: true, ingress: [{ ...deny, ...tcpTo(81) }] }),
    ],
    arrive: ["left > host tcp 80", "right > pod tcp 80"],
    not: ["left > host tcp 81", "right > host tcp 81", "right > pod tcp 81", "left > right tcp 81"],
  },
  "untracked policy: before all others, both ways, answers need a rule of their own": {
    resources: [
      lan0,
      gnp("u", {
        applyOnForward: true,
        doNotTrack: true,
        types: ["Ingress", "Egress"],
        ingress: [{ ...allow, ...tcpTo(80, 81) }, { ...deny, ...tcpTo(22, 83) }, { ...allow, ...tcpFrom(443) }],
        egress: [{ ...allow, ...tcpFrom(80) }, { ...allow, ...tcpTo(443) }, { ...deny, ...udpTo(53, 9) }],
      }),
      gnp("n", {
        types: ["Ingress", "Egress"],
        ingress: [{ ...allow, ...tcpTo(82, 83) }],
        egress: [{ ...allow, ...udpTo(9) }],
      }),
    ],
    arrive: [
      "left > host tcp 80",
      "left > host tcp 82",
      "left > host tcp 22",
      "host > left tcp 443",
      "host > left udp 53",
    ],
    unanswered: ["left > host tcp 81"],
    not: ["left > host tcp 83", "left > host tcp 84", "host > left udp 9"],
  },
  "untracked policy of `*` is left out": {
    resources: [
      hep("all", { interfaceName: "*", profiles: [open] }),
      gnp("u", { applyOnForward: true, doNotTrack: true, ingress: [{ ...deny, ...tcpTo(81) }] }),
    ],
    arrive: ["left > host tcp 81", "right > host tcp 81"],
  },
  "workload to host: dropped": {
    resources: [hep("all", { interfaceName: "*" }), gnp("a", { ingress: [{ ...allow, ...tcpTo(80) }] })],
    not: ["pod > host tcp 80", "pod > host tcp 22", "left > host tcp 81"],
    arrive: ["left > host tcp 80"],
  },
  "workload to host: accepted, whatever host endpoints say": {
    resources: [hep("all", { interfaceName: "*" }), felix({ defaultEndpointToHostAction: "Accept" })],
    arrive: ["pod > host tcp 80", "pod > host udp 9"],
    not: ["left > host tcp 80"],
  },
  "workload to host: returned to the host's own rules, past host endpoints": {
    resources: [hep("all", { interfaceName: "*" }), felix({ defaultEndpointToHostAction: "Return" })],
    arrive: ["pod > host tcp 80"],
    not: ["left > host tcp 80"],
  },
  "a host endpoint with a workload's interface means nothing": {
    resources: [
      hep("w", { interfaceName: "calisandbox" }),
      gnp("f", { applyOnForward: true, types: ["Ingress", "Egress"], ingress: [deny], egress: [deny] }),
    ],
    arrive: ["pod > left tcp 80", "left > pod tcp 80", "host > pod tcp 80"],
  },
  "deny action Reject tells the sender": {
    resources: [lan0, felix({ iptablesFilterDenyAction: "Reject" })],
    arrive: ["left > host tcp 22"],
    not: ["left > host tcp 80", "host > left tcp 80"],
  },
};
