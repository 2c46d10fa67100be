import { type Cidr, formatCidr, formatIp, type Ip, sameIp, tryParseCidr, tryParseCidrOrIp } from "../../lib/ip.ts";
import { blockKey } from "../../datastore/keys.ts";
import { type Block, collectCooled, type Cooling, isCooling, isEmpty, ordinalsOf } from "../../ipam/block.ts";
import { type Leak, type Suspects, wholeHandles } from "../../ipam/collect.ts";
import type { View } from "../../ipam/view.ts";
import type { KeptPod } from "../sources.ts";
import { type Allocation, allocationsIn, blocksOf, nodeOf } from "./allocations.ts";

/** What Kubernetes and the nodes in etcd say. */
export interface Truth {
  pod(namespace: string, name: string): KeptPod | undefined;
  /**
   * How a node stands: `there` in Kubernetes; `gone` from it, or from etcd; `foreign`: it is none of Kubernetes, and none
   * of our business. `name` is its name in Kubernetes.
   */
  node(name: string): { is: "there"; name: string } | { is: "gone" } | { is: "foreign" };
}

/** A leak, and what a last look at Kubernetes must not find. */
export interface Confirmed extends Leak {
  /** The node that the pod was on is gone. */
  nodeGone: boolean;
  owner: Allocation["owner"];
}

/** What a look came to. */
export interface Findings {
  /** To release: confirmed, all addresses of their handle alike. */
  leaks: Confirmed[];
  /** Addresses that look unused, whether confirmed or not. */
  candidates: Allocation[];
  /** Nodes that are gone and of which nothing but leaks is left: their blocks are given up. */
  nodes: string[];
  /** Empty blocks of nodes that have another one. */
  spare: { node: string; cidr: Cidr }[];
  /** Handles that hold nothing. */
  handles: string[];
  /** Blocks with addresses whose cooldown is over. */
  cooled: Cidr[];
  /** For the next look. */
  suspects: Suspects;
  /** When the next suspect is due, in milliseconds from now; undefined = there is none. */
  dueMs: number | undefined;
}

/** What becomes of an address that its owner does not use. */
type Verdict = "in use" | "unknown" | "tunnel" | "unused";

const tunnels = new Set([
  ...["ipipTunnelAddress", "vxlanTunnelAddress", "vxlanV6TunnelAddress"],
  ...["wireguardTunnelAddress", "wireguardV6TunnelAddress"],
]);

/**
 * Looks for addresses and blocks that nobody uses any more. Pure: decides by `truth` alone and releases nothing.
 * @param before the suspects of the last look. @param time `graceMs` 0 = nothing is confirmed on a node that is there.
 * Source: Calico kube-controllers/pkg/controllers/node/ipam.go checkAllocations, releaseUnusedBlocks, garbageCollectColdIPs.
 */
export function lookForLeaks(
  view: View,
  truth: Truth,
  before: Suspects,
  { nowMs, graceMs }: { nowMs: number; graceMs: number },
): Findings {
  const blocks = blocksOf(view);
  const perNode = allocationsByNode(blocks);
  const suspects = new Map<string, { sinceMs: number; state: string }>();
  /** How long something has looked unused, and is now noted as. */
  const ageOf = (name: string, state: string): number => {
    const known = before.get(name), sinceMs = known?.state === state ? known.sinceMs : nowMs;
    suspects.set(name, { sinceMs, state });
    return nowMs - sinceMs;
  };
  const isDue = (name: string, state: string) => graceMs > 0 && ageOf(name, state) >= graceMs;
  const confirmed: Confirmed[] = [], candidates: Allocation[] = [], nodes: string[] = [];
  const pending = new Set<string>();
  for (const [name, allocations] of perNode) {
    const node = truth.node(name);
    if (node.is === "foreign") continue;
    const nodeGone = node.is === "gone", tunnelled: Allocation[] = [];
    let isFree = true;
    for (const allocation of allocations) {
      const verdict = judge(allocation, truth, node);
      if (verdict === "tunnel") tunnelled.push(allocation);
      if (verdict === "in use" || verdict === "unknown") isFree = false;
      if (verdict !== "unused") continue;
      candidates.push(allocation);
      const { handle, sequenceNumber } = allocation;
      if (nodeGone || isDue(`address ${formatIp(allocation.ip)}`, `${handle} ${sequenceNumber}`)) {
        confirmed.push(leakOf(allocation, nodeGone));
      } else pending.add(handle);
    }
    if (!nodeGone || !isFree) continue;
    confirmed.push(...tunnelled.map((allocation) => leakOf(allocation, true)));
    nodes.push(name);
  }
  const config = view.config(), cooling = { nowMs, cooldownS: config.cooldownS };
  return {
    leaks: wholeHandles(confirmed, blocks, pending),
    candidates,
    nodes,
    spare: spareIn(blocks, truth, cooling).filter(({ cidr, state }) => isDue(`block ${formatCidr(cidr)}`, state)),
    handles: staleHandles(view).filter(({ id, state }) => isDue(`handle ${id}`, state)).map(({ id }) => id),
    cooled: blocks.filter((b) => b.attributes.some(isCooling) && collectCooled(b, cooling) !== b).map((b) => b.cidr),
    suspects,
    dueMs: suspects.size === 0 || graceMs === 0
      ? undefined
      : Math.max(0, Math.min(...[...suspects.values()].map(({ sinceMs }) => sinceMs + graceMs)) - nowMs),
  };
}

