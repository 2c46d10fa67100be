import type { Clock } from "../../lib/clock.ts";
import type { Ip } from "../../lib/ip.ts";
import type { Logger } from "../../lib/log.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Store } from "../../datastore/store.ts";
import type { Attachment } from "./attachment.ts";
import type { Journal } from "./journal.ts";
import type { Inspection, PodRoute, Wiring } from "./wiring.ts";

/** Where an endpoint's addresses come from. */
export type AddressSource =
  /** Chosen by our IPAM. `specific` asks for these very addresses; then counts and pools do not matter. */
  | { from: "ipam"; v4: boolean; v6: boolean; pools4?: string[]; pools6?: string[]; specific?: Ip[] }
  /** Known already: another IPAM plugin's, or a pod's annotation. Nothing is written to our IPAM. */
  | { from: "given"; addresses: Ip[] };

/** One endpoint to make. */
export interface AddRequest {
  attachment: Attachment;
  /** Path of the sandbox's network namespace, absolute. */
  netns: string;
  /** The WorkloadEndpoint without what is found out on the way: ipNetworks, mac, containerID, ipNATs. */
  endpoint: Resource;
  addresses: AddressSource;
  /** Attributes stored with each address: `pod`, `namespace`; node and timestamp are added. */
  attributes: Record<string, string>;
  /** Labels of the namespace, for the pools' namespace selectors; undefined when unknown. */
  namespaceLabels?: Record<string, string>;
  /** External addresses to map to the endpoint's address of the same family. */
  floatingIps: Ip[];
  mac?: string;
  mtu?: number;
  queues?: number;
  routes?: PodRoute[];
  ipForwarding: boolean;
  /** A profile to create when there is none of its name. */
  profile?: Resource;
}

/** What add() made, or found made already. */
export interface Added {
  endpoint: Resource;
  mac: string;
  /** Each address with the length of its block's prefix (32 or 128 for a specific or given one). */
  addresses: { ip: Ip; blockLen: number }[];
}

/** Names of the steps of add(), in order; `deps.step` is called when each is done. */
export const addSteps = [
  "recorded",
  "planned",
  "connected",
  "committed",
  "learned",
  "enforced",
  "raised",
  "settled",
] as const;

/** One of addSteps. */
export type AddStep = typeof addSteps[number];

/** What a Lifecycle works with. */
export interface LifecycleDeps {
  /** This node's name. */
  node: string;
  store: Store;
  journal: Journal;
  wiring: Wiring;
  /** Resolves when the kernel enforces the endpoint of this key; rejects when it cannot. */
  enforced(endpointKey: string): Promise<void>;
  /** A random MAC, locally administered, and a random UUID. */
  random: { mac(): string; uuid(): string };
  clock: Clock;
  log: Logger;
  /** Told each step of each add(); for tests that kill the process there. */
  step?: (step: AddStep, attachment: Attachment) => void;
}

/** What check() was asked to compare with. */
export interface CheckRequest {
  attachment: Attachment;
  netns: string;
  endpointKey: string;
  /** Addresses that ADD answered; undefined: those of the endpoint. */
  addresses?: Ip[];
}

/** The life of this node's endpoints. */
export class Lifecycle {
  constructor(private readonly deps: LifecycleDeps) {}

  /** Makes an endpoint. */
  add(_request: AddRequest): Promise<Added> {
    throw new Error("not built yet");
  }

  /** Removes an endpoint. */
  remove(
    _request: { attachment: Attachment; netns?: string; endpointKey: string },
  ): Promise<{ released: boolean; journalled: boolean }> {
    throw new Error("not built yet");
  }

  /** Compares an endpoint with what is really there. */
  check(_request: CheckRequest): Promise<Inspection> {
    throw new Error("not built yet");
  }

  /** This node's endpoints. */
  list(): Resource[] {
    throw new Error("not built yet");
  }

  /** To be called once before the first add(): undoes what the last process left half-made. */
  recover(): Promise<void> {
    throw new Error("not built yet");
  }

  /** Replays the journal when etcd answers; ends when `signal` is aborted. */
  run(_signal: AbortSignal): Promise<void> {
    throw new Error("not built yet");
  }
}
