import fc from "fast-check";
import type { Resource } from "../../datastore/kind.ts";
import { contains, formatIp, type Ip, parseCidr } from "../../lib/ip.ts";
import { resource } from "../random_policy.ts";
import { hasPorts, protocols } from "./packet.ts";
import type { Namespaces, Pod } from "./random_pods.ts";

/** A label selector of Kubernetes. */
export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: "In" | "NotIn" | "Exists" | "DoesNotExist"; values?: string[] }[];
}

interface Peer {
  podSelector?: LabelSelector;
  namespaceSelector?: LabelSelector;
  ipBlock?: { cidr: string; except?: string[] };
}

interface PolicyPort {
  protocol?: "TCP" | "UDP" | "SCTP";
  port?: number | string;
  endPort?: number;
}

interface PolicyRule {
  peers?: Peer[];
  ports?: PolicyPort[];
}

/** networking.k8s.io/v1 NetworkPolicy; `peers` stands for `from` and `to`. */
export interface KubernetesPolicy {
  name: string;
  namespace: string;
  podSelector: LabelSelector;
  policyTypes: ("Ingress" | "Egress")[];
  ingress: PolicyRule[];
  egress: PolicyRule[];
}

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
    peers: fc.oneof(fc.constant(undefined), fc.array(peer, { minLength: 1, maxLength: 3 })),
    ports: fc.oneof(fc.constant(undefined), fc.array(port, { minLength: 1, maxLength: 3 })),
  }),
  { maxLength: 3 },
);

/** Any Kubernetes policies of the two namespaces. */
export const anyKubernetesPolicies: fc.Arbitrary<KubernetesPolicy[]> = fc.uniqueArray(
  fc.record({
    name: from("a", "b", "c"),
    namespace: from("red", "blue"),
    podSelector: selector,
    policyTypes: from<("Ingress" | "Egress")[]>(["Ingress"], ["Egress"], ["Ingress", "Egress"]),
    ingress: rules,
    egress: rules,
  }),
  { minLength: 2, maxLength: 6, selector: (p) => `${p.namespace}/${p.name}` },
);

/** As kube-controllers writes it into etcd. Source: Calico's libcalico-go/lib/backend/k8s/conversion. */
export function converted(policy: KubernetesPolicy): Resource {
  const { name, namespace, podSelector, policyTypes } = policy;
  return resource("NetworkPolicy", `knp.default.${name}`, namespace, {
    tier: "default",
    order: 1000,
    types: policyTypes,
    selector: ["projectcalico.org/orchestrator == 'k8s'", ...terms(podSelector)].join(" && "),
    ingress: policyTypes.includes("Ingress") ? policy.ingress.flatMap((r) => convertedRules(r, "source")) : [],
    egress: policyTypes.includes("Egress") ? policy.egress.flatMap((r) => convertedRules(r, "destination")) : [],
  });
}

function terms({ matchLabels = {}, matchExpressions = [] }: LabelSelector): string[] {
  return [
    ...Object.keys(matchLabels).sort().map((k) => `${k} == '${matchLabels[k]}'`),
    ...matchExpressions.map(({ key, operator, values = [] }) => {
      const list = `{ '${values.join("', '")}' }`;
      return {
        In: `${key} in ${list}`,
        NotIn: `${key} not in ${list}`,
        Exists: `has(${key})`,
        DoesNotExist: `! has(${key})`,
      }[
        operator
      ];
    }),
  ];
}

function convertedRules({ peers, ports }: PolicyRule, side: "source" | "destination"): object[] {
  const found: object[] = [];
  for (const [protocol, list] of ports ? [...byProtocol(ports)] : [[undefined, []] as const]) {
    for (const peer of peers ?? [undefined]) {
      const destination = { ...(list.length > 0 && { ports: list }), ...(side === "destination" && peerSide(peer)) };
      found.push({ action: "Allow", protocol, source: side === "source" ? peerSide(peer) : {}, destination });
    }
  }
  return found;
}

