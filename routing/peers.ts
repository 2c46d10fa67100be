import type { BGPPeer } from "../datastore/kinds/bgp_peer.ts";
import type { Family } from "../lib/ip.ts";
import type { SessionExtras } from "./extras.ts";
import type { Speaker } from "./inputs.ts";
import { type Peering, Peerings } from "./peerings.ts";
import type { Findings, PeeringEndpoint } from "./resources.ts";

/** Where a session comes from; the first part of its protocol's name. */
export type PeerKind = "Mesh" | "Global" | "Node" | "Local_Workload";

/** One BGP session of this node, ready to be written. */
export interface Peer {
  /** Name of BIRD's protocol, as Calico's: `Global_192_168_10_1_port_1790`. */
  name: string;
  v: Family;
  address: string;
  port?: number;
  asNumber: number;
  /** Our AS in this session when it is not the node's. */
  localAs?: number;
  /** True: iBGP, the peer's AS is ours in this session. */
  internal: boolean;
  /** Our address in this session; absent = the kernel chooses. */
  source?: string;
  /** TTL security on, with this many hops. */
  ttlHops?: number;
  /** Waits for the other side to connect. */
  passive: boolean;
  restartTimeS?: number;
  keepaliveS?: number;
  /** Set: the peer is our client as a route reflector. */
  reflectorClusterId?: string;
  /** Never to be logged. */
  password?: string;
  nextHop?: "keep" | "self";
  allowLocalAs?: number;
  /** Names of BGPFilters, in order. */
  filters: string[];
  /** Gateway of a static route to the peer. */
  reachableBy?: string;
  extras: SessionExtras;
  /** The object it comes from, for messages: `BGPPeer tor`. */
  from: string;
}

/**
 * All sessions of this node in both families, sorted by name. A peer that cannot be used is left out and named in
 * `findings`; of two with one name the first stays.
 * Source: Calico confd bgp_processor.go.
 */
