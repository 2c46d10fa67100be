import { apiVersion, type Resource } from "../../datastore/kind.ts";
import { profileOfNamespace } from "../../datastore/kubernetes/profile.ts";
import { storedPolicyOf } from "../../datastore/kubernetes/network_policy.ts";
import type { JudgedPod } from "../packets/kubernetes_semantics.ts";

const http = { name: "http", protocol: "TCP", port: 8080 }, dns = { name: "dns", protocol: "UDP", port: 53 };

/** Pods of the host that is taken over. */
export const takeoverPods: JudgedPod[] = [
  { namespace: "red", labels: { role: "client" }, ports: [] },
  { namespace: "red", labels: { role: "server" }, ports: [http, dns] },
  { namespace: "blue", labels: { role: "client" }, ports: [http] },
  { namespace: "blue", labels: {}, ports: [] },
];

/** Addresses outside: in the network set of what is bad, in that of friends, in none. */
export const far = { bad: "203.0.113.9", friend: "198.51.100.5", stranger: "198.18.0.1" };

const object = (kind: string, name: string, spec: object, more: object = {}): Resource => ({
  apiVersion,
  kind,
  metadata: { name, uid: `${kind}-${name}`, creationTimestamp: "2026-01-02T03:04:05Z", ...more },
  spec: spec as Resource["spec"],
});
const allow = { action: "Allow" }, deny = { action: "Deny" }, pass = { action: "Pass" }, log = { action: "Log" };
const to = (protocol: string, ...ports: (number | string)[]) => ({ protocol, destination: { ports } });
const from = (selector: string, more: object = {}) => ({ source: { selector, ...more } });
const global = (name: string, order: number, spec: object) =>
  object("GlobalNetworkPolicy", name, { tier: name.split(".")[0], order, types: ["Ingress"], ...spec });
const inRed = (name: string, order: number, spec: object) =>
  object("NetworkPolicy", name, { tier: "default", order, types: ["Ingress"], ...spec }, { namespace: "red" });
const twenty = Array.from({ length: 20 }, (_, i) => 2000 + 2 * i);

/** Policies of workloads: tiers, groups, named ports, sets, exceptions, ICMP, logs, a profile, one of Kubernetes. */
const workloads: Resource[] = [
  object("Tier", "default", { order: 1_000_000, defaultAction: "Deny" }),
  object("Tier", "security", { order: 100, defaultAction: "Pass" }),
  global("security.bad", 10, {
    selector: "all()",
    types: ["Ingress", "Egress"],
    ingress: [{ ...log, ...from("threat == 'bad'") }, { ...deny, ...from("threat == 'bad'") }, pass],
    egress: [
      { ...deny, protocol: "TCP", destination: { ports: [25], notNets: ["10.0.0.0/8", "fd00::/8"] } },
      { ...deny, ...to("UDP", 666) },
    ],
  }),
  global("security.shape", 20, {
    selector: "role == 'server'",
    ingress: [
      { ...deny, protocol: "ICMP", icmp: { type: 13 } },
      { ...deny, ...to("TCP", ...twenty) },
      { ...deny, protocol: "UDP", source: { nets: ["198.18.0.0/24", "198.18.1.0/24"] }, destination: { ports: [80] } },
    ],
  }),
  inRed("default.web", 10, {
    selector: "role == 'server'",
    ingress: [
      { ...allow, ...from("role == 'client'"), ...to("UDP", 80, 81) },
      { ...allow, ...from("role == 'client'"), ...to("TCP", "http", 7777, "9000:9100") },
      { ...allow, protocol: "UDP", source: { namespaceSelector: "team == 'blue'" }, destination: { ports: ["dns"] } },
      { ...allow, protocol: "TCP", source: { selector: "friend == 'yes'", notNets: ["198.51.100.128/25"] } },
      {
        ...allow,
        protocol: "UDP",
        source: { selector: "friend == 'yes'" },
        destination: { notPorts: [99, "100:199"] },
      },
      { ...allow, protocol: "ICMP" },
      { ...allow, protocol: "ICMPv6" },
    ],
  }),
  // Two that stand together and have one selector: a group, with a chain of its own.
  inRed("default.client-a", 20, {
    selector: "role == 'client'",
    types: ["Egress"],
    egress: [{ ...deny, ...to("UDP", 667) }],
  }),
  inRed("default.client-b", 21, { selector: "role == 'client'", types: ["Egress"], egress: [allow] }),
  inRed("default.client-in", 30, {
    selector: "role == 'client'",
    ingress: [{ ...allow, ...from("role == 'server'") }, { ...allow, ...to("TCP", 22) }],
  }),
  storedPolicyOf({
    metadata: { name: "k8s", namespace: "blue" },
    spec: {
      podSelector: { matchLabels: { role: "client" } },
      policyTypes: ["Ingress"],
      ingress: [
        { from: [{ namespaceSelector: { matchLabels: { team: "red" } } }], ports: [{ port: "http" }, { port: 81 }] },
        {
          from: [{ ipBlock: { cidr: "198.51.100.0/24", except: ["198.51.100.128/25"] } }],
          ports: [{ protocol: "UDP" }],
        },
      ],
    },
  }).policy,
  object("GlobalNetworkSet", "bad", { nets: ["203.0.113.0/24", "2001:db8:113::/48"] }, { labels: { threat: "bad" } }),
  object("NetworkSet", "friends", { nets: ["198.51.100.0/24", "198.51.100.0/25"] }, {
    namespace: "red",
    labels: { friend: "yes" },
  }),
];

