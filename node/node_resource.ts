import type { Family } from "../lib/ip.ts";
import type { Node, NodeSpec } from "../datastore/kinds/node.ts";
import type { AddressChoice } from "./addresses.ts";
import type { NodeInterface } from "./interfaces.ts";

/** What start-up knows about its Node. */
export interface NodeFacts {
  name: string;
  /** Undefined with backend none: addresses are left alone. */
  addresses?: Record<Family, AddressChoice>;
  /** Undefined like `addresses`. */
  interfaces?: NodeInterface[];
  /** From AS; undefined = leave alone. */
  asNumber?: number;
  /** From CALICO_K8S_NODE_REF; undefined = leave alone. */
  kubernetesNode?: string;
}

/** A Node to write, and which of its fields changed. */
export interface NodeChange {
  node: Node;
  /** JSON paths, such as `spec.bgp.ipv4Address`; never empty. */
  changed: string[];
}

/**
 * The Node as start-up wants it, everything else of it kept; undefined when there is nothing to write.
 * Source: Calico's node/pkg/lifecycle/startup. With backend none a Node is only written for a node reference.
 */
export function nodeChange(current: Node | undefined, facts: NodeFacts): NodeChange | undefined {
  const old = current?.spec ?? {};
  const spec = wantedSpec(old, facts);
  const changed = changedPaths(old, spec);
  if (changed.length === 0) return undefined;
  const node: Node = current ? { ...current, spec } : {
    apiVersion: "projectcalico.org/v3",
    kind: "Node",
    metadata: { name: facts.name },
    spec,
    status: {},
  };
  return { node, changed };
}

function wantedSpec(old: NodeSpec, facts: NodeFacts): NodeSpec {
  const spec: NodeSpec = { ...old };
  const bgp = { ...old.bgp };
  if (facts.addresses) {
    setOrDelete(bgp, "ipv4Address", facts.addresses[4].address);
    setOrDelete(bgp, "ipv6Address", facts.addresses[6].address);
  }
  if (facts.addresses && facts.asNumber !== undefined) bgp.asNumber = facts.asNumber;
  if (Object.keys(bgp).length > 0) spec.bgp = bgp;
  if (facts.interfaces) setOrDelete(spec, "interfaces", facts.interfaces);
  if (facts.kubernetesNode) spec.orchRefs = [{ nodeName: facts.kubernetesNode, orchestrator: "k8s" }];
  return spec;
}

/** Sets a member; an empty text or list removes it, as Go's `omitempty` does. */
function setOrDelete<T extends object, K extends keyof T>(
  target: T,
  member: K,
  value: T[K] & { length: number },
): void {
  if (value.length === 0) delete target[member];
  else target[member] = value;
}

const watched = [
  ["spec.bgp.ipv4Address", (s: NodeSpec) => s.bgp?.ipv4Address],
  ["spec.bgp.ipv6Address", (s: NodeSpec) => s.bgp?.ipv6Address],
  ["spec.bgp.asNumber", (s: NodeSpec) => s.bgp?.asNumber],
  ["spec.interfaces", (s: NodeSpec) => s.interfaces?.map(({ name, addresses }) => [name, addresses ?? []]) ?? []],
  ["spec.orchRefs", (s: NodeSpec) => s.orchRefs?.map(({ nodeName, orchestrator }) => [nodeName, orchestrator]) ?? []],
] as const;

function changedPaths(old: NodeSpec, wanted: NodeSpec): string[] {
  return watched.filter(([, of]) => JSON.stringify(of(old)) !== JSON.stringify(of(wanted))).map(([path]) => path);
}

/** True when an address of the Node is another one than before, so that other nodes must be looked at. */
export const changesAddress = (change: NodeChange): boolean => change.changed.some((path) => path.endsWith("Address"));
