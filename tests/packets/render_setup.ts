import { forwardEnd, hooks } from "../../agent/netfilter/static_chains.ts";
import { ruleBody } from "../../agent/netfilter/iptables_text.ts";
import type { NetfilterSettings, Table } from "../../agent/netfilter/model.ts";
import { parseIp } from "../../lib/ip.ts";
import { type ChainText, kernelChains } from "./loader.ts";
import { protocols } from "./packet.ts";
import type { End, Probe } from "./prober.ts";
import { addressAt, interfaceNames, type RenderNetwork } from "./render_network.ts";
import { candidates, type RuleWords, setLines, wordsOf } from "./rule_words.ts";

/** What is loaded beside a case's chains, the same for Felix's and for ours, and the packets that are sent. */
export interface Setup {
  table: Table;
  /** FORWARD for what nobody decided on. */
  forward: "ACCEPT" | "DROP";
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

/** Fate of a packet at the end, told in its TOS: the marks that are left, and whether it is tracked. */
function tellTale({ marks }: NetfilterSettings): string[] {
  const bits = [[marks.accept, 4], [marks.pass, 8], [marks.drop, 16]] as const;
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
  const actions = {
    filter: [mark(s.marks.accept), mark(s.marks.pass), "DROP", "ACCEPT"],
    raw: [mark(s.marks.accept), "NOTRACK", "DROP", "ACCEPT"],
    mangle: [mark(s.marks.accept), "DSCP --set-dscp 32", "DROP", "ACCEPT"],
    nat: ["ACCEPT", "RETURN", mark(s.marks.accept), "ACCEPT"],
  }[table];
  const lines = actions.flatMap((action, i) => {
    const [source, destination] = stubPorts(stub, i);
    return [`--sport ${source}`, `--dport ${destination}`].map((port) => `-A ${name} -p tcp ${port} -j ${action}`);
  });
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
    forward: "ACCEPT",
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

/** Chains that others jump to, each reached by its own TTL; FORWARD sees one less than was sent. */
function called(
  base: Setup,
  chains: readonly ChainText[],
  stubs: string[],
  words: RuleWords,
  s: NetfilterSettings,
): Setup {
  const hops = (i: number) => 40 + i;
  const eq = (n: number) => (s.family === 4 ? `-m ttl --ttl-eq ${n}` : `-m hl --hl-eq ${n}`);
  const lanes = chains.map((c, i) => `-A FORWARD ${eq(hops(i) - 1)} -j ${c.name}`);
  // Answers, whose TTL is 64, come back through the first chain when it is one that knows connections.
  const first = chains.find((c) => c.lines.some((l) => l.includes("ESTABLISHED")));
  if (first) lanes.push(`-A FORWARD ${eq(63)} -j ${first.name}`);
  const probes = (network: RenderNetwork) => {
    const from = network.ends.get("eth0")!, to = network.ends.get("srv0")!;
    return chains.flatMap((chain, lane) => {
      const limited = chain.lines.some((l) => l.includes("-m limit") && l.includes("MARK"));
      return sampled(words, stubs, s, chain.lines.some((l) => l.includes("--jump")) ? 60 : 30, lane).slice(
        0,
        limited ? 18 : undefined,
      )
        .map((frame) => ({ from, to, frame: { ...frame, hops: hops(lane) } }));
    });
  };
  return { ...base, rules: { ...base.rules, filter: lanes }, probes };
}

/** Frames that try every value of every part at least once, and many together. */
function sampled(
  words: RuleWords,
  stubs: string[],
  s: NetfilterSettings,
  count: number,
  lane: number,
): Probe["frame"][] {
  const c = candidates(words, s.family);
  const stubActions = stubs.flatMap((_, k) => Array.from({ length: actionCount }, (_, a) => stubPorts(k, a)));
  let state = 12345 + lane;
  const pick = <T>(list: readonly T[]): T => {
    state = Math.imul(state, 1664525) + 1013904223 >>> 0;
    return list[Math.floor(state / 2 ** 32 * list.length)]!;
  };
  const turn = <T>(list: readonly T[], i: number): T => (i < list.length ? list[i]! : pick(list));
  const frames: Probe["frame"][] = [];
  const least = Math.max(c.sources.length, c.destinations.length, c.destinationPorts.length, 2 * c.icmp.length);
  for (let i = 0; i < Math.max(count, 2 * least, 2 * stubActions.length); i++) {
    const odd = i % 2 === 1, at = i >> 1;
    const protocol = odd
      ? pick(c.protocols.filter((p) => p === 6 || p === 17 || pick([0, 1]) === 1)) ?? 6
      : turn(c.protocols, at);
    const icmp = protocol === 1 || protocol === 58 ? turn(c.icmp, at >> 1) : undefined;
    const frame = {
      src: turn(c.sources, odd ? at : 99),
      dst: odd ? pick(c.destinations) : turn(c.destinations, at),
      protocol,
      srcPort: 30000 + 200 * lane + i,
      dstPort: protocol === 99 || icmp ? 0 : turn(c.destinationPorts, at),
      icmp,
    };
    if (c.sourcePorts.length > 0 && pick([0, 1]) === 1) frame.srcPort = pick(c.sourcePorts);
    // With stubs, what they do decides: one of them, or two together.
    if (stubActions.length > 0 && i < 2 * stubActions.length) {
      const [one, other] = [stubActions[at]!, pick(stubActions)];
      Object.assign(frame, { protocol: protocols.tcp, icmp: undefined, dstPort: one[1] });
      if (odd) frame.srcPort = other[0];
    }
    frames.push(frame);
  }
  if (stubs.length > 0) {
    // What connection tracking calls invalid, and tunnelled packets.
    const plain = { src: c.sources[0]!, dst: c.destinations[0]!, srcPort: 30199 + 200 * lane };
    frames.unshift(
      { ...plain, protocol: protocols.tcp, dstPort: stubActions[0]![1], tcpFlags: 3 },
      ...[4789, 8472, 53].map((dstPort, i) => ({
        ...plain,
        srcPort: plain.srcPort - i,
        protocol: protocols.udp,
        dstPort,
      })),
      { ...plain, protocol: protocols.ipip, srcPort: 0, dstPort: 0 },
    );
  }
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

/** TTL of packets that an earlier table has marked as accepted. */
const markedHops = 50;

function premarked(s: NetfilterSettings): string[] {
  const eq = s.family === 4 ? `-m ttl --ttl-eq ${markedHops}` : `-m hl --hl-eq ${markedHops}`;
  return kernelChains.raw.map((c) => `-A ${c} ${eq} -j MARK --set-mark ${s.marks.accept}/${s.marks.accept}`);
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
  return { ...base, forward: "DROP", rules: { ...base.rules, raw: premarked(s) }, probes };
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
  if (base.table === "mangle") rules.mangle = [...hookLines("mangle", s), ...tellTale(s)];
  if (base.table === "filter") {
    rules.filter = [
      ...hookLines("filter", s),
      ...forwardEnd(s).map((r) => `-A FORWARD ${ruleBody(r, { family: s.family, randomFully: true })}`),
    ];
  }
  // Some packets of the host itself are translated.
  if (base.table !== "nat") rules.nat = ["-A OUTPUT -p tcp --dport 7777 -j DNAT --to-destination :7778"];
  const members = [...words.sets.keys()].flatMap((name) =>
    (name.includes("net") || name.includes("pools")) && words.sets.get(name)!.withPorts === false
      ? [`add ${name} ${addressAt("srv0", s.family, 2)}`]
      : []
  );
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
        ...failsafes.map((port) => one(protocols.tcp, 998, { srcPort: port })),
        ...udp.map((port) => one(protocols.udp, port)),
        one(s.family === 4 ? protocols.icmp : protocols.icmpv6, 0),
        ...(s.family === 6 ? [130, 133, 134, 135].map((type) => one(58, 0, { icmp: { type, code: 0 } })) : []),
        one(protocols.ipip, 0, { srcPort: 0 }),
        ...[80, ...ports.slice(0, actionCount).map(([, p]) => p)].map((p) =>
          one(protocols.tcp, p, { hops: markedHops })
        ),
      ];
    });
  return { ...base, sets: [...base.sets, ...members], rules, probes };
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
