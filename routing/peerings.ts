import type { BGPPeer } from "../datastore/kinds/bgp_peer.ts";
import { parseSelector } from "../datastore/selector/index.ts";
import { type Family, formatIp, tryParseCidrOrIp, tryParseIp } from "../lib/ip.ts";
import { messageOf } from "../lib/problem.ts";
import { extrasOf, type SessionExtras } from "./extras.ts";
import { type BgpNode, isPeerable, keepaliveTime, passwordRef, restartTime, type Speaker } from "./inputs.ts";
import type { Findings, PeeringEndpoint } from "./resources.ts";

/** A peering of this node before its protocol's options are decided: what Calico keeps under its flat peer keys. */
export interface Peering {
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

/**
 * The peerings of this node by address and port: explicit ones first, then the reverse of other nodes' ones. A peer that
 * cannot be used is left out and named in `findings`. Source: Calico confd client.go, updatePeersV1.
 */
export class Peerings {
  readonly global = new Map<string, Peering>();
  readonly node = new Map<string, Peering>();

  readonly cluster: Cluster;

  constructor(
    speaker: Speaker,
    bgpPeers: Iterable<BGPPeer>,
    readonly endpoints: PeeringEndpoint[],
    findings: Findings,
  ) {
    this.cluster = new Cluster(speaker, findings);
    const peers = [...bgpPeers];
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

  #add(to: Map<string, Peering>, entry: Peering, reverse: boolean): void {
    const key = `${entry.address} ${entry.port ?? ""}`;
    const first = to.get(key) ?? this.global.get(key);
    if (!first) to.set(key, entry);
    else if (!reverse && first.from !== entry.from) {
      this.cluster.findings.add(`has the same address and port as ${first.from}, which stays`, entry.from);
    }
  }
}

const nameOf = (peer: BGPPeer): string => `BGPPeer ${peer.metadata.name}`;

/** Address and port of `1.2.3.4`, `1.2.3.4:179`, `fd00::1` or `[fd00::1]:179`; undefined when it is none of them, or no address of a peer. */
export function parseAddressPort(text: string): { v: Family; address: string; port?: number } | undefined {
  const [, bracketed, plain, portText] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const ip = tryParseIp(bracketed ?? plain ?? text);
  if (!ip || !isPeerable(ip)) return undefined;
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
    restartTimeS: restartTime(spec.maxRestartTime, `${nameOf(peer)}, spec.maxRestartTime`, cluster.findings),
    keepaliveS: keepaliveTime(spec.keepaliveTime, `${nameOf(peer)}, spec.keepaliveTime`, cluster.findings),
    nextHopMode: spec.nextHopMode,
    keepOriginalNextHop: spec.nextHopMode === undefined && (spec.keepOriginalNextHop ?? false),
    localWorkload: false,
    extras: extrasOf(peer.metadata, nameOf(peer), cluster.findings).extras,
    from: nameOf(peer),
  };
}

/** A peering with a node of the cluster. localASNumber and numAllowedLocalASNumbers do not apply, as in Calico. */
function nodeEntries(peer: BGPPeer, node: BgpNode, families: Family[], cluster: Cluster): Peering[] {
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
function addressEntries(peer: BGPPeer, cluster: Cluster): Peering[] {
  const { spec } = peer;
  const { findings, speaker } = cluster;
  const end = parseAddressPort(spec.peerIP ?? "");
  if (!end) {
    findings.add(`"${spec.peerIP ?? ""}" is no address of a peer, it is left out`, `${nameOf(peer)}, spec.peerIP`);
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
function workloadEntries(peer: BGPPeer, endpoints: PeeringEndpoint[], cluster: Cluster): Peering[] {
  if (!peer.spec.asNumber) {
    cluster.findings.add("a peer of local workloads needs an AS number", `${nameOf(peer)}, spec.asNumber`);
    return [];
  }
  const nets = endpoints.filter((e) => e.bgpPeerName === peer.metadata.name)
    .flatMap((e) => [e.ipv4Nets?.[0], e.ipv6Nets?.[0]]);
  return nets.flatMap((net) => tryParseCidrOrIp(net ?? "") ?? []).filter(isPeerable).map((ip) => ({
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
  return ip?.v === v && isPeerable(ip) ? formatIp(ip) : undefined;
}
