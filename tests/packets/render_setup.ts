import { forwardEnd, hooks } from "../../agent/netfilter/static_chains.ts";
import { ruleBody } from "../../agent/netfilter/iptables_text.ts";
import type { NetfilterSettings, Table } from "../../agent/netfilter/model.ts";
import { parseIp } from "../../lib/ip.ts";
import { type ChainText, kernelChains } from "./loader.ts";
import { protocols } from "./packet.ts";
import type { End, Probe } from "./prober.ts";
import { forwarded, hopsAre, lanes, places } from "./render_lanes.ts";
import { addressAt, interfaceNames, type RenderNetwork } from "./render_network.ts";
import { actionCount, passed, stubLines, stubPorts, tellTale } from "./render_stubs.ts";
import { type RuleWords, setLines, wordsOf } from "./rule_words.ts";

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

/** How a case is loaded and probed. */
export function setupOf({ kind, table: of, settings, chains }: CaseFacts): Setup {
  const lines = chains.flatMap((c) => c.lines);
  const words = wordsOf(lines);
  const place = places[kind] ?? forwarded;
  const table = kind === "static" && of !== "forward-append" ? of : place.table;
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
    case "host-dispatch":
      return hostDispatched(base, names, settings);
    default:
      return { ...base, ...lanes(place, chains, names, words, settings) };
  }
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
    waysBetween(network, ["cali1a", "cali1b", "eth0", "srv0"]).flatMap(([from, to]) =>
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
const waysBetween = (network: RenderNetwork, names: string[]): [End, End][] =>
  names.flatMap((a) =>
    names.filter((b) => b !== a).map((b): [End, End] => [network.ends.get(a)!, network.ends.get(b)!])
  );

/** Dispatch by interface: from and to every interface, with ports at which the chains behind it act. */
function dispatched(base: Setup, stubs: string[], s: NetfilterSettings): Setup {
  const filter = ["-A FORWARD -i cali+ -j cali-from-wl-dispatch", "-A FORWARD -o cali+ -j cali-to-wl-dispatch"];
  const names = [...interfaceNames.filter((n) => n.startsWith("cali") && n.length < 10), "srv0"];
  const probes = (network: RenderNetwork) =>
    waysBetween(network, names).flatMap(([from, to]) => {
      const near = stubs.flatMap((
        name,
        k,
      ) => (name.endsWith(`-${from.name}`) || name.endsWith(`-${to.name}`) ? [k] : []));
      const ports = near.flatMap((k) => [0, 2, 3].map((a) => stubPorts(k, a)[1]));
      return [80, ...ports].map((port, i) => probe(from, to, s, protocols.tcp, port, { srcPort: 30000 + i }));
    });
  return { ...base, rules: { ...base.rules, filter }, probes };
}

/** Dispatch of host endpoints, by interface: what comes to the host, leaves it, and is forwarded. */
function hostDispatched(base: Setup, stubs: string[], s: NetfilterSettings): Setup {
  const { accept } = s.marks;
  const ways = [["INPUT", "from-host-endpoint"], ["OUTPUT", "to-host-endpoint"], ["FORWARD", "from-hep-forward"]];
  const filter = [...ways, ["FORWARD", "to-hep-forward"]].map(([chain, to]) => `-A ${chain} -j cali-${to}`);
  const after = ["INPUT", "OUTPUT"].flatMap((chain) => [
    `-A ${chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    `-A ${chain} -m mark --mark ${accept}/${accept} -j ACCEPT`,
    `-A ${chain} -j REJECT --reject-with icmp-host-prohibited`,
  ]);
  const ports = stubs.flatMap((_, k) => Array.from({ length: actionCount }, (_, a) => stubPorts(k, a)[1]));
  const probes = (network: RenderNetwork) =>
    waysBetween(network, ["eth0", "eth1", "srv0", "host"]).flatMap(([from, to]) =>
      [80, ...ports].map((port, i) => probe(from, to, s, protocols.tcp, port, { srcPort: 30000 + i }))
    );
  return { ...base, rules: { ...base.rules, filter }, after, probes };
}

/** The chains of a table that are always there, behind their hooks. */
function fixed(base: Setup, stubs: string[], words: RuleWords, s: NetfilterSettings): Setup {
  const rules: Setup["rules"] = { ...base.rules, raw: premarked(s) };
  rules[base.table] = [...rules[base.table] ?? [], ...hookLines(base.table, s)];
  const after: string[] = [];
  if (base.table === "mangle") rules.mangle = [...hookLines("mangle", s), ...tellTale(s)];
  if (base.table === "raw") {
    after.push(...kernelChains.raw.map((c) => `-A ${c} -j MARK --set-mark ${passed}/${passed}`));
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
