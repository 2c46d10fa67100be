import type { Clock } from "../../lib/clock.ts";
import { formatIp } from "../../lib/ip.ts";
import type { Logger } from "../../lib/log.ts";
import { messageOf } from "../../lib/problem.ts";
import { Wake } from "../../lib/wake.ts";
import type { LoggedBatch, LoggedPacket } from "../../kernel/netfilter/nflog.ts";
import type { DropReason } from "../netfilter/drop_logs.ts";
import { Watcher } from "./_watcher.ts";
import { readPacket } from "./packet.ts";
import type { Drop, DropReport } from "./report.ts";

/** What it works with. */
export interface DropsOptions {
  node: string;
  /** See Policy in agent/policy.ts. */
  policy: { logDrops(on: boolean): Promise<void>; dropReasons(): Map<string, DropReason> };
  /** Packets of our NFLOG group; see loggedPackets(). */
  packets: (signal: AbortSignal) => AsyncIterable<LoggedBatch>;
  /** undefined when there is no such interface. */
  interfaceName: (index: number) => string | undefined;
  clock: Clock;
  log: Logger;
}

/** The rules stay so long after the last watcher has gone: who looks again at once finds them there. */
const lingerMs = 3_000;
/** A watcher who reads nothing for so long, not even that there is nothing, has gone or hangs. */
const stuckMs = 60_000;
const hooks = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/** Rules that tell are in the kernel, or on their way. */
interface Session {
  ready: Promise<void>;
  done: Promise<void>;
  /** The rules are being taken away. */
  closing: boolean;
}

/**
 * What this node drops, told to whoever watches. Only then are there rules that tell; without a watcher nothing is done for
 * a packet, and nobody listens.
 */
export class Drops implements AsyncDisposable {
  readonly #options: DropsOptions;
  readonly #stop = new AbortController();
  readonly #watchers = new Set<Watcher>();
  readonly #wake: Wake;
  readonly #names = new Map<number, string>();
  #session: Session | undefined;
  #leftAtMs = 0;

  constructor(options: DropsOptions) {
    this.#options = options;
    this.#wake = new Wake(options.clock);
  }

