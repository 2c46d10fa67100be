import { formatCidr, tryParseCidr } from "../../lib/ip.ts";
import { messageOf } from "../../lib/problem.ts";
import { apiVersion, type Resource } from "../kind.ts";
import { globalPolicyPattern } from "../names.ts";
import { type Port, readPort } from "../schema/scalars.ts";
import { derivedUid } from "./derived_uid.ts";
import { type LabelSelector, namespaceSelectorText, podSelectorText, type SelectorText } from "./label_selector.ts";
import type { PodMetadata } from "./pod.ts";
import { storedName } from "./stored_name.ts";
import { portsByProtocol, type ProtocolPort } from "./rule_ports.ts";

/** A ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2), as far as we read it. */
export interface ClusterNetworkPolicy {
  metadata: PodMetadata & { resourceVersion?: string };
  spec: {
    /** "Admin" or "Baseline". */
    tier: string;
    priority: number;
    /** One of the two. */
    subject?: { namespaces?: LabelSelector | null; pods?: PodsPeer | null };
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

type Rule = Record<string, unknown>;
type Side = "source" | "destination";

const tiers: Record<string, string> = { Admin: "kube-admin", Baseline: "kube-baseline" };
const actions: Record<string, string> = { Accept: "Allow", Deny: "Deny", Pass: "Pass" };

/**
 * The GlobalNetworkPolicy of a ClusterNetworkPolicy: in tier kube-admin or kube-baseline, its priority as order. A Deny or
 * Pass that cannot be converted denies everything, an Accept is left out.
 * @returns no policy when the tier or the subject cannot be followed: then it counts as absent; and the reasons.
 * @throws Problem "bad-input" for a UID that is none.
 * Source: Calico libcalico-go/lib/backend/k8s/conversion/clusternetworkpolicy.go.
 */
export function globalPolicyOf(
  { metadata, spec }: ClusterNetworkPolicy,
): { policy: Resource | undefined; problems: string[] } {
  const { name, uid, creationTimestamp, resourceVersion } = metadata;
  const tier = tiers[spec.tier];
  if (!tier) return { policy: undefined, problems: [`spec.tier: "${spec.tier}" is not a tier`] };
  const subject = subjectOf(spec.subject ?? {});
  if (!subject) return { policy: undefined, problems: ["spec.subject: neither namespaces nor pods can be read"] };
  const problems: string[] = [];
  const all = <R extends ClusterRule>(list: R[] | null | undefined, where: string, convert: (rule: R) => Rule[]) =>
    (list ?? []).flatMap((rule, i) => {
      try {
        return convert(rule);
      } catch (error) {
        problems.push(`${where}[${i}]: ${messageOf(error)}`);
        return ["Deny", "Pass"].includes(rule.action) ? [{ action: "Deny" }] : [];
      }
    });
  const ingress = all(spec.ingress, "spec.ingress", (rule) => rulesOf(rule, rule.from ?? [], "source"));
  const egress = all(spec.egress, "spec.egress", (rule) => rulesOf(rule, rule.to ?? [], "destination"));
  const types = [...(ingress.length > 0 ? ["Ingress"] : []), ...(egress.length > 0 ? ["Egress"] : [])];
  const policy: Resource = {
    kind: "GlobalNetworkPolicy",
    apiVersion,
    metadata: {
      name,
      ...(uid && { uid: derivedUid(uid) }),
      ...(creationTimestamp && { creationTimestamp }),
      ...(resourceVersion && { resourceVersion }),
    },
    spec: {
      tier,
      order: spec.priority,
      ...(ingress.length > 0 && { ingress }),
      ...(egress.length > 0 && { egress }),
      ...subject,
      ...(types.length > 0 && { types }),
    },
  };
  return { policy, problems };
}

/** The same as it is stored in etcd: without Kubernetes' metadata, under a name that tells where it comes from. */
export function storedClusterPolicyOf(
  source: ClusterNetworkPolicy,
  prefix: string,
): { policy: Resource | undefined; problems: string[] } {
  const { policy, problems } = globalPolicyOf({ ...source, metadata: { name: source.metadata.name } });
  const metadata = { name: storedClusterPolicyName(prefix, source.metadata.name) };
  return { policy: policy && { ...policy, metadata }, problems };
}

/** `<prefix>.<name>`; names of global policies have at most two labels, so others are shortened to a hash. */
export const storedClusterPolicyName = (prefix: string, name: string): string =>
  storedName(`${prefix}.`, name, (text) => globalPolicyPattern.test(text));

/** Undefined when it names nobody, or cannot be read. */
function subjectOf({ namespaces, pods }: NonNullable<ClusterNetworkPolicy["spec"]["subject"]>): Rule | undefined {
  if (!namespaces && !pods) return undefined;
  const [who, where] = namespaces
    ? [podSelectorText(null), namespaceSelectorText(namespaces)]
    : [podSelectorText(pods!.podSelector), namespaceSelectorText(pods!.namespaceSelector ?? {})];
  const unread = [...who.unread, ...where.unread];
  return unread.length > 0 ? undefined : { selector: who.text, namespaceSelector: where.text };
}

function rulesOf(rule: ClusterRule, peers: ClusterPeer[], side: Side): Rule[] {
  const action = actions[rule.action];
  if (!action) throw new Error(`"${rule.action}" is not an action`);
  const ends = peers.map((peer) => peerOf(peer, side));
  return portsByProtocol((rule.protocols ?? []).map(portOf)).flatMap(([protocol, ports]) =>
    ends.map((end) => {
      const sides: Record<Side, Rule> = { source: {}, destination: {} };
      sides[side] = { ...end };
      if (ports) sides.destination.ports = ports;
      return {
        ...(rule.name && { metadata: { annotations: { name: rule.name } } }),
        action,
        ...(protocol && { protocol }),
        ...(Object.keys(sides.source).length > 0 && { source: sides.source }),
        ...(Object.keys(sides.destination).length > 0 && { destination: sides.destination }),
      };
    })
  );
}

/** Networks count only where the peer is the destination. @throws Error for a peer that names nobody. */
function peerOf({ namespaces, pods, networks }: ClusterPeer, side: Side): Rule {
  const peer: Rule = {};
  if (namespaces) peer.namespaceSelector = readable(namespaceSelectorText(namespaces));
  if (pods) {
    peer.selector = readable(podSelectorText(pods.podSelector));
    peer.namespaceSelector = readable(namespaceSelectorText(pods.namespaceSelector ?? {}));
  }
  if (side === "destination" && networks?.length) peer.nets = networks.map(networkOf);
  if (Object.keys(peer).length === 0) throw new Error("a peer names neither namespaces nor pods nor networks");
  return peer;
}

function readable({ text, unread }: SelectorText): string {
  if (unread.length > 0) throw new Error(`${unread.join(", ")} cannot be read`);
  return text;
}

function networkOf(text: string): string {
  const cidr = tryParseCidr(text);
  if (!cidr) throw new Error(`"${text}" is not a CIDR`);
  return formatCidr(cidr);
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
  if (read === undefined) throw new Error(`port ${port} cannot be read`);
  return read;
}
