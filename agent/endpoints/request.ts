import type { Cidr, Ip } from "../../lib/ip.ts";
import type { Profile } from "../../datastore/kinds/profile.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Attachment } from "./attachment.ts";
import type { EndpointDraft } from "./stored.ts";
import type { PodRoute } from "./wiring.ts";

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
  /** The WorkloadEndpoint but for what is found out on the way: ipNetworks, mac, containerID, ipNATs. */
  endpoint: EndpointDraft;
  addresses: AddressSource;
  /** Stored with each address: `node`, `timestamp`, `pod`, `namespace`. */
  attributes: Record<string, string>;
  /** Labels of the namespace, for the pools' namespace selectors; undefined when unknown. */
  namespaceLabels?: Record<string, string>;
  /** External addresses to map to the endpoint's address of the same family. */
  floatingIps: Ip[];
  /** Of the pod's side; random when absent. */
  mac?: string;
  mtu?: number;
  queues?: number;
  routes?: PodRoute[];
  ipForwarding: boolean;
  /** A profile to create when there is none of its name. */
  profile?: Profile;
}

/** What add() made, or found made already. */
export interface Added {
  endpoint: WorkloadEndpoint;
  /** `block` is the address itself (/32, /128) when it was asked for by name. */
  addresses: { ip: Ip; block: Cidr }[];
  /** The attachment was there; nothing was changed. */
  again: boolean;
}

/** Names of the steps of add(), each once; "connected" and "committed" happen side by side. */
export const addSteps = [
  "recorded",
  "planned",
  "connected",
  "committed",
  "learned",
  "enforced",
  "settled",
] as const;

/** One of addSteps. */
export type AddStep = typeof addSteps[number];

/** What to remove. */
export interface RemoveRequest {
  attachment: Attachment;
  /** Absent or gone is fine. */
  netns?: string;
  /** Key of the endpoint; absent for addresses without one. */
  endpointKey?: string;
}

/** What remove() came to. */
export interface Removed {
  /** "journalled": etcd is away; the journal has it and replays it by itself. */
  etcd: "released" | "nothing" | "journalled";
}

/** What check() compares. */
export interface CheckRequest {
  attachment: Attachment;
  netns: string;
  endpointKey: string;
  hostInterface: string;
  /** Addresses that ADD answered; undefined = those of the endpoint. */
  addresses?: Ip[];
}

/** Addresses for an attachment whose link and endpoint are another plugin's. */
export interface LeaseRequest {
  attachment: Attachment;
  addresses: AddressSource & { from: "ipam" };
  attributes: Record<string, string>;
  namespaceLabels?: Record<string, string>;
}