  /**
   * Drops from now on: `watching` first, once the kernel tells; an empty list each second of silence. Ends with the signal.
   * @param forMs the longest time; then `end` comes. @throws Problem "unsupported", "exists", "not-ready" or "kernel" when
   * the kernel cannot tell.
   */
  async *watch(signal: AbortSignal, forMs: number): AsyncGenerator<DropReport[]> {
    const { clock, node } = this.#options;
    const over = new AbortController();
    const until = AbortSignal.any([signal, this.#stop.signal, over.signal]);
    await this.#open();
    const watcher = new Watcher(clock);
    this.#watchers.add(watcher);
    try {
      // Also when nobody takes what is yielded: the rules must not outlive the time asked for.
      clock.sleep(forMs, until).then(() => this.#leave(watcher, over), () => {});
      yield [{ is: "watching", node }];
      while (!until.aborted && this.#watchers.has(watcher)) yield await watcher.next(1_000, until);
      const why = until.aborted ? "the agent stops" : "nothing was read for a minute";
      yield [{ is: "end", why: over.signal.aborted ? "the time asked for is over" : why }];
    } finally {
      this.#leave(watcher, over);
    }
  }

  #leave(watcher: Watcher, over: AbortController): void {
    over.abort(new Error("the time asked for is over"));
    if (!this.#watchers.delete(watcher)) return;
    this.#leftAtMs = this.#options.clock.monotonicMs();
    this.#wake.call();
  }

  /** Ends all watching; the rules that tell go. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("nobody watches any more"));
    this.#wake.call();
    await this.#session?.done;
  }

  async #open(): Promise<void> {
    while (this.#session?.closing) await this.#session.done;
    if (!this.#session) {
      const ready = Promise.withResolvers<void>();
      ready.promise.catch(() => {}); // who watches waits for it, unless he has gone
      const session: Session = { ready: ready.promise, closing: false, done: Promise.resolve() };
      this.#session = session;
      session.done = this.#run(session, ready).finally(() => this.#session = undefined);
    }
    await this.#session.ready;
  }

  async #run(session: Session, ready: PromiseWithResolvers<void>): Promise<void> {
    const { policy, log } = this.#options;
    const stop = new AbortController();
    const listening = Promise.withResolvers<void>();
    const reading = this.#read(stop.signal, listening.resolve);
    reading.catch(() => {}); // awaited below
    try {
      await Promise.race([listening.promise, reading]);
      await policy.logDrops(true);
      log.info("drops are watched");
      this.#leftAtMs = this.#options.clock.monotonicMs(); // who waits is there in a moment
      ready.resolve();
      await Promise.race([reading, this.#unwatched()]);
    } catch (error) {
      ready.reject(error);
      for (const watcher of this.#watchers) watcher.fail(error);
    } finally {
      session.closing = true;
      await policy.logDrops(false).catch((error) =>
        log.warn("rules for watching stay for now", { why: messageOf(error) })
      );
      stop.abort();
      await reading.catch((error) => log.warn("drops cannot be watched", { why: messageOf(error) }));
      this.#names.clear();
    }
  }

  /** Resolves when nobody has watched for a while. */
  async #unwatched(): Promise<void> {
    const { clock } = this.#options, { signal } = this.#stop;
    while (!signal.aborted) {
      for (const watcher of this.#watchers) if (watcher.idleMs > stuckMs) this.#watchers.delete(watcher);
      if (this.#watchers.size === 0 && clock.monotonicMs() >= this.#leftAtMs + lingerMs) return;
      await this.#wake.sleep(lingerMs, signal);
    }
  }

  async #read(signal: AbortSignal, listening: () => void): Promise<void> {
    for await (const { packets, lost } of this.#options.packets(signal)) {
      listening();
      const drops = this.#dropsIn(packets);
      if (drops.length + lost === 0) continue;
      for (const watcher of this.#watchers) watcher.push(drops, lost);
    }
  }

  /** Equal ones as one, in the order of their first. */
  #dropsIn(packets: readonly LoggedPacket[]): Drop[] {
    if (packets.length === 0) return [];
    const reasons = this.#options.policy.dropReasons();
    const time = new Date(this.#options.clock.now()).toISOString();
    const found = new Map<string, Drop>();
    for (const packet of packets) {
      const drop = this.#dropOf(packet, reasons, time);
      if (!drop) continue;
      const key = JSON.stringify({ ...drop, sourcePort: 0 }), known = found.get(key);
      if (known) known.packets++;
      else found.set(key, drop);
    }
    return [...found.values()];
  }

  #dropOf(logged: LoggedPacket, reasons: Map<string, DropReason>, time: string): Drop | undefined {
    const packet = readPacket(logged.family, logged.bytes);
    if (!packet) return undefined;
    const { src, dst, protocol, srcPort, dstPort, icmp, flags } = packet;
    // A rule that has changed since: its prefix is all that is known.
    const { decider, direction } = reasons.get(logged.prefix) ??
      { decider: { by: "another rule", words: logged.prefix } as const, direction: "ingress" as const };
    return {
      ...{ is: "drop", time, node: this.#options.node, direction, decider, hook: hooks[logged.hook] ?? "" },
      ...{ in: this.#nameOf(logged.inIndex), out: this.#nameOf(logged.outIndex) },
      ...{ source: formatIp(src), destination: formatIp(dst), protocol },
      ...{ sourcePort: srcPort, destinationPort: dstPort, icmp, flags, packets: 1 },
    };
  }

  #nameOf(index: number | undefined): string | undefined {
    if (index === undefined) return undefined;
    const known = this.#names.get(index) ?? this.#options.interfaceName(index) ?? `interface ${index}`;
    this.#names.set(index, known);
    return known;
  }
}
