import type { BGPConfiguration } from "../datastore/kinds/bgp_configuration.ts";
import type { BGPFilter } from "../datastore/kinds/bgp_filter.ts";
import type { BGPPeer } from "../datastore/kinds/bgp_peer.ts";
import type { FelixConfiguration } from "../datastore/kinds/felix_configuration.ts";
import type { IPPool } from "../datastore/kinds/ip_pool.ts";
import type { Node } from "../datastore/kinds/node.ts";
import { Problem, type ProblemCode } from "../lib/problem.ts";

/** Everything of etcd that routing reads, decoded. Keys are names; block affinities are this node's only. */
export interface Resources {
  nodes: Map<string, Node>;
  bgpConfigurations: Map<string, BGPConfiguration>;
  bgpPeers: Map<string, BGPPeer>;
  bgpFilters: Map<string, BGPFilter>;
  ipPools: Map<string, IPPool>;
  felixConfigurations: Map<string, FelixConfiguration>;
  /** CIDR of the block → state; "" is the old form, which counts as confirmed. */
  affinities: Map<string, string>;
}

/** What the Kubernetes API says that routing needs; absent where there is no Kubernetes. */
export interface KubernetesView {
  services: Service[];
  endpointSlices: EndpointSlice[];
  /** Secrets of the namespace of Calico, data in base64. */
  secrets: { metadata: { name: string }; data?: Record<string, string> }[];
}

/** The members of a Kubernetes Service that decide about its announcement. */
export interface Service {
  metadata: { name: string; namespace?: string };
  spec: {
    type?: string;
    clusterIP?: string;
    clusterIPs?: string[];
    ipFamilies?: string[];
    externalTrafficPolicy?: string;
    externalIPs?: string[];
    loadBalancerIP?: string;
  };
  status?: { loadBalancer?: { ingress?: { ip?: string }[] } };
}

/** The members of an EndpointSlice that tell where a Service has ready endpoints. */
export interface EndpointSlice {
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  addressType?: string;
  endpoints?: { nodeName?: string; conditions?: { ready?: boolean | null } }[];
}

/** A local workload that is a BGP peer: the agent's status file of an endpoint that names a BGPPeer. */
export interface PeeringEndpoint {
  bgpPeerName: string;
  ipv4Nets?: string[];
  ipv6Nets?: string[];
}

/** What the pure part needs besides etcd. */
export interface Surroundings {
  /** This node's name. */
  node: string;
  /** CALICO_ROUTER_ID, CALICO_ADVERTISE_CLUSTER_IPS, CALICO_K8S_NODE_REF, FELIX_PROGRAMCLUSTERROUTES. */
  env: Record<string, string | undefined>;
  peeringEndpoints: PeeringEndpoint[];
  /** Passwords by `<secret name>/<key>`. */
  passwords: Map<string, string>;
  kubernetes?: KubernetesView;
}

/** Collects what was found wrong while the rest goes on. */
export class Findings {
  #byText = new Map<string, Problem>();

  /** Each once, in the order in which they were found. */
  get problems(): Problem[] {
    return [...this.#byText.values()];
  }

  /** `where` names the object and its field: `BGPPeer tor, spec.peerIP`. */
  add(what: string, where: string, todo?: string, code: ProblemCode = "bad-input"): void {
    const problem = new Problem({ code, what, where, todo });
    if (!this.#byText.has(problem.message)) this.#byText.set(problem.message, problem);
  }
}
