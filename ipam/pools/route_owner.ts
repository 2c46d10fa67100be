import { encapsulationOf, type PoolEncapsulation } from "./encapsulation.ts";

/** Who puts a block's route into the kernel. */
export type RouteOwner = "agent" | "bird" | "nobody";

/** Values of `programClusterRoutes`, the same words in FelixConfiguration and BGPConfiguration. */
export type ClusterRoutes = "Enabled" | "Disabled" | "EnabledIPIPOnly" | "EnabledNoEncapOnly";

/** What decides about routes besides the pool. */
export interface RouteSettings {
  /** FelixConfiguration.programClusterRoutes; absent or not understood = EnabledIPIPOnly. */
  felix?: string;
  /** BGPConfiguration.programClusterRoutes of this node or the default one; absent or not understood = EnabledNoEncapOnly. */
  bgp?: string;
  /** False when this node runs no BIRD (CALICO_NETWORKING_BACKEND `vxlan` or `none`). */
  birdRuns: boolean;
}

/**
 * Who programs the route to a block of `pool` (remote block: the route to its node; own block: the blackhole). Agent and
 * routing both ask this one function, so never both and never neither by accident.
 *
 * VXLAN is always the agent's. IPIP is the agent's when either setting gives it to somebody: upstream BIRD 2 has no route
 * attribute for a tunnel. Unencapsulated routes are the agent's when FelixConfiguration says so, else BIRD's when
 * BGPConfiguration says so. On a node without BIRD they are the agent's unless FelixConfiguration says otherwise. Both
 * settings against it = nobody.
 * DIFFERS: in Calico both write the route where the two settings overlap, with IPIP in BGPConfiguration its own fork of
 * BIRD does it (confd bgp_processor.go, felix config_params.go), and without BIRD nobody writes unencapsulated ones.
 *
 * @param pool undefined for a block outside every pool (its pool was deleted): BIRD's filter ends in accept, so it is BIRD's.
 */
export function routeOwner(pool: PoolEncapsulation | undefined, settings: RouteSettings): RouteOwner {
  if (!pool) return settings.birdRuns ? "bird" : "nobody";
  const kind = encapsulationOf(pool).kind;
  const felix = meaning(settings.felix, "EnabledIPIPOnly");
  const bgp = meaning(settings.bgp, "EnabledNoEncapOnly");
  if (kind === "vxlan") return "agent";
  if (kind === "ipip") return felix.ipip || bgp.ipip ? "agent" : "nobody";
  if (felix.none || standsIn(settings)) return "agent";
  return bgp.none && settings.birdRuns ? "bird" : "nobody";
}

/**
 * True when unencapsulated routes are the agent's only because there is no BIRD and nobody said whose they are. It makes them
 * to nodes of its own subnet; what routers reach beyond it is the routers' affair.
 */
export const standsIn = ({ felix, birdRuns }: RouteSettings): boolean => !birdRuns && felix === undefined;

/**
 * True when the two settings do not fit together: both programs, or none, would write one kind of route in Calico. The
 * caller reports it once; routeOwner() still names exactly one owner or nobody.
 */
export function settingsDisagree(settings: RouteSettings): boolean {
  const felix = meaning(settings.felix, "EnabledIPIPOnly");
  const bgp = meaning(settings.bgp, "EnabledNoEncapOnly");
  return felix.ipip === bgp.ipip || felix.none === bgp.none;
}

function meaning(value: string | undefined, otherwise: ClusterRoutes): { ipip: boolean; none: boolean } {
  return known.get(value ?? otherwise) ?? known.get(otherwise)!;
}

const known = new Map<string, { ipip: boolean; none: boolean }>([
  ["Enabled", { ipip: true, none: true }],
  ["Disabled", { ipip: false, none: false }],
  ["EnabledIPIPOnly", { ipip: true, none: false }],
  ["EnabledNoEncapOnly", { ipip: false, none: true }],
]);