/** Whether the pod that an address was given to uses it, as far as is known. */
export function podUses(ip: Ip, pod: KeptPod | undefined, nodeThere: string | undefined): boolean {
  if (!pod) return false;
  if (pod.node && nodeThere && pod.node !== nodeThere) return false;
  // Kubelet has not said any address yet: whatever the plugin gave may be it.
  if (pod.addresses.length === 0) return true;
  if (pod.evicted) return false;
  const networks = [...pod.addresses, ...pod.noted].map(tryParseCidrOrIp);
  return networks.some((network) => network === undefined || sameIp({ v: network.v, n: network.n }, ip));
}

/** Virtual machines are not followed, so their addresses count as used. DIFFERS: Calico follows KubeVirt's objects. */
function judge({ ip, owner }: Allocation, truth: Truth, node: ReturnType<Truth["node"]>): Verdict {
  if (tunnels.has(owner.type ?? "")) return "tunnel";
  if (!owner.pod || !owner.namespace) return "unknown";
  if (owner["vmi-name"]) return "in use";
  const nodeThere = node.is === "there" ? node.name : undefined;
  return podUses(ip, truth.pod(owner.namespace, owner.pod), nodeThere) ? "in use" : "unused";
}

/** Allocations by the node that they were given on, and nodes that own blocks; those without node are nobody's to judge. */
function allocationsByNode(blocks: Block[]): Map<string, Allocation[]> {
  const found = new Map<string, Allocation[]>();
  for (const block of blocks) {
    const owner = nodeOf(block.affinity);
    if (owner && !found.has(owner)) found.set(owner, []);
    for (const allocation of allocationsIn(block)) {
      const { node } = allocation.owner;
      if (!node) continue;
      const list = found.get(node);
      if (list) list.push(allocation);
      else found.set(node, [allocation]);
    }
  }
  return found;
}

function leakOf({ ip, block, handle, sequenceNumber, owner }: Allocation, nodeGone: boolean): Confirmed {
  const whose = owner.pod ? `pod ${owner.namespace}/${owner.pod} does not have it` : "it is a tunnel's";
  const reason = nodeGone ? `node ${owner.node} is gone, ${whose}` : whose;
  return { ip, block, handle, sequenceNumber, reason, nodeGone, owner };
}

/** Empty blocks of nodes of Kubernetes that have another block of the same IP version; one always stays. */
function spareIn(blocks: Block[], truth: Truth, cooling: Cooling): { node: string; cidr: Cidr; state: string }[] {
  const perNode = Map.groupBy(blocks, (block) => `${block.cidr.v} ${nodeOf(block.affinity) ?? ""}`);
  return [...perNode.values()].flatMap((own) => {
    const node = nodeOf(own[0]!.affinity);
    if (!node || truth.node(node).is !== "there") return [];
    const empty = own.filter((block) => isEmpty(collectCooled(block, cooling)));
    return empty.slice(0, own.length - empty.length > 0 ? undefined : -1)
      .map(({ cidr, sequenceNumber }) => ({ node, cidr, state: String(sequenceNumber) }));
  });
}

/** Handles whose blocks hold nothing of them, or are gone. DIFFERS: in Calico they stay for ever. */
function staleHandles(view: View): { id: string; state: string }[] {
  return view.handles().flatMap(({ id, value, revision }) => {
    const isStale = [...value.counts.keys()].every((text) => {
      const cidr = tryParseCidr(text), block = cidr && view.block(cidr)?.value;
      if (!cidr) return false;
      return block ? ordinalsOf(block, id).length === 0 : view.revisionOf(blockKey(cidr)) === 0n;
    });
    return isStale ? [{ id, state: String(revision) }] : [];
  });
}