export function peersOf(
  speaker: Speaker,
  bgpPeers: Iterable<BGPPeer>,
  endpoints: PeeringEndpoint[],
  findings: Findings,
): Peer[] {
  const peerings = new Peerings(speaker, bgpPeers, endpoints, findings);
  const found = [
    ...([4, 6] as const).flatMap((v) => meshPeers(speaker, v, findings)),
    ...peerings.global.values().flatMap((e) => toPeer(speaker, "Global", e, findings)),
    ...peerings.node.values().flatMap((e) => toPeer(speaker, "Node", e, findings)),
  ];
  const peers = new Map<string, Peer>();
  for (const peer of found) {
    const first = peers.get(peer.name);
    if (!first) peers.set(peer.name, peer);
    else findings.add(`has the same address as ${first.from}, which stays`, `${peer.from}, ${peer.address}`);
  }
  const sorted = [...peers.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  tellShadowed(sorted, findings);
  return sorted;
}

/**
 * Of several protocols with one address and port BIRD runs one and lets the others wait (it locks the pair), as it does
 * under Calico. So an explicit peering beside the mesh has no effect, filters included, or replaces it.
 */
function tellShadowed(peers: Peer[], findings: Findings): void {
  const ends = new Map<string, Peer>();
  for (const peer of peers) {
    const end = `${peer.address} ${peer.port ?? 179}`;
    const other = ends.get(end);
    if (!other) ends.set(end, peer);
    else {
      findings.add(
        `only one of ${other.name} and ${peer.name} has the session with ${peer.address}`,
        `${peer.from} and ${other.from}`,
        "Remove one of the two peerings, or switch the mesh off (nodeToNodeMeshEnabled: false)",
      );
    }
  }
}

function meshPeers(speaker: Speaker, v: Family, findings: Findings): Peer[] {
  const own = speaker.families[v].address;
  const { mesh } = speaker;
  if (own === undefined || !mesh.enabled || speaker.clusterId) return [];
  const password = passwordOf(speaker, mesh.passwordRef, "BGPConfiguration default, spec.nodeMeshPassword", findings);
  if (password === "unusable") return [];
  return speaker.nodes.flatMap((node): Peer[] => {
    const address = node.address[v];
    if (node.name === speaker.node || address === undefined || node.clusterId) return [];
    if (address === own) {
      findings.add(
        `has the same IPv${v} address as this node ${speaker.node}, no session with it`,
        `Node ${node.name}`,
      );
      return [];
    }
    const asNumber = node.asNumber ?? speaker.asNumber;
    return [{
      name: protocolName("Mesh", address),
      v,
      address,
      port: node.listenPort ?? speaker.globalListenPort,
      asNumber,
      internal: asNumber === speaker.asNumber,
      source: own,
      passive: address > own,
      restartTimeS: mesh.restartTimeS,
      password,
      filters: [],
      extras: mesh.extras,
      from: `Node ${node.name}`,
    }];
  });
}

const protocolName = (kind: PeerKind, address: string, port?: number): string =>
  `${kind}_${address.replaceAll(/[.:]/g, "_")}${port === undefined ? "" : `_port_${port}`}`;

/** The session of an entry; none for our own address, in a family that we have no address of, or without its password. */
function toPeer(speaker: Speaker, kind: PeerKind, entry: Peering, findings: Findings): Peer[] {
  const own = speaker.families[entry.v].address;
  if (own === undefined || entry.address === own) return [];
  const password = passwordOf(speaker, entry.passwordRef, `${entry.from}, spec.password`, findings);
  if (password === "unusable") return [];
  const effectiveAs = entry.localAs ?? speaker.asNumber;
  const internal = entry.asNumber === effectiveAs;
  const isClient = internal && speaker.clusterId !== undefined && entry.clusterId !== speaker.clusterId;
  const source = entry.useNodeIp ? own : undefined;
  if (entry.extras.bfd && !source && !speaker.bindNodeIp) {
    findings.add("has no BFD: it needs a source address, and sourceAddress is None", entry.from);
  }
  const keep = entry.nextHopMode === "Keep" || (entry.keepOriginalNextHop && !internal);
  return [{
    name: protocolName(entry.localWorkload ? "Local_Workload" : kind, entry.address, entry.port),
    v: entry.v,
    address: entry.address,
    port: entry.port,
    asNumber: entry.asNumber,
    localAs: entry.localAs,
    internal,
    source,
    ttlHops: entry.ttlHops,
    // Both ends of a peering between nodes see the same two strings, so exactly one of them waits.
    passive: entry.localWorkload || (kind === "Global" && entry.calicoNode && entry.address > own),
    restartTimeS: entry.restartTimeS,
    keepaliveS: entry.keepaliveS,
    reflectorClusterId: isClient ? speaker.clusterId : undefined,
    password,
    nextHop: entry.nextHopMode === "Self" ? "self" : keep ? "keep" : undefined,
    allowLocalAs: entry.allowLocalAs,
    filters: entry.filters,
    reachableBy: entry.reachableBy,
    extras: { ...entry.extras, bfd: entry.extras.bfd && (source !== undefined || speaker.bindNodeIp) },
    from: entry.from,
  }];
}

/**
 * A referenced password; undefined when none is asked for or it is missing (Calico configures such a session without one;
 * a peer that wants one then refuses it). `unusable` when BIRD's strings cannot hold it: then there is no session.
 */
function passwordOf(
  speaker: Speaker,
  ref: string | undefined,
  where: string,
  findings: Findings,
): string | undefined | "unusable" {
  if (ref === undefined) return undefined;
  const password = speaker.passwords.get(ref);
  if (password === undefined) {
    findings.add(`password ${ref} is missing, the session is configured without one`, where, undefined, "not-found");
    return undefined;
  }
  const bytes = new TextEncoder().encode(password).length;
  if (bytes > 0 && bytes <= 80 && !/["\p{Cc}]/u.test(password)) return password;
  findings.add(
    `password ${ref} is empty, longer than 80 bytes or has a quote or control character: no session`,
    where,
    "Choose one of up to 80 bytes without quotes and line breaks: neither BIRD nor TCP's MD5 option can hold others",
  );
  return "unusable";
}
