import { formatCidr, tryParseCidr } from "../../lib/ip.ts";
import { apiVersion, type Metadata, type Resource } from "../kind.ts";
import { type Port, portRange, readPort } from "../schema/scalars.ts";
import { derivedUid } from "./derived_uid.ts";
import { kubernetesPods, type LabelSelector, namespaceSelectorText, podSelectorText } from "./label_selector.ts";
import type { PodMetadata } from "./pod.ts";
import { portsByProtocol, type ProtocolPort } from "./rule_ports.ts";
import { storedName } from "./stored_name.ts";

/** Kubernetes' NetworkPolicy (networking.k8s.io/v1), as far as we read it. */
export interface NetworkPolicy {
  metadata: PodMetadata & { resourceVersion?: string };
  spec?: {
    podSelector?: LabelSelector | null;
    policyTypes?: string[] | null;
    ingress?: { from?: PolicyPeer[] | null; ports?: PolicyPort[] | null }[] | null;
    egress?: { to?: PolicyPeer[] | null; ports?: PolicyPort[] | null }[] | null;
  };
}

/** Who may talk: pods by labels, all pods of namespaces by labels, pods of such namespaces, or addresses. */
export interface PolicyPeer {
  podSelector?: LabelSelector | null;
  namespaceSelector?: LabelSelector | null;
  ipBlock?: { cidr: string; except?: string[] | null } | null;
}

/** A port of the pod that is called; no port means each of its protocol, no protocol means TCP. */
export interface PolicyPort {
  protocol?: string | null;
  port?: number | string | null;
  endPort?: number | null;
}

/** Calico's form of a policy, and what of it could not be followed: that part allows nothing. */
export interface PolicyConversion {
  policy: Resource;
  problems: string[];
}

/**
 * The NetworkPolicy that Calico's converter makes of one of Kubernetes. What cannot be read allows nothing.
 * DIFFERS: Calico lets a peer with an unreadable `cidr` match every address, and forgets unreadable exceptions and terms.
 * @throws Problem "bad-input" for a UID that is none.
 * Source: Calico libcalico-go/lib/backend/k8s/conversion/conversion.go K8sNetworkPolicyToCalico.
 */
export function calicoPolicyOf({ metadata, spec = {} }: NetworkPolicy): PolicyConversion {
  const { name, namespace, uid, creationTimestamp, resourceVersion } = metadata;
  const subject = podSelectorText(spec.podSelector);
  const problems = subject.unread.map((what) => `spec.podSelector: ${what}: it allows nothing`);
  const isReadable = problems.length === 0;
  const rules = (list: typeof spec.ingress | typeof spec.egress, side: Side) =>
    (list ?? []).flatMap((rule, i) => {
      const peers = side === "source" ? (rule as { from?: PolicyPeer[] }).from : (rule as { to?: PolicyPeer[] }).to;
      const where = `spec.${side === "source" ? "ingress" : "egress"}[${i}]`;
      return rulesOf(peers ?? [], rule.ports ?? [], side, (what) => problems.push(`${where}: ${what}`));
    });
  const [ingress, egress] = [rules(spec.ingress, "source"), rules(spec.egress, "destination")];
  const policy: Resource = {
    kind: "NetworkPolicy",
    apiVersion,
    metadata: {
      name,
      ...(namespace && { namespace }),
      ...(uid && { uid: derivedUid(uid) }),
      ...(creationTimestamp && { creationTimestamp }),
      ...(resourceVersion && { resourceVersion }),
    },
    spec: {
      tier: "default",
      order: 1000,
      ...(isReadable && ingress.length > 0 && { ingress }),
      ...(isReadable && egress.length > 0 && { egress }),
      selector: subject.text,
      types: typesOf(spec.policyTypes ?? []),
    },
  };
  return { policy, problems };
}

/** The same as kube-controllers stores it: `knp.default.<name>`, with nothing of Kubernetes' metadata. */
export function storedPolicyOf(source: NetworkPolicy): PolicyConversion {
  const { policy, problems } = calicoPolicyOf(source);
  const metadata: Metadata = { name: storedPolicyName(source.metadata.name), namespace: source.metadata.namespace };
  return { policy: { ...policy, metadata }, problems };
}

/** Name under which a policy of Kubernetes is stored; whoever writes such names by hand loses them again. */
export const storedPolicyName = (name: string): string => storedName("knp.default.", name);

/**
 * What stands for a policy that cannot be converted or stored at all: it isolates the pods that the policy selects, or, when
 * even these cannot be told, all of its namespace. DIFFERS: Calico forgets such a policy, and its pods are open.
 */
