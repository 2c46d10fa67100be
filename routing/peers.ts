import type { BGPPeer } from "../datastore/kinds/bgp_peer.ts";
import { parseSelector } from "../datastore/selector/index.ts";
import { type Family, formatIp, tryParseCidrOrIp, tryParseIp } from "../lib/ip.ts";
import { messageOf } from "../lib/problem.ts";
import { extrasOf, type SessionExtras } from "./extras.ts";
import { type BgpNode, passwordRef, seconds, type Speaker } from "./inputs.ts";
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

/** A peering of this node before its protocol's options are decided: what Calico keeps under its flat peer keys. */
interface Entry {
  v: Family;
  address: string;
  port?: number;
  asNumber: number;
  localAs?: number;
  useNodeIp: boolean;
  ttlHops?: number;
  filters: string[];
  passwordRef?: string;
  restartTimeS?: number;
  keepaliveS?: number;
  nextHopMode?: string;
  keepOriginalNextHop: boolean;
  /** The peer was given by address, and a node of the cluster has that address. */
  calicoNode: boolean;
  clusterId?: string;
  allowLocalAs?: number;
  reachableBy?: string;
  localWorkload: boolean;
  extras: SessionExtras;
  from: string;
}

/**
 * All sessions of this node in both families, sorted by name. A peer that cannot be used is left out and named in
 * `findings`; of two with one name the first stays.
 * Source: Calico confd client.go (updatePeersV1) and bgp_processor.go.
 */
export function peersOf(
  speaker: Speaker,
  bgpPeers: Iterable<BGPPeer>,
  endpoints: PeeringEndpoint[],
  findings: Findings,
): Peer[] {
  const cluster = new Cluster(speaker, findings);
  const entries = new Entries(cluster, [...bgpPeers], endpoints);
  const found = [
    ...([4, 6] as const).flatMap((v) => meshPeers(speaker, v, findings)),
    ...entries.global.values().flatMap((e) => toPeer(speaker, "Global", e, findings)),
    ...entries.node.values().flatMap((e) => toPeer(speaker, "Node", e, findings)),
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

/** The nodes, with what peers look up in them. Selectors are parsed once. */
class Cluster {
  readonly byAddress = new Map<string, BgpNode[]>();
  readonly self: BgpNode;
  #matches = new Map<string, BgpNode[]>();

  constructor(readonly speaker: Speaker, readonly findings: Findings) {
    this.self = speaker.nodes.find((n) => n.name === speaker.node)!;
    for (const node of speaker.nodes) {
      for (const address of Object.values(node.address)) {
        const there = this.byAddress.get(address);
        if (there) there.push(node);
        else this.byAddress.set(address, [node]);
      }
    }
  }

  /** Nodes whose labels satisfy a selector; none when it cannot be parsed. */
  matching(selector: string, where: string): BgpNode[] {
    const known = this.#matches.get(selector);
    if (known) return known;
    let nodes: BgpNode[] = [];
    try {
      const parsed = parseSelector(selector);
      nodes = this.speaker.nodes.filter((n) => parsed.matches(n.labels));
    } catch (error) {
      this.findings.add(`selects no node: ${messageOf(error)}`, where);
    }
    this.#matches.set(selector, nodes);
    return nodes;
  }

  /** The port that a node listens at when one is configured. */
  portOf(node: BgpNode): number | undefined {
    return node.listenPort ?? this.speaker.globalListenPort;
  }

  /** Nodes with this address and AS (0 = the cluster's) and, when a port is given, this configured port. */
  at(address: string, asNumber: number, port: number | undefined): BgpNode[] {
    const wanted = asNumber || this.speaker.globalAs;
    return (this.byAddress.get(address) ?? []).filter((node) =>
      (node.asNumber ?? this.speaker.globalAs) === wanted &&
      (port === undefined || (this.portOf(node) ?? port) === port)
    );
  }
}

/** The peerings of this node by address and port: explicit ones first, then the reverse of other nodes' ones. */
class Entries {
  readonly global = new Map<string, Entry>();
  readonly node = new Map<string, Entry>();

  constructor(readonly cluster: Cluster, peers: BGPPeer[], readonly endpoints: PeeringEndpoint[]) {
    const sorted = peers.toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    const isGlobal = (p: BGPPeer) => !p.spec.node && !p.spec.nodeSelector;
    for (const peer of sorted.filter(isGlobal)) this.#explicit(peer, true);
    for (const peer of sorted.filter((p) => !isGlobal(p))) this.#explicit(peer, false);
    for (const peer of sorted) this.#reverse(peer);
  }

  #explicit(peer: BGPPeer, global: boolean): void {
    const { spec } = peer;
    if (!global && !this.#locals(peer).includes(this.cluster.self)) return;
    const entries = spec.localWorkloadSelector
      ? workloadEntries(peer, this.endpoints, this.cluster)
      : spec.peerSelector
      ? this.cluster.matching(spec.peerSelector, `${nameOf(peer)}, spec.peerSelector`)
        .flatMap((node) => nodeEntries(peer, node, [4, 6], this.cluster))
      : addressEntries(peer, this.cluster);
    for (const entry of entries) this.#add(global ? this.global : this.node, entry, false);
  }

  /** The node's own side of a peering that another node's BGPPeer asks for. Explicit entries win. */
  #reverse(peer: BGPPeer): void {
    const { spec } = peer;
    if (spec.reversePeering === "Manual" || spec.localWorkloadSelector) return;
    let families: Family[] = [4, 6];
    let remotes: BgpNode[];
    if (spec.peerSelector) remotes = this.cluster.matching(spec.peerSelector, `${nameOf(peer)}, spec.peerSelector`);
    else {
      const end = parseAddressPort(spec.peerIP ?? "");
      if (!end) return;
      families = [end.v];
      remotes = this.cluster.at(end.address, spec.asNumber ?? 0, end.port);
    }
    if (!remotes.includes(this.cluster.self)) return;
    for (const node of this.#locals(peer)) {
      for (const entry of nodeEntries(peer, node, families, this.cluster)) this.#add(this.node, entry, true);
    }
  }

  /** The nodes that a BGPPeer gives its peering to. */
  #locals(peer: BGPPeer): BgpNode[] {
    const { node, nodeSelector } = peer.spec;
    if (nodeSelector) return this.cluster.matching(nodeSelector, `${nameOf(peer)}, spec.nodeSelector`);
    return node ? this.cluster.speaker.nodes.filter((n) => n.name === node) : this.cluster.speaker.nodes;
  }

  #add(to: Map<string, Entry>, entry: Entry, reverse: boolean): void {
    const key = `${entry.address} ${entry.port ?? ""}`;
    const first = to.get(key) ?? this.global.get(key);
    if (!first) to.set(key, entry);
    else if (!reverse && first.from !== entry.from) {
      this.cluster.findings.add(`has the same address and port as ${first.from}, which stays`, entry.from);
    }
  }
}

