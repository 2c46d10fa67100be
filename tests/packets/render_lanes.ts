import type { NetfilterSettings, Table } from "../../agent/netfilter/model.ts";
import type { ChainText } from "./loader.ts";
import { hasPorts, protocols } from "./packet.ts";
import type { Probe } from "./prober.ts";
import type { RenderNetwork } from "./render_network.ts";
import { actionCount, passed, stubPorts, tellTale } from "./render_stubs.ts";
import { candidates, type RuleWords } from "./rule_words.ts";

/** First TTL of packets to the chains, and of such that come with marks of an earlier chain. */
const cleanHops = 40, dirtyHops = 80;
/** Each lane has source ports of its own; answers are known by them. */
const lanePorts = 500;
const firstPort = (lane: number): number => 30000 + lanePorts * lane;

/** The condition that a packet has this TTL. */
export const hopsAre = (s: NetfilterSettings, n: number): string =>
  s.family === 4 ? `-m ttl --ttl-eq ${n}` : `-m hl --hl-eq ${n}`;

/** Where packets meet the chains. */
export interface Place {
  table: Table;
  chain: "PREROUTING" | "FORWARD" | "POSTROUTING";
}

/** Where each kind of case has its place; in FORWARD when it is not here. */
export const places: Record<string, Place> = {
  "host-raw": { table: "raw", chain: "PREROUTING" },
  "host-prednat": { table: "mangle", chain: "PREROUTING" },
  "host-mangle-egress": { table: "mangle", chain: "POSTROUTING" },
  "egress-dscp": { table: "mangle", chain: "POSTROUTING" },
  "fip-dnat": { table: "nat", chain: "PREROUTING" },
  "fip-snat": { table: "nat", chain: "POSTROUTING" },
  "nat-outgoing": { table: "nat", chain: "POSTROUTING" },
};
/** Where a policy is asked, and everything else that decides on forwarded packets. */
export const forwarded: Place = { table: "filter", chain: "FORWARD" };

const knowsFlows = (c: ChainText) => c.lines.some((l) => l.includes("ESTABLISHED"));
const isEndpoints = (c: ChainText) => /^cali-(tw|fw|th|fh)/.test(c.name);

/** Rules that lead packets into the chains, each chain reached by its own TTL, and the packets. */
export function lanes(
  place: Place,
  chains: readonly ChainText[],
  stubs: string[],
  words: RuleWords,
  s: NetfilterSettings,
): {
  rules: Partial<Record<Table, string[]>>;
  probes(network: RenderNetwork): Probe[];
} {
  const lost = place.chain === "PREROUTING" ? 0 : 1;
  const dirt: string[] = [], own: string[] = [];
  for (const [lane, chain] of chains.entries()) {
    const bits = dirtOf(chain, s);
    dirt.push(`-A PREROUTING ${hopsAre(s, dirtyHops + lane)} -j MARK --set-mark ${bits}/${bits}`);
    for (const hops of [cleanHops, dirtyHops]) {
      own.push(`-A ${place.chain} ${hopsAre(s, hops + lane - lost)} -j ${chain.name}`);
    }
    if (!knowsFlows(chain)) continue;
    own.push(`-A ${place.chain} ${hopsAre(s, 64 - lost)} -p tcp --dport ${portsOf(lane, lane)} -j ${chain.name}`);
  }
  own.push(...undecided(place, chains, s));
  const rules: Partial<Record<Table, string[]>> = { raw: dirt, mangle: tellTale(s) };
  rules[place.table] = place.table === "mangle" ? [...own, ...tellTale(s)] : [...rules[place.table] ?? [], ...own];
  return { rules, probes: (network) => laneProbes(network, place, chains, stubs, words, s) };
}

const portsOf = (first: number, last: number): string => `${firstPort(first)}:${firstPort(last + 1) - 1}`;

/** Accept and pass are clear when a policy is asked; nothing is known of the others, and of none before an endpoint. */
function dirtOf(chain: ChainText, { marks }: NetfilterSettings): number {
  return ((isEndpoints(chain) ? marks.accept | marks.pass : 0) | marks.scratch0 | marks.scratch1) >>> 0;
}

/** What becomes of packets on which their lane did not decide. Of answers, those are dropped. */
function undecided({ chain, table }: Place, chains: readonly ChainText[], s: NetfilterSettings): string[] {
  const early = chain === "PREROUTING" && table !== "nat";
  const rules: string[] = [];
  if (chains.some(knowsFlows)) {
    const { accept } = s.marks;
    const answers = `-A ${chain} ${hopsAre(s, chain === "PREROUTING" ? 64 : 63)} -p tcp --dport ${
      portsOf(0, chains.length - 1)
    }`;
    rules.push(early ? `${answers} -j DROP` : `${answers} -m mark ! --mark ${accept}/${accept} -j DROP`);
  }
  return early ? [...rules, `-A ${chain} -j MARK --set-mark ${passed}/${passed}`] : rules;
}

