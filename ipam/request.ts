import type { Cidr, Family, Ip } from "../lib/ip.ts";
import type { Problem } from "../lib/problem.ts";
import type { Compare, Event, KeyValue, Write } from "../datastore/store.ts";

/** What an address is for; a pool's `allowedUses` must name it. */
export type Use = "Workload" | "Tunnel" | "LoadBalancer";

/** Something per IP version. */
export type PerFamily<T> = { 4?: T; 6?: T };

/** Compares and writes that go into the same transaction as the addresses: the workload endpoint, a Node resource. */
export interface Extra {
  compare: Compare[];
  write: Write[];
}

/** Addresses at the start and end of each new block that are never given out (Windows nodes: 3 and 1). */
export interface HostReserved {
  start: number;
  end: number;
  /** Handle of the attribute that they point to: `windows-reserved-ipam-handle`. */
  handle: string;
  /** Its `note`: `windows host rsvd`. */
  note: string;
}

/** A wish for addresses. Either `families` (we choose) or `address` (the caller chose). */
export interface AssignRequest {
  /** Name under which the addresses are released together: `<network>.<containerID>`. Without it no handle key is written. */
  handle?: string;
  /** Stored beside each address as `secondary`: `node`, `timestamp`, `pod`, `namespace`, … */
  attributes: Record<string, string>;
  /** The node that gets them; `virtual:load-balancer` for LoadBalancer use. */
  node: string;
  use: Use;
  /** How many addresses of each IP version. */
  families?: PerFamily<number>;
  /** Exactly these addresses. Selectors, assignment mode and reservations are not looked at. */
  address?: Ip[];
  /** Pools to take them from, as names or CIDRs, in this order; their selectors and assignment mode are not looked at. */
  pools?: PerFamily<string[]>;
  /** Labels of the pod's namespace, for pools with a namespaceSelector. Absent = no labels. */
  namespace?: Record<string, string>;
  /** Most blocks that the node may own per IP version; the smaller one of this and the stored configuration counts. */
  maxBlocks?: number;
  hostReserved?: HostReserved;
  /** When the handle has so many addresses of a version, they are the answer and no new one is taken (KubeVirt). */
  maxPerHandle?: number;
  /** How long the caller waits. Default: the Allocator's. After it the outcome is problem "unavailable". */
  deadlineMs?: number;
  /**
   * Take fewer addresses when there are not enough. Default false: all or nothing is written. DIFFERS: Calico writes what it
   * finds, and an error in IPv6 leaves the IPv4 address behind until DEL.
   */
  partial?: boolean;
  /** Called with the chosen addresses each time a transaction is planned (again after a conflict), so it must be pure. */
  with?: (addresses: AssignedAddress[]) => Extra;
}

/** An address that was given, with the block it lies in (Calico shows the block's mask in its answers). */
export interface AssignedAddress {
  ip: Ip;
  block: Cidr;
  /** True when the handle had it before (see maxPerHandle). */
  reused?: boolean;
}

/** A committed transaction: what was written, as events, for `Mirror.learn()`. Shared by all requests of one group. */
export interface Commit {
  revision: bigint;
  events: Event[];
}

/** Too few addresses of one IP version: Calico's sentence. */
export interface Shortage {
  family: Family;
  message: string;
}

/**
 * What became of an AssignRequest. `addresses`: version 4 first, each version in the order of giving. Without `partial`
 * there are either all of them or none. `problem` says why not all: codes "exhausted", "bad-input", "not-found",
 * "exists", "not-ready", "unavailable", "conflict", or that of a compare of `with` ("conflict").
 */
export interface AssignOutcome {
  addresses: AssignedAddress[];
  shortages: Shortage[];
  problem?: Problem;
  /** Values of the keys that `with` compared, when one of them was not as it wants: problem "conflict". */
  current?: Map<string, KeyValue>;
  /** Absent when nothing was written. */
  commit?: Commit;
}

/** One address to release. With `handle` or `sequenceNumber` it is released only when the stored ones are equal. */
export interface ReleaseAddress {
  ip: Ip;
  handle?: string;
  sequenceNumber?: bigint;
}

/** A wish to release: everything of a handle, or some addresses. */
export type ReleaseRequest =
  & ({ handle: string } | { addresses: ReleaseAddress[] })
  & {
    /**
     * Goes into the same transaction (delete of the endpoint). Called each time a transaction is planned, must be pure.
     * It is written also when the handle does not exist.
     */
    with?: () => Extra;
    /** How long the caller waits. Default: the Allocator's. After it the outcome is problem "unavailable". */
    deadlineMs?: number;
  };

/**
 * What became of a ReleaseRequest. A handle or address that is not assigned is no problem: see `missing`. A foreign
 * handle or sequence number is problem "conflict", and nothing of the request is released.
 */
export interface ReleaseOutcome {
  released: Ip[];
  /** True when the handle does not exist. */
  missing: boolean;
  /** Addresses that were not assigned, or are cooling down. */
  unallocated: Ip[];
  problem?: Problem;
  /** Values of the keys that `with` compared, when one of them was not as it wants: problem "conflict". */
  current?: Map<string, KeyValue>;
  commit?: Commit;
}