const nameOf = (peer: BGPPeer): string => `BGPPeer ${peer.metadata.name}`;

/** Address and port of `1.2.3.4`, `1.2.3.4:179`, `fd00::1` or `[fd00::1]:179`; undefined when it is none of them. */
export function parseAddressPort(text: string): { v: Family; address: string; port?: number } | undefined {
  const [, bracketed, plain, portText] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const ip = tryParseIp(bracketed ?? plain ?? text);
  if (!ip) return undefined;
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && port > 65535) return undefined;
  return { v: ip.v, address: formatIp(ip), port: port || undefined };
}

/** What an entry takes from its BGPPeer whatever its other end is. */
function commonOf(peer: BGPPeer, cluster: Cluster) {
  const { spec } = peer;
  return {
    useNodeIp: (spec.sourceAddress || "UseNodeIP") === "UseNodeIP",
    ttlHops: spec.ttlSecurity || undefined,
    filters: spec.filters ?? [],
    passwordRef: passwordRef(spec.password),
    restartTimeS: seconds(spec.maxRestartTime),
    keepaliveS: seconds(spec.keepaliveTime),
    nextHopMode: spec.nextHopMode,
    keepOriginalNextHop: spec.nextHopMode === undefined && (spec.keepOriginalNextHop ?? false),
    localWorkload: false,
    extras: extrasOf(peer.metadata, nameOf(peer), cluster.findings).extras,
    from: nameOf(peer),
  };
}

