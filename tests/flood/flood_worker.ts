/// <reference lib="deno.worker" />
// The flood's own thread. It does nothing but send and receive until it is told to stop, so it needs no event loop.
import type { Family } from "../../lib/ip.ts";
import { type Flow, readMark, stamp, templateOf } from "./flow.ts";
import { MessageBatch } from "./message_batch.ts";
import { socketAddress } from "./wires.ts";

/** What the thread is given. */
export interface FloodOrder {
  flows: Flow[];
  /** Sockets by the name of the place. */
  senders: Record<string, Record<Family, number>>;
  receivers: number[];
  /** [tick, stop, drained tick] */
  control: SharedArrayBuffer;
  /** By tick: milliseconds since 1970 when its packets were sent. */
  sentAt: SharedArrayBuffer;
  /** By flow and tick: 0 not sent, 1 sent, 2 came out, 3 came out more than once. */
  fates: SharedArrayBuffer;
  maxTicks: number;
  /** Shortest time from tick to tick. */
  tickMs: number;
  /** Flows that all pass mostly: the next tick waits, `patienceMs` at most, until theirs have come out. */
  canaries: number[];
  patienceMs: number;
}

class FloodThread {
  readonly #control: Int32Array;
  readonly #sentAt: Float64Array;
  readonly #fates: Uint8Array;
  readonly #templates;
  readonly #batches: { fd: number; batch: MessageBatch; flows: number[] }[] = [];
  readonly #incoming: MessageBatch;
  readonly #views: DataView[];
  readonly #isCanary: boolean[];
  /** Canaries of the newest tick that have not come out. */
  #missing = 0;
  #tick = 0;

  constructor(private readonly order: FloodOrder) {
    this.#control = new Int32Array(order.control);
    this.#sentAt = new Float64Array(order.sentAt);
    this.#fates = new Uint8Array(order.fates);
    this.#templates = order.flows.map(templateOf);
    const groups = Map.groupBy(order.flows.keys(), (i) => `${order.flows[i]!.from} ${this.#templates[i]!.family}`);
    for (const flows of groups.values()) {
      const { from } = order.flows[flows[0]!]!, family = this.#templates[flows[0]!]!.family;
      const messages = flows.map((i) => ({ bytes: this.#templates[i]!.bytes, to: socketAddress(order.flows[i]!.dst) }));
      this.#batches.push({ fd: order.senders[from]![family], batch: new MessageBatch(messages), flows });
    }
    const buffers = Array.from({ length: 64 }, () => new Uint8Array(256));
    this.#incoming = new MessageBatch(buffers.map((bytes) => ({ bytes })));
    this.#views = buffers.map((b) => new DataView(b.buffer));
    this.#isCanary = order.flows.map((_, i) => order.canaries.includes(i));
  }

  run(): void {
    const { maxTicks, tickMs, patienceMs, canaries } = this.order;
    const pause = new Int32Array(new SharedArrayBuffer(4));
    while (Atomics.load(this.#control, 1) === 0 && this.#tick + 1 < maxTicks) {
      const begin = performance.now();
      this.#tick++;
      this.#missing = canaries.length;
      this.#sentAt[this.#tick] = performance.timeOrigin + begin;
      this.#send();
      Atomics.store(this.#control, 0, this.#tick);
      for (;;) {
        this.#drain();
        const left = performance.now() - begin;
        if (left >= tickMs && (this.#missing <= 0 || left >= patienceMs)) break;
        Atomics.wait(pause, 0, 0, Math.min(0.2, Math.max(0.05, tickMs - left)));
      }
      Atomics.store(this.#control, 2, this.#tick);
    }
    const end = performance.now() + 100;
    while (performance.now() < end) this.#drain();
  }

  #send(): void {
    const { maxTicks } = this.order;
    for (const { fd, batch, flows } of this.#batches) {
      for (const flow of flows) {
        stamp(this.#templates[flow]!, this.#tick);
        this.#fates[flow * maxTicks + this.#tick] = 1;
      }
      batch.send(fd, (i) => this.#fates[flows[i]! * maxTicks + this.#tick] = 0);
    }
  }

  #drain(): void {
    for (const fd of this.order.receivers) {
      for (;;) {
        const count = this.#incoming.receive(fd);
        for (let i = 0; i < count; i++) this.#take(this.#views[i]!, this.#incoming.lengthOf(i));
        if (count < this.#views.length) break;
      }
    }
  }

  #take(view: DataView, length: number): void {
    const mark = readMark(view, length);
    if (!mark || mark.number > this.#tick || mark.flow >= this.order.flows.length) return;
    const at = mark.flow * this.order.maxTicks + mark.number;
    this.#fates[at] = this.#fates[at]! < 2 ? 2 : 3;
    if (mark.number === this.#tick && this.#isCanary[mark.flow]) this.#missing--;
  }
}

self.onmessage = ({ data }: MessageEvent<FloodOrder>) => {
  new FloodThread(data).run();
  self.postMessage("ended");
};
