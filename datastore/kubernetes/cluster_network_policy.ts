import { type Converted, derivedResource, nonEmpty, policyMetadata, type SourceMetadata } from "./conversion.ts";
import { type LabelSelector, namespaceSelectorText, podSelectorText, requireKnownOperators } from "./label_selector.ts";
import { type CalicoRule, calicoRule, convertRules, networkOf } from "./network_policy.ts";
import { portsByProtocol, type ProtocolPort } from "./rule_ports.ts";
import { type Port, readPort } from "../schema/scalars.ts";

/** A ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2), as far as we read it. */
export interface ClusterNetworkPolicy {
  metadata: SourceMetadata;
  spec: {
    /** "Admin" or "Baseline". */
    tier: string;
    priority: number;
    /** One of the two. */
    subject: { namespaces?: LabelSelector | null; pods?: PodsPeer | null };
    ingress?: (ClusterRule & { from?: ClusterPeer[] | null })[] | null;
    egress?: (ClusterRule & { to?: ClusterPeer[] | null })[] | null;
  };
}

interface PodsPeer {
  namespaceSelector?: LabelSelector | null;
  podSelector?: LabelSelector | null;
}

interface ClusterPeer {
  namespaces?: LabelSelector | null;
  pods?: PodsPeer | null;
  networks?: string[] | null;
}

interface ClusterRule {
  name?: string;
  /** "Accept", "Deny" or "Pass". */
  action: string;
  protocols?: ClusterProtocol[] | null;
}

interface PortOf {
  destinationPort?: { number?: number; range?: { start: number; end: number } | null } | null;
}

interface ClusterProtocol {
  tcp?: PortOf | null;
  udp?: PortOf | null;
  sctp?: PortOf | null;
  destinationNamedPort?: string;
}

const tiers: Record<string, string> = { Admin: "kube-admin", Baseline: "kube-baseline" };
const actions: Record<string, string> = { Accept: "Allow", Deny: "Deny", Pass: "Pass" };

/**
 * The GlobalNetworkPolicy of a ClusterNetworkPolicy, in tier kube-admin or kube-baseline, its priority as order. A Deny
 * or Pass that cannot be converted denies everything, an Accept is left out.
 * @throws Problem "bad-input" for a uid that is none.
 * Source: Calico libcalico-go/lib/backend/k8s/conversion/clusternetworkpolicy.go.
 */
export function fromClusterNetworkPolicy({ metadata, spec }: ClusterNetworkPolicy): Converted {
  const tier = tiers[spec.tier];
  if (!tier) return { resource: undefined, problems: [`spec.tier: "${spec.tier}" is not a tier`] };
  const subject = subjectOf(spec.subject ?? {});
  if (!subject) return { resource: undefined, problems: ["spec.subject: neither namespaces nor pods is given"] };
  const problems: string[] = [];
  const closed = ({ action }: ClusterRule) => (["Deny", "Pass"].includes(action) ? [{ action: "Deny" }] : []);
  const ingress = convertRules(
    spec.ingress,
    "spec.ingress",
    problems,
    (rule) => rulesOf(rule, rule.from, "source"),
    closed,
  );
  const egress = convertRules(
    spec.egress,
    "spec.egress",
    problems,
    (rule) => rulesOf(rule, rule.to, "destination"),
    closed,
  );
  const types = [...(ingress.length > 0 ? ["Ingress"] : []), ...(egress.length > 0 ? ["Egress"] : [])];
  const resource = derivedResource("GlobalNetworkPolicy", policyMetadata({ ...metadata, namespace: undefined }), {
    tier,
    order: spec.priority,
    ...subject,
    ingress: nonEmpty(ingress),
    egress: nonEmpty(egress),
    types: nonEmpty(types),
  });
  return { resource, problems };
}

function subjectOf({ namespaces, pods }: ClusterNetworkPolicy["spec"]["subject"]): CalicoRule | undefined {
  if (namespaces) return { selector: podSelectorText(null), namespaceSelector: namespaceSelectorText(namespaces) };
  return pods ? podsOf(pods) : undefined;
}

const podsOf = ({ podSelector, namespaceSelector }: PodsPeer): CalicoRule => ({
  selector: podSelectorText(podSelector),
  namespaceSelector: namespaceSelectorText(namespaceSelector ?? {}),
});

function rulesOf(
  rule: ClusterRule,
  peers: ClusterPeer[] | null | undefined,
  side: "source" | "destination",
): CalicoRule[] {
  const action = actions[rule.action];
  if (!action) throw new Error(`"${rule.action}" is not an action`);
  const ends = (peers ?? []).map((peer) => peerOf(peer, side === "destination"));
  const metadata = rule.name ? { metadata: { annotations: { name: rule.name } } } : {};
  return portsByProtocol((rule.protocols ?? []).map(portOf)).flatMap(([protocol, ports]) =>
    ends.map((end) => ({ ...metadata, ...calicoRule(action, protocol, ports, side, end) }))
  );
}

/** Networks count only where the peer is the destination. @throws Error for a peer that names nobody. */
function peerOf({ namespaces, pods, networks }: ClusterPeer, takesNetworks: boolean): CalicoRule {
  for (const selector of [namespaces, pods?.podSelector, pods?.namespaceSelector]) requireKnownOperators(selector);
  const nets = takesNetworks ? nonEmpty((networks ?? []).map(networkOf)) : undefined;
  if (!namespaces && !pods && !nets) throw new Error("a peer names neither namespaces nor pods nor networks");
  return {
    ...(namespaces ? { namespaceSelector: namespaceSelectorText(namespaces) } : {}),
    ...(pods ? podsOf(pods) : {}),
    nets,
  };
}

function portOf(entry: ClusterProtocol): ProtocolPort {
  for (const [protocol, given] of [["TCP", entry.tcp], ["UDP", entry.udp], ["SCTP", entry.sctp]] as const) {
    if (given) return { protocol, port: numberOf(given) };
  }
  return entry.destinationNamedPort ? { protocol: "", port: checked(entry.destinationNamedPort) } : {};
}

function numberOf({ destinationPort }: PortOf): Port | undefined {
  const { number, range } = destinationPort ?? {};
  if (number) return checked(number);
  return range ? checked(`${range.start}:${range.end}`) : undefined;
}

function checked(port: number | string): Port {
  const read = readPort(port);
  if (read === undefined) throw new Error(`invalid port ${port}`);
  return read;
}
