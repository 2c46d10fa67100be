import type { ClusterNetworkPolicy } from "./cluster_network_policy.ts";
import type { KubernetesObject } from "./reflector.ts";

/** An AdminNetworkPolicy or BaselineAdminNetworkPolicy (policy.networking.k8s.io/v1alpha1), as far as we read it. */
interface AdminPolicy extends KubernetesObject {
  spec: {
    priority?: number;
    subject?: ClusterNetworkPolicy["spec"]["subject"];
    ingress?: (AdminRule & { from?: Peers })[] | null;
    egress?: (AdminRule & { to?: Peers })[] | null;
  };
}

type Peers = NonNullable<NonNullable<ClusterNetworkPolicy["spec"]["egress"]>[number]["to"]>;
type Protocols = NonNullable<NonNullable<ClusterNetworkPolicy["spec"]["egress"]>[number]["protocols"]>;

interface AdminRule {
  name?: string;
  /** "Allow", "Deny", and in AdminNetworkPolicies "Pass". */
  action: string;
  ports?: AdminPort[] | null;
}

/** One of the three. */
interface AdminPort {
  portNumber?: { protocol?: string; port: number };
  portRange?: { protocol?: string; start: number; end: number };
  namedPort?: string;
}

/** The lowest order of what comes after all ClusterNetworkPolicies, whose priorities end at 1000. */
const afterAll = 1001;

/**
 * An AdminNetworkPolicy in the words of its successor. Peers that are nodes are not followed: they name nobody there.
 * Source: network-policy-api v1alpha1 and v1alpha2.
 */
export const clusterPolicyOfAdmin = (object: KubernetesObject): ClusterNetworkPolicy => {
  const { metadata, spec } = object as AdminPolicy;
  return { metadata, spec: translated(spec, "Admin", spec.priority ?? 0) };
};

/** The BaselineAdminNetworkPolicy in the words of its successor; it has no priority of its own. Source: as above. */
export const clusterPolicyOfBaseline = (object: KubernetesObject): ClusterNetworkPolicy => {
  const { metadata, spec } = object as AdminPolicy;
  return { metadata, spec: translated(spec, "Baseline", afterAll) };
};

function translated(spec: AdminPolicy["spec"], tier: string, priority: number): ClusterNetworkPolicy["spec"] {
  return {
    tier,
    priority,
    subject: spec.subject,
    ingress: spec.ingress?.map((rule) => ({ ...ruleOf(rule), from: rule.from })),
    egress: spec.egress?.map((rule) => ({ ...ruleOf(rule), to: rule.to })),
  };
}

const ruleOf = ({ name, action, ports }: AdminRule) => ({
  name,
  action: action === "Allow" ? "Accept" : action,
  protocols: ports?.map(portOf),
});

/** A name that no port can have, so that the rule cannot be converted and fails closed. */
const unreadable = "neither number nor range nor name";

/** A port that says nothing we know is none of ours to guess. */
function portOf({ portNumber, portRange, namedPort }: AdminPort): Protocols[number] {
  if (namedPort) return { destinationNamedPort: namedPort };
  const given = portNumber ?? portRange;
  const protocol = given ? given.protocol || "TCP" : "";
  const destinationPort = portNumber ? { number: portNumber.port } : { range: portRange };
  switch (protocol) {
    case "TCP":
      return { tcp: { destinationPort } };
    case "UDP":
      return { udp: { destinationPort } };
    case "SCTP":
      return { sctp: { destinationPort } };
    default:
      return { destinationNamedPort: unreadable };
  }
}
