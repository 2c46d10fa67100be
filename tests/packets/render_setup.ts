import { forwardEnd, hooks } from "../../agent/netfilter/static_chains.ts";
import { ruleBody } from "../../agent/netfilter/iptables_text.ts";
import type { NetfilterSettings, Table } from "../../agent/netfilter/model.ts";
import { parseIp } from "../../lib/ip.ts";
import { type ChainText, kernelChains } from "./loader.ts";
import { hasPorts, protocols } from "./packet.ts";
import type { End, Probe } from "./prober.ts";
import { addressAt, interfaceNames, type RenderNetwork } from "./render_network.ts";
import { candidates, type RuleWords, setLines, wordsOf } from "./rule_words.ts";

/** What is loaded beside a case's chains, the same for Felix's and for ours, and the packets that are sent. */
export interface Setup {
  table: Table;
  /** Rules of the table's kernel chains behind those of the case. */
  after: string[];
  sets: string[];
  /** Chains that the case's chains go to and do not have: each does what the ports of the packet say. */
  stubs: ChainText[];
  /** Rules of kernel chains, by table. */
  rules: Partial<Record<Table, string[]>>;
  /** @param network one of two that are alike. */
  probes(network: RenderNetwork): Probe[];
}

/** Which sort of chain a case has. */
export interface CaseFacts {
  kind: string;
  table: Table | "forward-append";
  settings: NetfilterSettings;
  chains: readonly ChainText[];
}

/** Set by rules behind ours in raw: the packet was not accepted before. */
const passedRaw = 1;

/** Fate of a packet at the end, told in its TOS: the marks that are left, and whether it is tracked. */
function tellTale({ marks }: NetfilterSettings): string[] {
  const bits = [[marks.accept, 4], [marks.pass, 8], [marks.drop, 16], [passedRaw, 32]] as const;
  return [
    ...bits.map(([mark, tos]) => `-A POSTROUTING -m mark --mark ${mark}/${mark} -j TOS --or-tos ${tos}`),
    "-A POSTROUTING -m conntrack --ctstate UNTRACKED -j TOS --or-tos 64",
  ];
}

/** What a stub does, by number: its destination ports are 9000 + 10 * stub + action, source ports 21000 + … */
const actionCount = 4;
const stubPorts = (stub: number, action: number): [number, number] => [
  21000 + 10 * stub + action,
  9000 + 10 * stub + action,
];

function stubLines(name: string, stub: number, table: Table, s: NetfilterSettings, has: Set<string>): string[] {
  const mark = (bit: number) => `MARK --set-mark ${bit}/${bit}`;
  const isSource = /fip-snat|nat-outgoing/.test(name);
  const actions = {
    filter: [mark(s.marks.accept), mark(s.marks.pass), "DROP", "ACCEPT"],
    raw: [mark(s.marks.accept), "NOTRACK", "DROP", "ACCEPT"],
    mangle: [mark(s.marks.accept), "DSCP --set-dscp 32", "DROP", "ACCEPT"],
    nat: ["ACCEPT", isSource ? "MASQUERADE" : "RETURN", mark(s.marks.accept), "ACCEPT"],
  }[table];
  const lines = actions.flatMap((action, i) => {
    const [source, destination] = stubPorts(stub, i);
    return [`-p tcp --sport ${source}`, `-p tcp --dport ${destination}`, `-p udp --sport ${source}`]
      .map((match) => `-A ${name} ${match} -j ${action}`);
  });
  // Tunnelled packets are welcome, so that it shows who drops them.
  if (table === "filter") {
    for (const match of ["-p 4", ...[4789, 8472].map((p) => `-p udp --dport ${p}`)]) {
      lines.push(`-A ${name} ${match} -j ${mark(s.marks.accept)}`);
    }
  }
  // Host endpoints' chains begin with failsafes and end in deny; without that failsafes would not show.
  const failsafe = /from-host-endpoint$/.test(name) ? "cali-failsafe-in" : "cali-failsafe-out";
  if (!/host-endpoint$/.test(name) || !has.has(failsafe)) return lines;
  const marked = `-A ${name} -m mark --mark ${s.marks.accept}/${s.marks.accept} -j RETURN`;
  return [
    `-A ${name} -j ${failsafe}`,
    ...lines,
    marked,
    `-A ${name} -p tcp --dport 7000 -j RETURN`,
    `-A ${name} -j DROP`,
  ];
}

