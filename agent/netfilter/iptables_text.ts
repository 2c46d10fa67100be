import type { Family } from "../../lib/ip.ts";
import type { PortRange } from "../desired_policy.ts";
import type { Action, Chain, Match, NetRule, Side } from "./model.ts";
import { ruleHashes, setName } from "./names.ts";

/** What the text of a rule depends on besides the rule. */
export interface TextOptions {
  family: Family;
  /** iptables 1.6.2 and later know `--random-fully` (SNAT 1.6.0). */
  randomFully: boolean;
}

/** Longest comment that iptables takes, in bytes. */
const maxComment = 256;

/**
 * A chain as lines for iptables-restore, each with its hash, and the hashes. The text is Felix's to the letter, so that
 * rules which Felix wrote are recognised as already right.
 */
export function chainLines(chain: Chain, options: TextOptions): { lines: string[]; hashes: string[] } {
  const bodies = chain.rules.map((r) => ruleBody(r, options));
  const hashes = ruleHashes(chain.name, bodies.map((body) => joined("-A", chain.name, "HASH", body)));
  const lines = bodies.map((body, i) => joined("-A", chain.name, hashComment(hashes[i]!), body));
  return { lines, hashes };
}

/** The comment that carries a rule's hash. */
export const hashComment = (hash: string): string => `-m comment --comment "cali:${hash}"`;

/** Comments, matches and action of a rule, without chain and hash. */
export function ruleBody(r: NetRule, options: TextOptions): string {
  const comments = (r.comments ?? []).map((text) => `-m comment --comment "${commentText(text)}"`);
  const matches = r.match.map((m) => (matchText[m.is] as (m: Match, o: TextOptions) => string)(m, options));
  return joined(...comments, ...matches, r.action ? actionText(r.action, options) : "");
}

function commentText(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9_ @%+=:,./-]/g, "_").slice(0, maxComment);
}

/** Text for between quotes: configuration may say anything. */
const quotable = (text: string): string => text.replaceAll(/["\\]|\p{Cc}/gu, "_");
/** Text for a place without quotes. */
const unquotable = (text: string): string => text.replaceAll(/["'\\\s]|\p{Cc}/gu, "_");

const joined = (...parts: string[]): string => parts.filter((p) => p !== "").join(" ");
const not = (m: { not?: boolean }): string => (m.not ? "! " : "");
const hex = (n: number): string => (n === 0 ? "0" : `0x${n.toString(16)}`);
const direction = (side: Side): string => (side === "source" ? "src" : "dst");
const portText = (p: PortRange): string => (p.min === p.max ? String(p.min) : `${p.min}:${p.max}`);

type Texts = { [K in Match["is"]]: (m: Extract<Match, { is: K }>, o: TextOptions) => string };

const matchText: Texts = {
  protocol: (m) => `${not(m)}-p ${m.protocol}`,
  net: (m) => `${not(m)}--${m.side} ${m.net}`,
  set(m, o) {
    const way = direction(m.side);
    return `-m set ${not(m)}--match-set ${setName(m.set, o.family)} ${m.port ? `${way},${way}` : way}`;
  },
  ports: (m) => `-m multiport ${not(m)}--${m.side}-ports ${m.ports.map(portText).join(",")}`,
  icmp(m, o) {
    const code = m.code === undefined ? "" : `/${m.code}`;
    const [module, option] = o.family === 4 ? ["icmp", "icmp-type"] : ["icmp6", "icmpv6-type"];
    return `-m ${module} ${not(m)}--${option} ${m.type}${code}`;
  },
  mark: (m) => `-m mark ${not(m)}--mark ${hex(m.value)}/${hex(m.mask)}`,
  interface: (m) => `--${m.direction}-interface ${m.name}`,
  connection: (m) => `-m conntrack ${not(m)}--ctstate ${m.states.join(",")}`,
  local(m) {
    const type = m.side === "source" ? "src" : "dst";
    return `-m addrtype ${not(m)}--${type}-type LOCAL${m.throughOut ? " --limit-iface-out" : ""}`;
  },
  spoofed: () => "-m rpfilter --invert --validmark",
  limit: (m) => `-m limit --limit ${m.rate} --limit-burst ${m.burst}`,
};

function actionText(a: Action, o: TextOptions): string {
  const random = o.randomFully ? " --random-fully" : "";
  const toPorts = (p: PortRange | undefined) => (p ? `${p.min}-${p.max}` : "");
  switch (a.is) {
    case "jump":
    case "goto":
      return `--${a.is} ${a.chain}`;
    case "mark":
      // Felix writes a mask that sets nothing as 0x0 here and as 0 where it clears; the hashes depend on it.
      return `--jump MARK --set-mark 0x${a.value.toString(16)}/0x${a.mask.toString(16)}`;
    case "clear":
      return `--jump MARK --set-mark 0/0x${a.mask.toString(16)}`;
    case "log":
      return `--jump LOG --log-prefix "${quotable(a.prefix)}" --log-level 5`;
    case "nflog":
      return `--jump NFLOG --nflog-group ${a.group} --nflog-prefix ${unquotable(a.prefix)} --nflog-size 80`;
    case "masquerade":
      return `--jump MASQUERADE${a.ports ? ` --to-ports ${toPorts(a.ports)}` : ""}${random}`;
    case "snat":
      return `--jump SNAT --to-source ${a.to}${a.ports ? `:${toPorts(a.ports)}` : ""}${random}`;
    case "dnat":
      return `--jump DNAT --to-destination ${a.to}`;
    case "dscp":
      return `--jump DSCP --set-dscp ${a.value}`;
    case "limit connections":
      return "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m connlimit " +
        `--connlimit-above ${a.above} --connlimit-mask 0 -j REJECT --reject-with tcp-reset`;
    default:
      return `--jump ${a.is.toUpperCase()}`;
  }
}
