import fc from "fast-check";
import type { KubernetesPolicy, LabelSelector, Peer, PolicyPort } from "./kubernetes_semantics.ts";

const from = <T>(...values: T[]) => fc.constantFrom(...values);
const selector: fc.Arbitrary<LabelSelector> = from<LabelSelector>(
  {},
  {},
  { matchLabels: { app: "x" } },
  { matchLabels: { app: "y", role: "x" } },
  { matchExpressions: [{ key: "role", operator: "In", values: ["x", "y"] }] },
  { matchExpressions: [{ key: "app", operator: "NotIn", values: ["x"] }] },
  { matchLabels: { role: "y" }, matchExpressions: [{ key: "app", operator: "Exists" }] },
  { matchExpressions: [{ key: "role", operator: "DoesNotExist" }] },
);
const peer: fc.Arbitrary<Peer> = fc.oneof(
  selector.map((podSelector) => ({ podSelector })),
  selector.map((namespaceSelector) => ({ namespaceSelector })),
  fc.tuple(selector, selector).map(([podSelector, namespaceSelector]) => ({ podSelector, namespaceSelector })),
  from<Peer>(
    { ipBlock: { cidr: "0.0.0.0/0" } },
    { ipBlock: { cidr: "::/0", except: ["fd00:65::10/127"] } },
    { ipBlock: { cidr: "10.65.0.0/16", except: ["10.65.0.10/32", "10.65.1.0/24"] } },
    { ipBlock: { cidr: "0.0.0.0/0", except: ["198.51.100.0/24"] } },
    { ipBlock: { cidr: "203.0.113.0/24" } },
    { ipBlock: { cidr: "2001:db8:113::/48" } },
  ),
);
const port: fc.Arbitrary<PolicyPort> = from<PolicyPort>(
  {},
  { protocol: "UDP" },
  { port: 80 },
  { protocol: "TCP", port: 8080 },
  { protocol: "TCP", port: "http" },
  { protocol: "UDP", port: "http" },
  { protocol: "UDP", port: "dns" },
  { protocol: "TCP", port: "nobody" },
  { protocol: "SCTP", port: "sig" },
  { protocol: "SCTP" },
  { protocol: "TCP", port: 400, endPort: 1500 },
  { protocol: "UDP", port: 53, endPort: 53 },
);
const rules = fc.array(
  fc.record({
    peers: fc.oneof(fc.constant(undefined), fc.array(peer, { maxLength: 3 })),
    ports: fc.oneof(fc.constant(undefined), fc.array(port, { maxLength: 3 })),
  }),
  { maxLength: 3 },
);

/** Any Kubernetes policies of the two namespaces. */
export const anyKubernetesPolicies: fc.Arbitrary<KubernetesPolicy[]> = fc.uniqueArray(
  fc.record({
    name: from("a", "b", "c"),
    namespace: from("red", "blue"),
    podSelector: selector,
    // The API server fills the types in where the user gives none; so they are always there.
    policyTypes: from<("Ingress" | "Egress")[]>(["Ingress"], ["Egress"], ["Ingress", "Egress"]),
    ingress: rules,
    egress: rules,
  }).map(({ name, namespace, ingress, egress, ...spec }): KubernetesPolicy => ({
    metadata: { name, namespace },
    spec: {
      ...spec,
      ingress: ingress.map(({ peers, ports }) => ({ from: peers, ports })),
      egress: egress.map(({ peers, ports }) => ({ to: peers, ports })),
    },
  })),
  { minLength: 2, maxLength: 6, selector: ({ metadata: m }) => `${m.namespace}/${m.name}` },
);