/** How a case is loaded and probed. */
export function setupOf({ kind, table: of, settings, chains }: CaseFacts): Setup {
  const lines = chains.flatMap((c) => c.lines);
  const words = wordsOf(lines);
  const table = kind === "static" && of !== "forward-append" ? of : "filter";
  const has = new Set(chains.map((c) => c.name));
  const targets = new Set(lines.flatMap((l) => /--(?:jump|goto) (cali-\S+)/.exec(l)?.[1] ?? []));
  if (kind === "workload-dispatch") { for (const way of ["fw", "tw"]) targets.add(`cali-${way}-caliother`); }
  const missing = [...targets].filter((name) => !has.has(name));
  const stubs = missing.map((name, i) => ({ name, lines: stubLines(name, i, table, settings, has) }));
  const names = missing;
  const sets = setLines(words, settings.family);
  const base: Setup = {
    table,
    after: [],
    sets,
    stubs,
    rules: { mangle: tellTale(settings) },
    probes: () => [],
  };
  switch (kind) {
    case "static":
      return of === "forward-append" ? appended(base, settings) : fixed(base, names, words, settings);
    case "workload-dispatch":
      return dispatched(base, names, settings);
    default:
      return called(base, chains, names, words, settings);
  }
}

/** First TTL of packets to the chains, and of such that come with marks of an earlier chain. FORWARD sees one less. */
const cleanHops = 40, dirtyHops = 80;
/** Each lane has source ports of its own; answers are known by them. */
const lanePorts = 500;
const firstPort = (lane: number): number => 30000 + lanePorts * lane;

const hopsAre = (s: NetfilterSettings, n: number): string =>
  s.family === 4 ? `-m ttl --ttl-eq ${n}` : `-m hl --hl-eq ${n}`;

