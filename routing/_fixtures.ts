import type { BGPConfiguration } from "../datastore/kinds/bgp_configuration.ts";
import type { BGPFilter } from "../datastore/kinds/bgp_filter.ts";
import type { BGPPeer } from "../datastore/kinds/bgp_peer.ts";
import type { IPPool } from "../datastore/kinds/ip_pool.ts";
import type { Node } from "../datastore/kinds/node.ts";
import { render } from "./bird_config.ts";
import { inputsOf, type Speaker } from "./inputs.ts";
import { type Peer, peersOf } from "./peers.ts";
import { Findings, type Resources, type Surroundings } from "./resources.ts";

/** A cluster in short form for the tests of this folder: specs by name, and annotations where they matter. */
export interface Cluster {
  nodes?: Record<string, Node["spec"] & { labels?: Record<string, string> }>;
  configurations?: Record<string, BGPConfiguration["spec"]>;
  peers?: Record<string, BGPPeer["spec"] & { annotations?: Record<string, string> }>;
  filters?: Record<string, BGPFilter["spec"]>;
  pools?: Record<string, IPPool["spec"]>;
  affinities?: Record<string, string>;
}

/** What our pure part makes of a cluster as seen from node `n1`. */
export interface Outcome {
  speaker: Speaker;
  peers: Peer[];
  text: string;
  /** `where: what` of each problem. */
  problems: string[];
}

/** Runs inputs, peers and text for `n1` (default address 10.0.0.1/24, and n2 with 10.0.0.2/24). */
export function outcomeOf(cluster: Cluster, around: Partial<Surroundings> = {}): Outcome {
  const findings = new Findings();
  const resources = resourcesOf(cluster);
  const surroundings = { node: "n1", env: {}, peeringEndpoints: [], passwords: new Map(), ...around };
  const speaker = inputsOf(resources, surroundings, findings);
  if (!speaker) throw new Error(String(findings.problems));
  const peers = peersOf(speaker, resources.bgpPeers.values(), surroundings.peeringEndpoints, findings);
  const text = render(speaker, peers, findings);
  return { speaker, peers, text, problems: findings.problems.map((p) => `${p.where}: ${p.what}`) };
}

/** The resources of a cluster, in the order in which they are written. */
export function resourcesOf(cluster: Cluster): Resources {
  const { nodes = twoNodes } = cluster;
  const map = <R>(kind: string, specs: Record<string, object> = {}): Map<string, R> =>
    new Map(
      Object.entries(specs).map(([name, given]) => {
        const { labels, annotations, ...spec } = given as Record<string, unknown>;
        return [name, { kind, apiVersion: "projectcalico.org/v3", metadata: { name, labels, annotations }, spec } as R];
      }),
    );
  return {
    nodes: map("Node", nodes),
    bgpConfigurations: map("BGPConfiguration", cluster.configurations),
    bgpPeers: map("BGPPeer", cluster.peers),
    bgpFilters: map("BGPFilter", cluster.filters),
    ipPools: map("IPPool", cluster.pools),
    felixConfigurations: new Map(),
    affinities: new Map(Object.entries(cluster.affinities ?? {})),
  };
}

/** Two nodes of one subnet. */
export const twoNodes = {
  n1: { bgp: { ipv4Address: "10.0.0.1/24" } },
  n2: { bgp: { ipv4Address: "10.0.0.2/24" } },
};