export function closedPolicyOf({ metadata, spec }: NetworkPolicy): Resource {
  const selector = subjectOf(spec?.podSelector), types = spec?.policyTypes;
  return {
    kind: "NetworkPolicy",
    apiVersion,
    metadata: { name: storedPolicyName(metadata.name), namespace: metadata.namespace },
    spec: {
      tier: "default",
      order: 1000,
      selector,
      types: Array.isArray(types) && types.length > 0 ? typesOf(types) : ["Ingress", "Egress"],
    },
  };
}

/** Longest selector that can be stored. */
const maxSelector = 1024;

function subjectOf(selector: LabelSelector | null | undefined): string {
  try {
    const { text, unread } = podSelectorText(selector);
    return unread.length === 0 && text.length <= maxSelector ? text : kubernetesPods;
  } catch {
    return kubernetesPods; // of a shape that nobody foresaw
  }
}

type Side = "source" | "destination";
type Tell = (what: string) => void;
type Entity = { selector?: string; namespaceSelector?: string; nets?: string[]; notNets?: string[] };

/** Ingress first, whatever the order; none given is Ingress alone. */
function typesOf(given: readonly string[]): string[] {
  const types = ["Ingress", "Egress"].filter((t) => given.includes(t));
  return types.length > 0 ? types : ["Ingress"];
}

/** One rule for each protocol and peer, protocols outermost; one that cannot be read is left out. */
function rulesOf(peers: PolicyPeer[], ports: PolicyPort[], side: Side, tell: Tell): Record<string, unknown>[] {
  const byProtocol = protocolsOf(ports, tell);
  // No peers at all means everybody; peers of which none can be read mean nobody.
  const entities = peers.length === 0 ? [{}] : peers.flatMap((peer) => entityOf(peer, tell) ?? []);
  if (!byProtocol) return [];
  return byProtocol.flatMap(([protocol, list]) =>
    entities.map((entity) => {
      const sides: Record<Side, Entity & { ports?: Port[] }> = { source: {}, destination: {} };
      sides[side] = { ...entity };
      if (list) sides.destination.ports = list;
      return {
        action: "Allow",
        ...(protocol && { protocol }),
        ...(isFilled(sides.source) && { source: sides.source }),
        ...(isFilled(sides.destination) && { destination: sides.destination }),
      };
    })
  );
}

const isFilled = (object: object): boolean => Object.keys(object).length > 0;

/** Protocols by name, each with its ports; an entry without a port wins over others. Undefined when one is unreadable. */
function protocolsOf(ports: PolicyPort[], tell: Tell): ReturnType<typeof portsByProtocol> | undefined {
  const entries: ProtocolPort[] = [];
  for (const { protocol, port, endPort } of ports) {
    const entry: ProtocolPort = { protocol: protocol || "TCP" };
    if (port !== undefined && port !== null) {
      entry.port = readPort(endPort === undefined || endPort === null ? port : `${port}:${endPort}`);
      const [low] = entry.port === undefined ? [0] : portRange(entry.port) ?? [1];
      if (low < 1) {
        tell(`port ${port}${endPort ? ` to ${endPort}` : ""} cannot be read; its rule is left out`);
        return undefined;
      }
    }
    entries.push(entry);
  }
  return portsByProtocol(entries);
}

/** A peer as one side of a rule; undefined when it cannot be read. */
function entityOf({ podSelector, namespaceSelector, ipBlock }: PolicyPeer, tell: Tell): Entity | undefined {
  if (ipBlock) {
    const [net, ...except] = [ipBlock.cidr, ...ipBlock.except ?? []].map((text) => ({
      text,
      cidr: tryParseCidr(text),
    }));
    const bad = [net!, ...except].find((n) => !n.cidr);
    if (bad) {
      tell(`"${bad.text}" is not a CIDR; its peer is left out`);
      return undefined;
    }
    const notNets = except.map((e) => formatCidr(e.cidr!));
    return { nets: [formatCidr(net!.cidr!)], ...(notNets.length > 0 && { notNets }) };
  }
  const pods = podSelectorText(podSelector), namespaces = namespaceSelectorText(namespaceSelector);
  const unread = [...pods.unread, ...namespaces.unread];
  if (unread.length > 0) {
    tell(`${unread.join(", ")} cannot be read; its peer is left out`);
    return undefined;
  }
  return { selector: pods.text, ...(namespaces.text && { namespaceSelector: namespaces.text }) };
}