/** Chains that others jump to, each reached by its own TTL. */
function called(
  base: Setup,
  chains: readonly ChainText[],
  stubs: string[],
  words: RuleWords,
  s: NetfilterSettings,
): Setup {
  const { accept, pass, scratch0, scratch1 } = s.marks;
  const knowsFlows = (c: ChainText) => c.lines.some((l) => l.includes("ESTABLISHED"));
  const filter: string[] = [], raw: string[] = [];
  for (const [lane, chain] of chains.entries()) {
    // Accept and pass are clear when a policy is asked; nothing is known of the others, and of none before an endpoint.
    const dirt = ((knowsFlows(chain) ? accept | pass : 0) | scratch0 | scratch1) >>> 0;
    raw.push(`-A PREROUTING ${hopsAre(s, dirtyHops + lane)} -j MARK --set-mark ${dirt}/${dirt}`);
    for (const hops of [cleanHops, dirtyHops]) {
      filter.push(`-A FORWARD ${hopsAre(s, hops + lane - 1)} -j ${chain.name}`);
    }
    if (!knowsFlows(chain)) continue;
    const range = `${firstPort(lane)}:${firstPort(lane) + lanePorts - 1}`;
    filter.push(`-A FORWARD ${hopsAre(s, 63)} -p tcp --dport ${range} -j ${chain.name}`);
  }
  // Of answers, what their lane did not decide on is dropped.
  filter.push(
    `-A FORWARD ${hopsAre(s, 63)} -p tcp --dport ${firstPort(0)}:${
      firstPort(chains.length)
    } -m mark ! --mark ${accept}/${accept} -j DROP`,
  );
  const probes = (network: RenderNetwork) => {
    const from = network.ends.get("eth0")!, to = network.ends.get("srv0")!;
    return chains.flatMap((chain, lane) => {
      const limited = chain.lines.some((l) => l.includes("-m limit") && l.includes("MARK"));
      const own = stubs.flatMap((name, k) => (chain.lines.some((l) => l.endsWith(` ${name}`)) ? [k] : []));
      const frames = laneFrames(
        words,
        own,
        s,
        chain.lines.some((l) => l.includes("--jump")) ? 60 : 30,
        firstPort(lane),
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
  };
  const flows = chains.some(knowsFlows);
  return { ...base, rules: { ...base.rules, raw, filter: flows ? filter : filter.slice(0, -1) }, probes };
}

/** Frames that try every value that the rules speak of, alone and together. @param stubs numbers of those in reach. */
function laneFrames(
  words: RuleWords,
  stubs: number[],
  s: NetfilterSettings,
  count: number,
  port: number,
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

const hookLines = (table: Table, s: NetfilterSettings) =>
  hooks(table, s).filter(({ rules }) => rules[0]!.action?.is === "jump").flatMap(({ chain, rules }) =>
    rules.map((r) => `-A ${chain} ${ruleBody(r, { family: s.family, randomFully: true })}`)
  );

/** TTL of packets that an earlier table has marked as accepted, and of such with all other marks. */
const markedHops = 50, litteredHops = 52;

function premarked(s: NetfilterSettings): string[] {
  const { accept, pass, scratch0, scratch1 } = s.marks;
  const litter = (pass | scratch0 | scratch1) >>> 0;
  return kernelChains.raw.flatMap((c) => [
    `-A ${c} ${hopsAre(s, markedHops)} -j MARK --set-mark ${accept}/${accept}`,
    `-A ${c} ${hopsAre(s, litteredHops)} -j MARK --set-mark ${litter}/${litter}`,
  ]);
}

/** The two rules at the end of FORWARD. */
function appended(base: Setup, s: NetfilterSettings): Setup {
  const probes = (network: RenderNetwork) =>
    ways(network, ["cali1a", "cali1b", "eth0", "srv0"]).flatMap(([from, to]) =>
      [64, markedHops].flatMap((hops, i) =>
        [protocols.tcp, protocols.udp].map((protocol) =>
          probe(from, to, s, protocol, 80 + i, { hops, srcPort: 30000 + i })
        )
      )
    );
  // What the first rule should have accepted does not get further; the second leaves its mark.
  const after = [`-A FORWARD ${hopsAre(s, markedHops - 1)} -j DROP`];
  return { ...base, rules: { ...base.rules, raw: premarked(s) }, after, probes };
}

function probe(
  from: End,
  to: End,
  s: NetfilterSettings,
  protocol: number,
  dstPort: number,
  more: Partial<Probe["frame"]>,
): Probe {
  const icmp = protocol === 1 || protocol === 58 ? { type: s.family === 4 ? 8 : 128, code: 0 } : undefined;
  const frame = { src: from.home[s.family]!, dst: to.home[s.family]!, protocol, srcPort: 30000, dstPort, icmp };
  return { from, to, frame: { ...frame, ...more } };
}

/** Every ordered pair. */
const ways = (network: RenderNetwork, names: string[]): [End, End][] =>
  names.flatMap((a) =>
    names.filter((b) => b !== a).map((b): [End, End] => [network.ends.get(a)!, network.ends.get(b)!])
  );

/** Dispatch by interface: from and to every interface, with ports at which the chains behind it act. */
function dispatched(base: Setup, stubs: string[], s: NetfilterSettings): Setup {
  const filter = ["-A FORWARD -i cali+ -j cali-from-wl-dispatch", "-A FORWARD -o cali+ -j cali-to-wl-dispatch"];
  const names = [...interfaceNames.filter((n) => n.startsWith("cali") && n.length < 10), "srv0"];
  const probes = (network: RenderNetwork) =>
    ways(network, names).flatMap(([from, to]) => {
      const near = stubs.flatMap((
        name,
        k,
      ) => (name.endsWith(`-${from.name}`) || name.endsWith(`-${to.name}`) ? [k] : []));
      const ports = near.flatMap((k) => [0, 2, 3].map((a) => stubPorts(k, a)[1]));
      return [80, ...ports].map((port, i) => probe(from, to, s, protocols.tcp, port, { srcPort: 30000 + i }));
    });
  return { ...base, rules: { ...base.rules, filter }, probes };
}

/** The chains of a table that are always there, behind their hooks. */
function fixed(base: Setup, stubs: string[], words: RuleWords, s: NetfilterSettings): Setup {
  const rules: Setup["rules"] = { ...base.rules, raw: premarked(s) };
  rules[base.table] = [...rules[base.table] ?? [], ...hookLines(base.table, s)];
  const after: string[] = [];
  if (base.table === "mangle") rules.mangle = [...hookLines("mangle", s), ...tellTale(s)];
  if (base.table === "raw") {
    after.push(...kernelChains.raw.map((c) => `-A ${c} -j MARK --set-mark ${passedRaw}/${passedRaw}`));
  }
  if (base.table === "filter") {
    after.push(...forwardEnd(s).map((r) => `-A FORWARD ${ruleBody(r, { family: s.family, randomFully: true })}`));
    // What comes to the end of INPUT or OUTPUT undecided is told so: neither accepted nor dropped.
    const said = s.family === 4 ? "icmp-host-prohibited" : "icmp6-adm-prohibited";
    for (const c of ["INPUT", "OUTPUT"]) {
      after.push(
        `-A ${c} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
        `-A ${c} -j REJECT --reject-with ${said}`,
      );
    }
  }
  // What the host sends to one place goes to another.
  if (base.table !== "nat") {
    const [said, meant] = ["srv0", "eth0"].map((name) => addressAt(name, s.family, 2));
    rules.nat = ["tcp", "udp"].map((p) => `-A OUTPUT -p ${p} -d ${said} -j DNAT --to-destination ${meant}`);
  }
  const holds = (name: string) =>
    /hosts-net|vxlan-net/.test(name) ? "srv0" : name.endsWith("dscp-src-net") ? "cali1a" : "";
  const members = [...words.sets.keys()].filter((name) => holds(name) !== "")
    .map((name) => `add ${name} ${addressAt(holds(name), s.family, 2)}`);
  const ports = stubs.flatMap((_, k) => Array.from({ length: actionCount }, (_, a) => stubPorts(k, a)));
  const failsafes = [...words.destinationPorts, ...words.sourcePorts];
  const tcp = [...new Set([7000, 7777, 999, ...failsafes])], udp = [...new Set([999, s.vxlanPort, ...failsafes])];
  const probes = (network: RenderNetwork) =>
    fixedWays(network, s).flatMap(([from, to, src]) => {
      let next = 30000;
      const one = (protocol: number, dstPort: number, more: Partial<Probe["frame"]> = {}) =>
        probe(from, to, s, protocol, dstPort, { srcPort: next++, ...(src && { src: parseIp(src) }), ...more });
      return [
        ...tcp.map((port) => one(protocols.tcp, port)),
        ...ports.flatMap(([sport, dport]) => [one(protocols.tcp, dport), one(protocols.tcp, 7000, { srcPort: sport })]),
        ...failsafes.flatMap((srcPort) => [protocols.tcp, protocols.udp].map((p) => one(p, 998, { srcPort }))),
        ...udp.map((port) => one(protocols.udp, port)),
        one(s.family === 4 ? protocols.icmp : protocols.icmpv6, 0),
        ...(s.family === 6
          ? [130, 131, 132, 133, 134, 135, 136].map((type) => one(58, 0, { icmp: { type, code: 0 } }))
          : []),
        one(protocols.ipip, 0, { srcPort: 0 }),
        ...[markedHops, litteredHops].flatMap((hops) =>
          [80, ...ports.map(([, port]) => port)].map((port) => one(protocols.tcp, port, { hops }))
        ),
      ];
    });
  return { ...base, sets: [...base.sets, ...members], rules, after, probes };
}

/** From where to where; with a source that is not the sender's own, or another one of the host. */
function fixedWays(network: RenderNetwork, s: NetfilterSettings): [End, End, string?][] {
  const pairs: [string, string, string?][] = [
    ["cali1a", "srv0"],
    ["eth0", "cali1a"],
    ["cali1b", "cali2c"],
    ["eth0", "srv0"],
    ["cali1a", "host"],
    ["eth0", "host"],
    ["srv0", "host"],
    ["host", "cali1b"],
    ["host", "srv0"],
    ["host", "tunl0"],
    ["host", "tunl0", addressAt("tunl0", s.family, 1)],
    ["host", "vxlan.calico"],
    ["cali2c", "tunl0"],
    ["cali1a", "srv0", addressAt("cali1b", s.family, 2)],
    ["eth0", "srv0", addressAt("cali1b", s.family, 2)],
  ];
  return pairs.map(([a, b, src]) => [network.ends.get(a)!, network.ends.get(b)!, src]);
}
