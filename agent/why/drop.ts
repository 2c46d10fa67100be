import { contains, type Ip, tryParseCidrOrIp } from "../../lib/ip.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Decider, Packet } from "../calc/verdict.ts";
import type { Direction, PolicedEndpoint } from "../desired_policy.ts";
import type { NodeRules, Stage } from "./node_walk.ts";
import { unnamedInterface, type World } from "./world.ts";

/** A packet that policy of a node dropped, as the kernel tells of it. */
export interface DroppedPacket {
  node: string;
  direction: Direction;
  decider: Decider;
  /** `FORWARD`, …: the kernel's chain in which that was. */
  hook: string;
  in?: string;
  out?: string;
  packet: Packet;
}

/**
 * The place where a packet was dropped, as `why` would have predicted it: explain() tells the rest.
 * @returns undefined when no endpoint of this state of the datastore is where it was dropped.
 */
export function dropStage(world: World, drop: DroppedPacket): Stage | undefined {
  const { node, direction, decider, hook, packet } = drop;
  const rules = world.rules(node, packet.src.v);
  const found = workloadAt(rules, drop) ?? hostAt(rules, drop);
  if (!found) return undefined;
  const { endpoint, interfaceName } = found;
  const at = stageOf(rules, decider, endpoint, hook);
  return { node, at, direction, endpoint: endpoint.id, interfaceName, verdict: "deny", decider, logged: [], packet };
}

/** An endpoint, and the interface by which the packet met it. */
interface Met {
  endpoint: PolicedEndpoint;
  interfaceName: string;
}

function workloadAt({ state }: NodeRules, { direction, in: into, out }: DroppedPacket): Met | undefined {
  const interfaceName = direction === "egress" ? into : out;
  const endpoint = interfaceName === undefined
    ? undefined
    : [...state.endpoints.values()].find((e) => e.kind === "workload" && e.interfaceName === interfaceName);
  return endpoint && { endpoint, interfaceName: interfaceName! };
}

function hostAt({ hosts }: NodeRules, { direction, in: into, out }: DroppedPacket): Met | undefined {
  const interfaceName = direction === "egress" ? out : into;
  if (interfaceName === undefined) return undefined;
  // Which interface has the node's address the Node does not always say.
  const endpoint = hosts.named.get(interfaceName) ?? hosts.named.get(unnamedInterface) ?? hosts.wildcard;
  return endpoint && { endpoint, interfaceName };
}

function stageOf({ state }: NodeRules, decider: Decider, endpoint: PolicedEndpoint, hook: string): Stage["at"] {
  if (endpoint.kind === "workload") return "normal";
  const policy = decider.by === "rule" ? state.policies.get(decider.policy) : undefined;
  if (policy?.doNotTrack) return "untracked";
  if (policy?.preDnat) return "preDNAT";
  return hook === "FORWARD" ? "forward" : "normal";
}

/**
 * Who has an address: `shop/web-7`, `host node-1`, `GlobalNetworkSet:partners`, `a service`; undefined for nobody that
 * the datastore knows.
 */
export function holderName(world: World, node: string, address: Ip): string | undefined {
  const workload = world.workloadAt(address);
  if (workload) return workloadName(world.byId.get(workload.id), workload.id);
  const host = world.nodeAt(address);
  if (host) return `host ${host.name}`;
  const services = world.rules(node, address.v).serviceCidrs.flatMap((text) => tryParseCidrOrIp(text) ?? []);
  if (services.some((cidr) => contains(cidr, address))) return "a service";
  return world.holders(address)[0]?.id;
}

function workloadName(resource: Resource | undefined, id: string): string {
  const spec = resource?.spec as { pod?: string; workload?: string } | undefined;
  const name = spec?.pod || spec?.workload;
  return name ? `${resource!.metadata.namespace}/${name}` : id;
}