/** A peering with a node of the cluster. localASNumber and numAllowedLocalASNumbers do not apply, as in Calico. */
function nodeEntries(peer: BGPPeer, node: BgpNode, families: Family[], cluster: Cluster): Entry[] {
  return families.filter((v) => node.address[v] !== undefined).map((v) => ({
    ...commonOf(peer, cluster),
    v,
    address: node.address[v]!,
    port: cluster.portOf(node),
    asNumber: node.asNumber ?? cluster.speaker.globalAs,
    calicoNode: false,
    clusterId: node.clusterId,
    reachableBy: gatewayOf(peer, v),
  }));
}

/** A peering with an address. Undefined gateway family or address drops the peer, as in Calico. */
function addressEntries(peer: BGPPeer, cluster: Cluster): Entry[] {
  const { spec } = peer;
  const { findings, speaker } = cluster;
  const end = parseAddressPort(spec.peerIP ?? "");
  if (!end) {
    findings.add(`"${spec.peerIP ?? ""}" is not an address, the peer is left out`, `${nameOf(peer)}, spec.peerIP`);
    return [];
  }
  if (spec.reachableBy && !gatewayOf(peer, end.v)) {
    const what = `"${spec.reachableBy}" is not an IPv${end.v} address, the peer is left out`;
    findings.add(what, `${nameOf(peer)}, spec.reachableBy`);
    return [];
  }
  const nodes = cluster.at(end.address, spec.asNumber ?? 0, end.port);
  if (!spec.asNumber) {
    findings.add("a peer with peerIP needs an AS number, it is left out", `${nameOf(peer)}, spec.asNumber`);
    return [];
  }
  return [{
    ...commonOf(peer, cluster),
    v: end.v,
    address: end.address,
    port: end.port ?? (nodes[0] && (nodes[0].listenPort ?? speaker.globalListenPort)),
    asNumber: spec.asNumber,
    localAs: spec.localASNumber || undefined,
    calicoNode: cluster.byAddress.has(end.address),
    allowLocalAs: (spec.numAllowedLocalASNumbers ?? 0) > 0 ? spec.numAllowedLocalASNumbers : undefined,
    reachableBy: gatewayOf(peer, end.v),
  }];
}

/** Peerings with the workloads of this node that the agent matched with the BGPPeer's localWorkloadSelector. */
function workloadEntries(peer: BGPPeer, endpoints: PeeringEndpoint[], cluster: Cluster): Entry[] {
  if (!peer.spec.asNumber) {
    cluster.findings.add("a peer of local workloads needs an AS number", `${nameOf(peer)}, spec.asNumber`);
    return [];
  }
  const nets = endpoints.filter((e) => e.bgpPeerName === peer.metadata.name)
    .flatMap((e) => [e.ipv4Nets?.[0], e.ipv6Nets?.[0]]);
  return nets.flatMap((net) => tryParseCidrOrIp(net ?? "") ?? []).map((ip) => ({
    v: ip.v,
    address: formatIp(ip),
    asNumber: peer.spec.asNumber!,
    localAs: peer.spec.localASNumber || undefined,
    useNodeIp: false,
    filters: peer.spec.filters ?? [],
    keepOriginalNextHop: false,
    calicoNode: false,
    localWorkload: true,
    extras: { bfd: false },
    from: nameOf(peer),
  }));
}

function gatewayOf(peer: BGPPeer, v: Family): string | undefined {
  const ip = tryParseIp(peer.spec.reachableBy ?? "");
  return ip?.v === v ? formatIp(ip) : undefined;
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
function toPeer(speaker: Speaker, kind: PeerKind, entry: Entry, findings: Findings): Peer[] {
  const own = speaker.families[entry.v].address;
  if (own === undefined || entry.address === own) return [];
  const password = passwordOf(speaker, entry.passwordRef, `${entry.from}, spec.password`, findings);
  if (password === "unusable") return [];
  const effectiveAs = entry.localAs ?? speaker.asNumber;
  const internal = entry.asNumber === effectiveAs;
  const isClient = internal && speaker.clusterId !== undefined && entry.clusterId !== speaker.clusterId;
  const keep = entry.nextHopMode === "Keep" || (entry.keepOriginalNextHop && !internal);
  return [{
    name: protocolName(entry.localWorkload ? "Local_Workload" : kind, entry.address, entry.port),
    v: entry.v,
    address: entry.address,
    port: entry.port,
    asNumber: entry.asNumber,
    localAs: entry.localAs,
    internal,
    source: entry.useNodeIp ? own : undefined,
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
    extras: entry.extras,
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
