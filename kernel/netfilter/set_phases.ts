import type { Clock } from "../../lib/clock.ts";
import type { Family } from "../../lib/ip.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { Phase } from "../reconcile.ts";
import type { RtSocket } from "../rtnetlink/socket.ts";

/**
 * "make" creates and changes. "close" does too, but leaves out of sets that are there what would allow more than before,
 * for the time between it and "break": then rules can change with no packet passing that both old and new ones deny.
 * "break" does what "close" left out, and destroys.
 */
export type SetPhase = Phase | "close";

/** The sets of one family. */
export interface IpSetsOptions {
  family: Family;
  /** Opened with the protocol NETLINK_NETFILTER in the namespace of the sets. */
  socket: RtSocket;
  /** Tells whether a set's name is of those that we own. */
  owns: (name: string) => boolean;
  /** `cali4t`: what names of temporary sets begin with; a number follows. They are ours too. */
  temporaryPrefix: string;
  clock: Clock;
  /** 0..1 source of the back-off's jitter. */
  random: () => number;
  metrics?: Metrics;
  /** Back-off of what fails: from this, doubling, up to that. Default 100 and 30,000. */
  firstRetryMs?: number;
  maxRetryMs?: number;
}
