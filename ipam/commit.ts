import type { Clock } from "../lib/clock.ts";
import type { Cidr } from "../lib/ip.ts";
import type { Logger } from "../lib/log.ts";
import type { Store } from "../datastore/store.ts";
import type { AssignOutcome, AssignRequest, ReleaseOutcome, ReleaseRequest } from "./request.ts";
import type { Reader } from "./view.ts";

/** What an Allocator needs of the world. */
export interface AllocatorParts {
  store: Store;
  /** The newest picture at hand: the mirror, or a snapshot just read (coldReader()). */
  reader: () => Reader | Promise<Reader>;
  clock: Clock;
  /** In [0, 1); for jitter and for the start block of /32 and /128 pools. */
  random: () => number;
  log: Logger;
  /** Block number at which a node begins in a pool of `count` blocks; default FNV-1 of the node name. */
  startBlock?: (node: string, pool: Cidr, count: bigint) => bigint;
}

/**
 * Gives and takes addresses, each group of waiting requests in one etcd transaction: at most 40, each key once, at most
 * 128 operations. Calls may overlap: those that come while a transaction is under way go into the next one together.
 * A request that fails does not fail its neighbours. With a warm reader an assignment or release costs one etcd request.
 */
export class Allocator implements AsyncDisposable {
  constructor(readonly parts: AllocatorParts) {}

  /** Outcomes in the order of `requests`; never rejects for an expected failure (see AssignOutcome.problem). */
  assign(_requests: AssignRequest[]): Promise<AssignOutcome[]> {
    throw new Error("not built yet");
  }

  /** Outcomes in the order of `requests`. */
  release(_requests: ReleaseRequest[]): Promise<ReleaseOutcome[]> {
    throw new Error("not built yet");
  }

  /** Waits for what is under way; later calls are refused. */
  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}