/** Ports by protocol; an entry without a port means all and wins. */
function byProtocol(ports: PolicyPort[]): Map<string, (number | string)[]> {
  const found = new Map<string, (number | string)[]>();
  for (const [protocol, list] of Map.groupBy(ports, (p) => p.protocol ?? "TCP")) {
    const all = list.some((p) => p.port === undefined);
    found.set(protocol, all ? [] : list.map((p) => (p.endPort ? `${p.port}:${p.endPort}` : p.port!)));
  }
  return found;
}

function peerSide(peer: Peer | undefined): object {
  if (!peer) return {};
  if (peer.ipBlock) return { nets: [peer.ipBlock.cidr], notNets: peer.ipBlock.except };
  const namespaces = peer.namespaceSelector && (terms(peer.namespaceSelector).join(" && ") || "all()");
  const pods = ["projectcalico.org/orchestrator == 'k8s'", ...terms(peer.podSelector ?? {})].join(" && ");
  return { selector: pods, ...(namespaces && { namespaceSelector: namespaces }) };
}

/** A pod, or an address that is none's. */
export interface Place {
  pod?: Pod;
  /** On another node, which enforces its policies itself. */
  elsewhere?: boolean;
  address: Ip;
}

/** A packet as Kubernetes' documentation speaks of it. */
export interface Attempt {
  from: Place;
  to: Place;
  protocol: number;
  port: number;
}

/**
 * The documented meaning of Kubernetes' NetworkPolicy, without Calico's terms: a pod that no policy of a direction selects
 * is open there; else one rule of one such policy must name both peer and port.
 */
export function allowedByKubernetes(policies: KubernetesPolicy[], namespaces: Namespaces, attempt: Attempt): boolean {
  return (["Egress", "Ingress"] as const).every((direction) => {
    const [self, other] = direction === "Ingress" ? [attempt.to, attempt.from] : [attempt.from, attempt.to];
    const pod = self.pod;
    if (!pod || self.elsewhere) return true;
    const selecting = policies.filter((p) =>
      p.namespace === pod.namespace && p.policyTypes.includes(direction) && matches(p.podSelector, pod.labels)
    );
    if (selecting.length === 0) return true;
    return selecting.some((p) =>
      (direction === "Ingress" ? p.ingress : p.egress).some(({ peers, ports }) =>
        (!peers || peers.some((peer) => peerIs(peer, other, p.namespace, namespaces))) &&
        (!ports || ports.some((port) => portIs(port, attempt)))
      )
    );
  });
}

function peerIs(peer: Peer, { pod, address }: Place, policyNamespace: string, namespaces: Namespaces): boolean {
  if (peer.ipBlock) {
    const { cidr, except = [] } = peer.ipBlock;
    return contains(parseCidr(cidr), address) && !except.some((e) => contains(parseCidr(e), address));
  }
  if (!pod) return false;
  const inNamespace = peer.namespaceSelector
    ? matches(peer.namespaceSelector, namespaces[pod.namespace]!)
    : pod.namespace === policyNamespace;
  return inNamespace && matches(peer.podSelector ?? {}, pod.labels);
}

function portIs({ protocol = "TCP", port, endPort }: PolicyPort, attempt: Attempt): boolean {
  const number = { TCP: protocols.tcp, UDP: protocols.udp, SCTP: protocols.sctp }[protocol];
  if (attempt.protocol !== number || !hasPorts(number)) return false;
  if (port === undefined) return true;
  if (typeof port === "number") return attempt.port >= port && attempt.port <= (endPort ?? port);
  // A name means what the pod that is called calls so.
  return attempt.to.pod?.ports.some((p) => p.name === port && p.protocol === protocol && p.port === attempt.port) ??
    false;
}

function matches({ matchLabels = {}, matchExpressions = [] }: LabelSelector, labels: Record<string, string>): boolean {
  return Object.entries(matchLabels).every(([k, v]) => labels[k] === v) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const value = labels[key];
      if (operator === "Exists") return value !== undefined;
      if (operator === "DoesNotExist") return value === undefined;
      return (value !== undefined && values.includes(value)) === (operator === "In");
    });
}

/** An attempt in words. */
export const attemptText = (a: Attempt): string =>
  `${formatIp(a.from.address)} > ${formatIp(a.to.address)} protocol ${a.protocol} port ${a.port}`;
