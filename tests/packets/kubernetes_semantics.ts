/**
 * What Kubernetes' documentation says of NetworkPolicy, as a judge: it shares no code with what is judged, not even the
 * arithmetic of addresses. Source: https://kubernetes.io/docs/concepts/services-networking/network-policies and the API
 * reference of networking.k8s.io/v1.
 */

/** metav1.LabelSelector. */
export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: "In" | "NotIn" | "Exists" | "DoesNotExist"; values?: string[] }[];
}

/** NetworkPolicyPeer: pods of this namespace, all pods of namespaces, pods of such namespaces, or addresses. */
export interface Peer {
  podSelector?: LabelSelector;
  namespaceSelector?: LabelSelector;
  ipBlock?: { cidr: string; except?: string[] };
}

/** NetworkPolicyPort. */
export interface PolicyPort {
  protocol?: "TCP" | "UDP" | "SCTP";
  port?: number | string;
  endPort?: number;
}

/** NetworkPolicy of networking.k8s.io/v1, as a user writes it. */
export interface KubernetesPolicy {
  metadata: { name: string; namespace: string };
  spec: {
    podSelector: LabelSelector;
    policyTypes?: ("Ingress" | "Egress")[];
    ingress?: { from?: Peer[]; ports?: PolicyPort[] }[];
    egress?: { to?: Peer[]; ports?: PolicyPort[] }[];
  };
}

/** A pod, as far as policy asks. */
export interface JudgedPod {
  namespace: string;
  labels: Record<string, string>;
  /** Container ports with a name. */
  ports: { name: string; protocol: string; port: number }[];
}

/** A pod, or an address that is none's. */
export interface Place {
  pod?: JudgedPod;
  /** On another node, which enforces its policies itself. */
  elsewhere?: boolean;
  address: string;
}

/** A packet as the documentation speaks of it. */
export interface Attempt {
  from: Place;
  to: Place;
  /** Number of the IP protocol. */
  protocol: number;
  port: number;
}

/** Labels of namespaces by name. */
export type NamespaceLabels = Record<string, Record<string, string>>;

/**
 * True when the packet must arrive. A pod that no policy of a direction selects is open there; else one rule of one such
 * policy must name both peer and port. "For a connection from a source pod to a destination pod to be allowed, both the
 * egress policy on the source pod and the ingress policy on the destination pod need to allow the connection."
 */
export function allowedByKubernetes(policies: KubernetesPolicy[], namespaces: NamespaceLabels, a: Attempt): boolean {
  return open("Egress", a.from, a.to, policies, namespaces, a) &&
    open("Ingress", a.to, a.from, policies, namespaces, a);
}

function open(
  direction: "Ingress" | "Egress",
  { pod, elsewhere }: Place,
  other: Place,
  policies: KubernetesPolicy[],
  namespaces: NamespaceLabels,
  attempt: Attempt,
): boolean {
  if (!pod || elsewhere) return true;
  let isolated = false;
  for (const { metadata, spec } of policies) {
    if (metadata.namespace !== pod.namespace || !selects(spec.podSelector, pod.labels)) continue;
    if (!typesOf(spec).includes(direction)) continue;
    isolated = true;
    const rules = direction === "Ingress"
      ? (spec.ingress ?? []).map(({ from, ports }) => ({ peers: from, ports }))
      : (spec.egress ?? []).map(({ to, ports }) => ({ peers: to, ports }));
    for (const { peers = [], ports = [] } of rules) {
      // "If this field is empty or missing, this rule matches all sources/destinations", and all ports.
      const named = peers.length === 0 || peers.some((p) => isPeer(p, other, metadata.namespace, namespaces));
      if (named && (ports.length === 0 || ports.some((p) => isPort(p, attempt)))) return true;
    }
  }
  return !isolated;
}

/** "If no policyTypes are specified … then by default Ingress will always be set and Egress … if … any egress rules." */
function typesOf({ policyTypes = [], egress = [] }: KubernetesPolicy["spec"]): string[] {
  if (policyTypes.length > 0) return policyTypes;
  return egress.length > 0 ? ["Ingress", "Egress"] : ["Ingress"];
}

function isPeer(peer: Peer, { pod, address }: Place, own: string, namespaces: NamespaceLabels): boolean {
  if (peer.ipBlock) {
    const { cidr, except = [] } = peer.ipBlock;
    return isWithin(address, cidr) && !except.some((e) => isWithin(address, e));
  }
  if (!pod) return false;
  const there = peer.namespaceSelector
    ? selects(peer.namespaceSelector, namespaces[pod.namespace]!)
    : pod.namespace === own;
  return there && (!peer.podSelector || selects(peer.podSelector, pod.labels));
}

function isPort({ protocol = "TCP", port, endPort }: PolicyPort, { to, protocol: number, port: wanted }: Attempt) {
  if ({ TCP: 6, UDP: 17, SCTP: 132 }[protocol] !== number) return false;
  if (port === undefined) return true;
  if (typeof port === "number") return endPort === undefined ? wanted === port : wanted >= port && wanted <= endPort;
  // A name means what the pod that is called calls so.
  return (to.pod?.ports ?? []).some((p) => p.name === port && p.protocol === protocol && p.port === wanted);
}

/** Requirements are ANDed; an empty selector selects everything; NotIn holds also where the label is absent. */
function selects({ matchLabels = {}, matchExpressions = [] }: LabelSelector, labels: Record<string, string>): boolean {
  for (const key of Object.keys(matchLabels)) if (labels[key] !== matchLabels[key]) return false;
  for (const { key, operator, values = [] } of matchExpressions) {
    const value = labels[key], isIn = value !== undefined && values.includes(value);
    const holds = { In: isIn, NotIn: !isIn, Exists: value !== undefined, DoesNotExist: value === undefined }[operator];
    if (!holds) return false;
  }
  return true;
}

/** True when the first bits of both are the same. */
function isWithin(address: string, cidr: string): boolean {
  const [net, length] = cidr.split("/") as [string, string];
  const [a, b] = [bitsOf(address), bitsOf(net)];
  return a.length === b.length && a.slice(0, Number(length)) === b.slice(0, Number(length));
}

/** The address as zeros and ones. */
function bitsOf(address: string): string {
  if (!address.includes(":")) return address.split(".").map((n) => Number(n).toString(2).padStart(8, "0")).join("");
  const [left, right] = address.split("::").map((part) => part === "" ? [] : part.split(":"));
  const zeros = right ? Array(8 - left!.length - right.length).fill("0") : [];
  return [...left!, ...zeros, ...right ?? []].map((h) => parseInt(h, 16).toString(2).padStart(16, "0")).join("");
}

/** An attempt in words. */
export const attemptText = (a: Attempt): string =>
  `${a.from.address} > ${a.to.address} protocol ${a.protocol} port ${a.port}`;