function laneProbes(
  network: RenderNetwork,
  place: Place,
  chains: readonly ChainText[],
  stubs: string[],
  words: RuleWords,
  s: NetfilterSettings,
): Probe[] {
  const from = network.ends.get("eth0")!, to = network.ends.get("srv0")!;
  return chains.flatMap((chain, lane) => {
    const limited = chain.lines.some((l) => l.includes("-m limit") && l.includes("MARK"));
    const own = stubs.flatMap((name, k) => (chain.lines.some((l) => l.endsWith(` ${name}`)) ? [k] : []));
    const count = chain.lines.some((l) => l.includes("--jump")) ? 60 : 30;
    const frames = laneFrames(
      words,
      own,
      s,
      count,
      firstPort(lane),
      place.table === "nat" || words.sources.length > 0 && place.table === "mangle",
    );
    return frames.slice(0, limited ? 18 : undefined).flatMap((frame, i): Probe[] => {
      const probe = (first: number, srcPort: number) => ({
        from,
        to,
        frame: { ...frame, srcPort, hops: first + lane },
      });
      const { srcPort } = frame, ownPort = srcPort >= firstPort(lane) && !limited;
      // A second packet with a source port that matters would belong to the first one's flow.
      if (!ownPort) return [probe(i % 2 === 0 ? cleanHops : dirtyHops, srcPort)];
      return [probe(cleanHops, srcPort), probe(dirtyHops, srcPort + lanePorts / 2)];
    });
  });
}

/** Frames that try every value that the rules speak of, alone and together. @param stubs numbers of those in reach; @param pairs: every source with every destination, by TCP and UDP. */
function laneFrames(
  words: RuleWords,
  stubs: number[],
  s: NetfilterSettings,
  count: number,
  port: number,
  pairs: boolean,
): Probe["frame"][] {
  const c = candidates(words, s.family);
  let state = port;
  const pick = <T>(list: readonly T[]): T => {
    state = Math.imul(state, 1664525) + 1013904223 >>> 0;
    return list[Math.floor(state / 2 ** 32 * list.length)]!;
  };
  const icmpProtocol = s.family === 4 ? protocols.icmp : protocols.icmpv6;
  const frames: Probe["frame"][] = [];
  const add = (f: Partial<Probe["frame"]>) => {
    const protocol = f.protocol ?? pick(c.protocols);
    const icmp = protocol === icmpProtocol ? f.icmp ?? pick(c.icmp) : undefined;
    const srcPort = protocol === 99 || protocol === 4
      ? 0
      : c.sourcePorts.length > 0 && pick([0, 1])
      ? pick(c.sourcePorts)
      : port++;
    const dstPort = hasPorts(protocol) ? pick(c.destinationPorts) : 0;
    frames.push({ src: pick(c.sources), dst: pick(c.destinations), srcPort, dstPort, ...f, protocol, icmp });
  };
  const withPorts = c.protocols.filter(hasPorts);
  const actions = stubs.flatMap((k) => Array.from({ length: actionCount }, (_, a) => stubPorts(k, a)));
  if (actions.length > 0) {
    // What connection tracking calls invalid, and tunnelled packets: for chains that would else accept them.
    for (const [, dstPort] of actions) add({ protocol: protocols.tcp, dstPort, srcPort: port++, tcpFlags: 3 });
    for (const dstPort of [4789, 8472, 53]) add({ protocol: protocols.udp, dstPort, srcPort: port++ });
    for (let i = 0; i < 3; i++) add({ protocol: protocols.ipip });
  }
  for (const [, dstPort] of actions) {
    for (const _ of [1, 2, 3]) add({ protocol: protocols.tcp, dstPort, srcPort: port++ });
  }
  for (const [srcPort] of actions) {
    for (const _ of [1, 2, 3]) add({ protocol: protocols.tcp, dstPort: pick(actions)[1], srcPort });
  }
  for (const protocol of c.protocols) add({ protocol });
  for (const icmp of c.icmp) add({ protocol: icmpProtocol, icmp });
  for (const protocol of withPorts) for (const dstPort of words.destinationPorts) add({ protocol, dstPort });
  for (const { source, destination, sourcePort, destinationPort } of c.members) {
    for (const src of [source, ...c.sources]) {
      for (const dst of [destination, c.destinations[0]!]) {
        add({ protocol: protocols.tcp, src, dst, dstPort: destinationPort });
      }
      add({ protocol: protocols.tcp, src, dst: destination });
    }
    add({ protocol: protocols.tcp, src: source, srcPort: sourcePort });
  }
  if (pairs) {
    for (const src of c.sources) {
      for (const dst of c.destinations) {
        for (const protocol of [protocols.tcp, protocols.udp]) add({ src, dst, protocol });
      }
    }
  }
  for (const src of c.sources) add({ src });
  for (const dst of c.destinations) add({ dst });
  while (frames.length < count) add({});
  return withoutRepeats(frames);
}

function withoutRepeats(frames: Probe["frame"][]): Probe["frame"][] {
  const seen = new Set<string>();
  return frames.filter((f) => {
    const key = [f.src.n, f.dst.n, f.protocol, f.srcPort, f.icmp ? "" : f.dstPort].join();
    return seen.size < seen.add(key).size;
  });
}
