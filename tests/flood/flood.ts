import { wait } from "../lab/wait.ts";
import type { Flow } from "./flow.ts";
import type { FloodOrder } from "./flood_worker.ts";
import type { Wires } from "./wires.ts";

/** What became of a flow's packet. */
export const fate = { notSent: 0, sent: 1, arrived: 2, doubled: 3 } as const;

/** How fast, how long. */
export interface FloodOptions {
  flows: Flow[];
  wires: Record<string, Wires>;
  /** Names of flows that pass mostly: each tick waits for them for a moment. */
  canaries: string[];
  /** Default 1. */
  tickMs?: number;
  /** Default 120,000. */
  maxTicks?: number;
}

/** A flood that runs: every tick one packet of each flow goes out. */
export class Flood implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  readonly #control = new SharedArrayBuffer(12);
  readonly #ticks = new Int32Array(this.#control);
  readonly #sentAt: Float64Array;
  readonly #fates: Uint8Array;
  readonly #index: Map<string, number>;
  readonly flows: readonly Flow[];
  readonly #maxTicks: number;

  constructor({ flows, wires, canaries, tickMs = 1, maxTicks = 120_000 }: FloodOptions) {
    this.flows = flows;
    this.#maxTicks = maxTicks;
    this.#index = new Map(flows.map(({ name }, i) => [name, i]));
    const sentAt = new SharedArrayBuffer(8 * maxTicks), fates = new SharedArrayBuffer(flows.length * maxTicks);
    this.#sentAt = new Float64Array(sentAt);
    this.#fates = new Uint8Array(fates);
    const order: FloodOrder = {
      ...{ flows: [...flows], control: this.#control, sentAt, fates, maxTicks, tickMs, patienceMs: 4 },
      senders: Object.fromEntries(Object.entries(wires).map(([name, w]) => [name, w.senders])),
      receivers: Object.values(wires).flatMap((w) => w.receivers),
      canaries: canaries.map((name) => this.#index.get(name)!),
    };
    this.#worker = new Worker(new URL("./flood_worker.ts", import.meta.url), { type: "module" });
    const ended = Promise.withResolvers<void>();
    this.#ended = ended.promise;
    this.#ended.catch(() => {}); // told by stop()
    this.#worker.onmessage = () => ended.resolve();
    this.#worker.onerror = (event) => {
      event.preventDefault();
      ended.reject(new Error(`the flood's thread failed: ${event.message}`));
    };
    this.#worker.postMessage(order);
  }

  /** The newest tick whose packets are out. */
  get tick(): number {
    return Atomics.load(this.#ticks, 0);
  }

  /** Milliseconds since 1970 at which a tick's packets were sent. */
  sentAt(tick: number): number {
    return this.#sentAt[tick]!;
  }

  /** Fates of a flow's packets from tick to tick, both included. */
  fates(flow: string, from: number, to: number): Uint8Array {
    const start = this.#index.get(flow)! * this.#maxTicks;
    return this.#fates.subarray(start + from, start + to + 1);
  }

  /** True when the newest `count` packets of the flow that are surely accounted for all passed, or none of them did. */
  is(flow: string, passes: boolean, count: number): boolean {
    const end = Atomics.load(this.#ticks, 2) - 5;
    if (end <= count) return false;
    return this.fates(flow, end - count, end).every((f) => f >= fate.arrived === passes);
  }

  /** Waits until so many more ticks are over. */
  async forTicks(count: number): Promise<void> {
    const end = Atomics.load(this.#ticks, 2) + count;
    // The first ones wait until the thread's program is loaded and checked.
    const options = { deadlineMs: 30_000 + 20 * count, everyMs: 2 };
    const over = wait(`${count} more packets of each flow`, () => Atomics.load(this.#ticks, 2) >= end, options);
    await Promise.race([over, this.#ended]);
    if (Atomics.load(this.#ticks, 2) < end) throw new Error("the flood has ended");
  }

  /** Ends the flood and waits until the last packets are accounted for. */
  async stop(): Promise<void> {
    Atomics.store(this.#ticks, 1, 1);
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop().catch(() => {});
    this.#worker.terminate();
  }
}
