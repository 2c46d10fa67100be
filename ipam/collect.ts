import type { Cidr, Ip } from "../lib/ip.ts";

/** What is known of this node when the collector looks. All of one moment. */
export interface LocalTruth {
  node: string;
  /** Handles of attachments that the runtime or our own records still know (`<network>.<containerID>`). */
  validHandles: Set<string>;
  /** Addresses of workload endpoints of this node in etcd, as `formatIp()` writes them. */
  endpointAddresses: Set<string>;
  /** Addresses with a route to, or on, an interface of a workload of this node. */
  interfaceAddresses: Set<string>;
  /** True when no attachment is known to be missing from `validHandles`: the runtime listed them all. */
  complete: boolean;
}

/** An address that nobody uses, and why we think so. */
export interface Leak {
  ip: Ip;
  block: Cidr;
  handle: string | undefined;
  sequenceNumber: bigint;
  reason: string;
}
