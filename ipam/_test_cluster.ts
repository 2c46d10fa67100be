import type { Clock } from "../lib/clock.ts";
import { silentLog } from "../lib/log.ts";
import { writeJson } from "../lib/json64.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { kindPrefix, resourceKey } from "../datastore/keys.ts";
import { type Event, type KeyValue, prefixRange, type Store } from "../datastore/store.ts";
import { Allocator, type AllocatorParts } from "./commit.ts";
import type { AssignRequest } from "./request.ts";
import type { Reader } from "./view.ts";

/** A pool as tests write it. */
export interface TestPool {
  name: string;
  cidr: string;
  blockSize?: number;
  [field: string]: unknown;
}

/** A store with a ready cluster, pools and nodes, and a clock that the test moves. For tests of this folder. */
export class TestCluster {
  readonly clock = new TestClock();
  readonly store = new MemoryStore({ clock: this.clock });

  static async with(pools: TestPool[], nodes: string[]): Promise<TestCluster> {
    const cluster = new TestCluster();
    await cluster.put(resourceKey("ClusterInformation", "default"), { spec: { datastoreReady: true } });
    for (const { name, ...spec } of pools) await cluster.put(resourceKey("IPPool", name), { metadata: { name }, spec });
    for (const name of nodes) await cluster.putNode(name, {});
    return cluster;
  }

  putNode(name: string, labels: Record<string, string>): Promise<void> {
    return this.put(resourceKey("Node", name), { metadata: { name, labels }, spec: {} });
  }

  putReservation(name: string, reservedCIDRs: string[]): Promise<void> {
    return this.put(`${kindPrefix("IPReservation")}${name}`, { metadata: { name }, spec: { reservedCIDRs } });
  }

  async put(key: string, value: unknown): Promise<void> {
    const text = typeof value === "string" ? value : writeJson(value);
    await this.store.txn({ compare: [], write: [{ put: key, value: text }] });
  }

  /** A mirror that is as old as its last sync() or learn(). */
  async mirror(): Promise<TestMirror> {
    const mirror = new TestMirror(this.store);
    await mirror.sync();
    return mirror;
  }

  allocator(reader: AllocatorParts["reader"], parts: Partial<AllocatorParts> = {}): Allocator {
    const { store, clock } = this;
    return new Allocator({ store, reader, clock, random: () => 0.5, log: silentLog, ...parts });
  }

  /** Transactions so far, reads of several keys included. */
  get requests(): number {
    return Object.values(this.store.requests).reduce((sum, n) => sum + n, 0);
  }
}

/** A reader over a copy that grows old until it is told. */
export class TestMirror implements Reader {
  revision = 0n;
  #values = new Map<string, KeyValue>();

  constructor(private readonly store: Store) {}

  async sync(): Promise<void> {
    const { revision, values } = await this.store.read([prefixRange("/calico/")]);
    this.revision = revision;
    this.#values = values;
  }

  get(key: string): KeyValue | undefined {
    return this.#values.get(key);
  }

  list(prefix: string): KeyValue[] {
    return [...this.#values.values()].filter((kv) => kv.key.startsWith(prefix)).sort((
      a,
      b,
    ) => (a.key < b.key ? -1 : 1));
  }

  learn(events: Event[]): void {
    for (const { key, value, revision, created } of events) {
      if (value === undefined) this.#values.delete(key);
      else this.#values.set(key, { key, value, revision, created });
    }
  }
}

/** Time that passes by advance() only; short sleeps (back-off) end at once, deadlines never by themselves. */
export class TestClock implements Clock {
  #now = 1_795_249_902_000; // 2026-11-21T08:31:42Z
  #passed = 0;

  now(): number {
    return this.#now;
  }

  monotonicMs(): number {
    return this.#passed;
  }

  advance(ms: number): void {
    this.#now += ms;
    this.#passed += ms;
  }

  /** Sets the wall clock forward, without time passing for deadlines. */
  step(ms: number): void {
    this.#now += ms;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms <= 200) return Promise.resolve();
    return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason), { once: true }));
  }
}

/** A request for one IPv4 address of a workload. */
export const workload = (node: string, handle: string, more: Partial<AssignRequest> = {}): AssignRequest => ({
  handle,
  node,
  use: "Workload",
  attributes: { node },
  families: { 4: 1 },
  ...more,
});