/** The host's own policies: of its endpoint, before NAT, without tracking, for what is forwarded. */
const host: Resource[] = [
  object("HostEndpoint", "alder-eth0", {
    node: "alder",
    interfaceName: "eth0",
    expectedIPs: ["192.0.2.1", "2001:db8::1"],
    profiles: ["projectcalico-default-allow"],
  }, { labels: { host: "alder" } }),
  global("security.host", 1, {
    selector: "has(host)",
    types: ["Ingress", "Egress"],
    ingress: [{ ...deny, ...to("UDP", 5556) }, { ...allow, ...to("UDP", 5555) }, { ...allow, protocol: "ICMP" }],
    egress: [{ ...deny, ...to("TCP", 25) }],
  }),
  global("security.before-nat", 5, {
    selector: "has(host)",
    preDNAT: true,
    applyOnForward: true,
    ingress: [{ ...deny, ...to("UDP", 30999) }],
  }),
  global("security.untracked", 6, {
    selector: "has(host)",
    doNotTrack: true,
    applyOnForward: true,
    types: ["Ingress", "Egress"],
    ingress: [{ ...allow, ...to("UDP", 4444) }, { ...deny, ...to("UDP", 4445) }],
    egress: [{ ...allow, protocol: "UDP", source: { ports: [4444] } }],
  }),
  global("security.forwarded", 40, {
    selector: "has(host)",
    applyOnForward: true,
    types: ["Ingress"],
    ingress: [{ ...deny, ...to("UDP", 668) }, allow],
  }),
];

/** Everything that the host enforces, whoever enforces it. */
export const takeoverObjects: Resource[] = [
  ...workloads,
  ...host,
  profileOfNamespace({ metadata: { name: "red", labels: { team: "red" } } }),
  profileOfNamespace({ metadata: { name: "blue", labels: { team: "blue" } } }),
  object("Profile", "projectcalico-default-allow", { ingress: [allow], egress: [allow] }),
  object("IPPool", "p4", { cidr: "10.65.0.0/16", blockSize: 26, natOutgoing: true, allowedUses: ["Workload"] }),
  object("BGPConfiguration", "default", { serviceClusterIPs: [{ cidr: "10.96.0.0/16" }] }),
  object("FelixConfiguration", "default", { iptablesBackend: "Legacy", floatingIPs: "Enabled" }),
];
