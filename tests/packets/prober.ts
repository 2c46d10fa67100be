import { type Family, formatIp, type Ip, sameIp } from "../../lib/ip.ts";
import { type Frame, protocols, type Seen, sentinelProtocol, tcpFlag, writePacket } from "./packet.ts";
import type { Wire } from "./sockets.ts";

/** A place of the network that sends and receives. */
export interface End {
  name: string;
  wire: Wire;
  /** An address that routes lead to, by family; sentinels use it. */
  home: Partial<Record<Family, Ip>>;
}

/** A packet, and the places between which it should go. */
export interface Probe {
  from: End;
  to: End;
  frame: Frame;
}

/** What became of a probe. */
export interface Observation {
  /** Names of the places where it came out: one, or none when it was dropped. */
  at: string[];
  /** How it looked there: addresses and source port (as NAT left them), and TOS. */
  as?: { src: string; dst: string; tos: number; srcPort: number };
  /** What came back to the sender: "none", "reset", "echo reply", "unreachable 3", … */
  answer: string;
}

/**
 * Rules that let sentinels pass, for the top of every chain of the kernel that they go through. A sentinel goes the same
 * way as the probes before it: when it arrives the network works, and what has not arrived by then was dropped.
 */
export const sentinelRule = `-p ${sentinelProtocol} -j ACCEPT`;

/** How long a network may take for a sentinel, and for what the caller still expects. */
const sentinelDeadlineMs = 3000, lateMs = 250;

/** Sends batches of packets and tells what became of each. Numbers are never used twice, so late packets are noticed. */
export class Prober {
  #number = Math.floor(Math.random() * 0x3fffffff);
  readonly #ends: readonly End[];
  #sentinels = new Map<number, { way: string; to: End }>();
  #probes = new Map<number, { probe: Probe; observed: Observation }>();

  /**
   * @param ends every place where a packet may come out.
   * @param sentinels false where no rule lets them pass: then the caller must see that the network works.
   */
  constructor(ends: readonly End[], private readonly sentinels = true) {
    this.#ends = ends;
  }

  /**
   * Sends all probes, then sentinels, and collects until all sentinels have arrived and the caller is content, or
   * nothing more can be expected.
   * @param content true when what was observed is what was expected; else late packets are waited for.
   * @param patienceMs how long late packets are waited for.
   * @throws Error when a sentinel does not arrive: the network is broken, and nothing is known about the probes.
   */
  async measure(
    probes: readonly Probe[],
    content: (observed: Observation[]) => boolean,
    patienceMs = lateMs,
  ): Promise<Observation[]> {
    this.#collect();
    this.#probes = new Map();
    for (const probe of probes) {
      const number = this.#next();
      this.#probes.set(number, { probe, observed: { at: [], answer: "none" } });
      probe.from.wire.send(writePacket(probe.frame, number));
    }
    if (this.sentinels) this.#sendSentinels(probes);
    await this.#until(() => this.#sentinels.size === 0, sentinelDeadlineMs);
    if (this.#sentinels.size > 0) {
      const ways = [...this.#sentinels.values()].map((s) => s.way).join(", ");
      this.#sentinels.clear();
      throw new Error(`no sentinel arrived: ${ways}: the network is broken`);
    }
    const observed = () => [...this.#probes.values()].map((p) => p.observed);
    await this.#until(() => content(observed()), patienceMs);
    return observed();
  }

  #next(): number {
    return this.#number = (this.#number + 1) >>> 0;
  }

  #sendSentinels(probes: readonly Probe[]): void {
    const ways = new Map(probes.map((p) => [`${p.from.name} -> ${p.to.name} IPv${p.frame.src.v}`, p]));
    for (const [way, { from, to, frame }] of ways) {
      const family = frame.src.v, src = from.home[family], dst = to.home[family];
      if (!src || !dst) throw new Error(`${way}: an end has no address`);
      const number = this.#next();
      this.#sentinels.set(number, { way, to });
      from.wire.send(writePacket({ src, dst, protocol: sentinelProtocol, srcPort: 0, dstPort: 0 }, number));
    }
  }

  async #until(done: () => boolean, deadlineMs: number): Promise<void> {
    const end = performance.now() + deadlineMs;
    for (;;) {
      this.#collect();
      if (done() || performance.now() > end) return;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  #collect(): void {
    for (const end of this.#ends) for (const seen of end.wire.receive()) this.#take(end, seen);
  }

  #take(end: End, seen: Seen): void {
    const asked = seen.number === undefined ? undefined : this.#probes.get(seen.number)?.probe;
    // A probe may itself look like an answer: an ICMP type of those.
    const isProbe = asked !== undefined && asked.from !== end && asked.frame.icmp?.type === seen.icmp?.type;
    if (!isProbe && isAnswer(seen)) return this.#takeAnswer(end, seen);
    if (seen.number === undefined) return;
    if (seen.protocol === sentinelProtocol) {
      if (this.#sentinels.get(seen.number)?.to === end) this.#sentinels.delete(seen.number);
      return;
    }
    const observed = this.#probes.get(seen.number)?.observed;
    if (!observed) throw new Error(`a packet of an earlier batch came late to ${end.name}: ${shown(seen)}`);
    observed.at.push(end.name);
    observed.as ??= { src: formatIp(seen.src), dst: formatIp(seen.dst), tos: seen.tos, srcPort: seen.srcPort };
  }

  #takeAnswer(end: End, seen: Seen): void {
    for (const { probe, observed } of this.#probes.values()) {
      if (probe.from === end && answers(seen, probe.frame)) observed.answer = answerText(seen);
    }
  }
}

function isAnswer(seen: Seen): boolean {
  const reply = seen.src.v === 4 ? [0, 14, 16, 18] : [129, 140];
  return seen.about !== undefined || seen.protocol === protocols.tcp && (seen.tcpFlags! & tcpFlag.rst) !== 0 ||
    seen.icmp !== undefined && reply.includes(seen.icmp.type);
}

/** True when a packet that came back to a frame's sender is about it; what NAT changed is changed back there. */
function answers(seen: Seen, frame: Frame): boolean {
  if (seen.src.v !== frame.src.v) return false;
  // Some sockets do not tell addresses.
  const known = seen.dst.n !== 0n;
  if (known && !seen.about && (!sameIp(seen.dst, frame.src) || !sameIp(seen.src, frame.dst))) return false;
  const about = seen.about;
  if (about) {
    return about.protocol === frame.protocol && samePorts(about, frame) && formatIp(about.dst) === formatIp(frame.dst);
  }
  if (seen.protocol !== frame.protocol) return false;
  if (seen.icmp) return seen.srcPort === frame.srcPort;
  return seen.srcPort === frame.dstPort && seen.dstPort === frame.srcPort;
}

const samePorts = (a: Frame, b: Frame) => a.srcPort === b.srcPort && (a.icmp !== undefined || a.dstPort === b.dstPort);

function answerText(seen: Seen): string {
  if (seen.protocol === protocols.tcp) return "reset";
  const { type, code } = seen.icmp!;
  if (!seen.about) return "echo reply";
  return type === (seen.src.v === 4 ? 3 : 1) ? `unreachable ${code}` : `ICMP ${type} ${code}`;
}

/** A packet in words. */
export function shown(frame: Frame): string {
  const what = frame.icmp ? `type ${frame.icmp.type} code ${frame.icmp.code}` : `${frame.srcPort} > ${frame.dstPort}`;
  return `${formatIp(frame.src)} > ${formatIp(frame.dst)} protocol ${frame.protocol} ${what}`;
}
