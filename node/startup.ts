import type { Clock } from "../lib/clock.ts";
import type { Ip } from "../lib/ip.ts";
import type { Logger } from "../lib/log.ts";
import type { Resource } from "../datastore/kind.ts";
import type { Node } from "../datastore/kinds/node.ts";
import type { Store } from "../datastore/store.ts";
import type { LocalInterface } from "./interfaces.ts";
import type { Settings } from "./settings.ts";

/** The part of CRUD that start-up needs; datastore/resources.ts has it. */
export interface StartUpResources {
  get(kind: string, name: string): Promise<Resource | undefined>;
  list(kind: string): Promise<Resource[]>;
  /** @throws Problem "exists". */
  create(resource: Resource): Promise<Resource>;
  /** @throws Problem "conflict" when the object is newer than `metadata.resourceVersion`, "not-found". */
  update(resource: Resource): Promise<Resource>;
}

/** What start-up asks the Kubernetes API, when there is one. */
export interface KubernetesFacts {
  /** InternalIP addresses of a node. @throws Problem when it cannot be read. */
  internalIps(node: string): Promise<Ip[]>;
  /** Values of a ConfigMap of namespace kube-system; undefined when it does not exist or may not be read. */
  configMap(name: string): Promise<string[] | undefined>;
}

/** What start-up works with. */
export interface StartUpParts {
  /** This node's name (lib/node_name.ts). */
  node: string;
  resources: StartUpResources;
  store: Store;
  settings: Settings;
  interfaces: LocalInterface[];
  /** The address the kernel would send from to a host name or address; for can-reach. */
  sourceAddress?(destination: string, family: 4 | 6): Promise<Ip | undefined>;
  /** The kernel has IPv6. */
  kernelHasIpv6: boolean;
  clock: Clock;
  log: Logger;
  /** In [0, 1). */
  random: () => number;
  kubernetes?: KubernetesFacts;
  /** Ends the wait for the datastore. */
  signal?: AbortSignal;
}

/** What start-up did. Both lists name objects as `Kind/name`, in the order of writing; empty when all was there. */
export interface StartUpResult {
  /** Undefined with backend none, when nothing asked for a Node. */
  node: Node | undefined;
  created: string[];
  updated: string[];
}

/**
 * Brings the datastore into the state in which this node can work: tiers, default pools, configuration defaults,
 * ClusterInformation, this Node. Idempotent; may be killed at any step and run by many nodes at once.
 * Source: Calico's node/pkg/lifecycle/startup.
 * @throws Problem "bad-input" for a setting, "conflict" when another node has our address, "unavailable", "unauthorized".
 */
export function startUp(_parts: StartUpParts): Promise<StartUpResult> {
  throw new Error("not built yet");
}
