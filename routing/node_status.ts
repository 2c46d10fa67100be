import type { CalicoNodeStatusSpec, CalicoNodeStatusStatus } from "../datastore/kinds/calico_node_status.ts";
import { type BirdRoute, type BirdState, nameParts, type Session } from "./bird_status.ts";

/** What BIRD tells when it is asked; without `state` none answers. */
export interface BirdView {
  state: BirdState | undefined;
  sessions: readonly Session[];
  routes: readonly BirdRoute[];
}

type Told = Partial<Omit<CalicoNodeStatusStatus, "lastUpdated">>;
type Peers = NonNullable<CalicoNodeStatusStatus["bgp"]["peersV4"]>;
type Routes = NonNullable<CalicoNodeStatusStatus["routes"]["routesV4"]>;
type Source = NonNullable<Routes[number]["learnedFrom"]>;

/**
 * The answer to the classes of a CalicoNodeStatus; what other classes told before is the caller's to keep. One BIRD speaks
 * for both families, so both daemons of `Agent` are it.
 * Source: Calico's node/pkg/status/populators.
 */
export function nodeStatus(classes: CalicoNodeStatusSpec["classes"], view: BirdView): Told {
  const told: Told = {};
  for (const name of classes ?? []) {
    if (name === "Agent") told.agent = { birdV4: daemonOf(view), birdV6: daemonOf(view) };
    else if (name === "BGP") told.bgp = bgpOf(view);
    else if (name === "Routes") {
      told.routes = { ...listed("routesV4", routesOf(4, view)), ...listed("routesV6", routesOf(6, view)) };
    }
  }
  return told;
}

/** Empty lists are left out, as in what Calico stores: else the answer would differ from what is read back. */
const listed = <N extends string, T>(name: N, list: T[]): { [K in N]?: T[] } =>
  (list.length > 0 ? { [name]: list } : {}) as { [K in N]?: T[] };

function daemonOf({ state }: BirdView): CalicoNodeStatusStatus["agent"]["birdV4"] {
  if (!state) return { state: "NotReady" };
  return {
    state: "Ready",
    version: state.version,
    routerID: state.routerId,
    lastBootTime: state.startedAt,
    lastReconfigurationTime: state.reconfiguredAt,
  };
}

function bgpOf({ sessions }: BirdView): CalicoNodeStatusStatus["bgp"] {
  const of = (family: 4 | 6) => sessions.filter((s) => s.kind !== "Local_Workload" && nameParts(s.name)?.v === family);
  const up = (list: readonly Session[]) => list.filter((s) => s.protocolState === "up").length;
  const [v4, v6] = [of(4), of(6)];
  return {
    numberEstablishedV4: up(v4),
    numberNotEstablishedV4: v4.length - up(v4),
    numberEstablishedV6: up(v6),
    numberNotEstablishedV6: v6.length - up(v6),
    ...listed("peersV4", v4.map(peerOf)),
    ...listed("peersV6", v6.map(peerOf)),
  };
}

const peerTypes = { Mesh: "NodeMesh", Node: "NodePeer", Global: "GlobalPeer", Local_Workload: "NodePeer" };
const stateNames = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established", "Close"];

function peerOf({ peer, kind, state, since }: Session): Peers[number] {
  // To BIRD a session that waits for the other side is "Passive"; RFC 4271 calls that state Active.
  const name = state === "Passive" ? "Active" : state;
  return { peerIP: peer, type: peerTypes[kind], ...(stateNames.includes(name) && { state: name }), since };
}

/** One entry for each way to a network; without a next router the gateway is N/A, as Calico says. */
function routesOf(family: 4 | 6, { routes }: BirdView): Routes {
  return routes.filter(({ net }) => net.includes(":") === (family === 6)).flatMap((route) => {
    const ways = route.gateways.length > 0 ? route.gateways : [{ via: undefined, interface: route.type }];
    return ways.map((way) => ({
      type: route.primary ? "FIB" : "RIB",
      destination: route.net,
      gateway: way.via ?? "N/A",
      interface: way.interface,
      learnedFrom: sourceOf(route),
    }));
  });
}

function sourceOf({ protocol, from }: BirdRoute): Source {
  const own = /^(kernel|static|direct)\d*$/.exec(protocol)?.[1];
  if (own) return { sourceType: own[0]!.toUpperCase() + own.slice(1) };
  const parts = nameParts(protocol);
  if (!parts) return {};
  return { sourceType: parts.kind === "Mesh" ? "NodeMesh" : "BGPPeer", peerIP: from ?? parts.address };
}
