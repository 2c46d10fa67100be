import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import type { Event, KeyValue, Range, Store } from "./store.ts";

/** All resources and IPAM in one contiguous range, so in one revision order. */
export const mirroredRange: Range = { start: "/calico/ipam/v2/", end: "/calico/resources/v3/projectcalico.org0" };

/** What a mirror is made of. */
export interface MirrorOptions {
  store: Store;
  /** Default: mirroredRange. */
  range?: Range;
  /** Where the snapshot file lies; without it every start lists. */
  snapshotFile?: string;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter; default Math.random. */
  random?: () => number;
}

/** One step of a consumer: `set` and `deleted` are disjoint, each key once, sorted by key in the first batch only. */
export interface Changes {
  /** The mirror was complete up to here when the batch was made; own commits that it learned may be newer. */
  revision: bigint;
  set: KeyValue[];
  deleted: string[];
  /** The first batch of a consumer, which holds everything, or a batch with the difference found by a new list. */
  resync: boolean;
}

/** Whether the mirror can be trusted. */
export interface MirrorState {
  /** It held everything at one revision and no new list is outstanding. */
  inSync: boolean;
  /** Why it is not in sync, or not connected. */
  why?: string;
  /** The watch stands. False with inSync = what is held may be old, nothing is forgotten. */
  connected: boolean;
}

/** An in-memory copy of a range of the datastore. */
export class Mirror implements AsyncDisposable {
  /** Starts listing and watching in the background; returns at once. */
  static start(_options: MirrorOptions): Mirror {
    throw new Error("not built yet");
  }
  /** Complete up to this revision. */
  get revision(): bigint {
    throw new Error("not built yet");
  }
  state(): MirrorState {
    throw new Error("not built yet");
  }
  /** Resolves when in sync for the first time; rejects when `signal` is aborted. */
  ready(_signal?: AbortSignal): Promise<void> {
    throw new Error("not built yet");
  }
  get(_key: string): KeyValue | undefined {
    throw new Error("not built yet");
  }
  /** Everything that begins with `prefix`, sorted by key. */
  list(_prefix: string): KeyValue[] {
    throw new Error("not built yet");
  }
  /** A consumer's view: the first batch (when in sync) is everything, later ones are changes coalesced for ≤ 10 ms. */
  changes(_signal: AbortSignal): AsyncGenerator<Changes> {
    throw new Error("not built yet");
  }
  /** Takes over what we committed ourselves, at once; the echo from the watch is recognised by its revision. */
  learn(_events: Event[]): void {
    throw new Error("not built yet");
  }
  [Symbol.asyncDispose](): Promise<void> {
    throw new Error("not built yet");
  }
}
