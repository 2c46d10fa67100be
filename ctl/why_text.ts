import { formatIp } from "../lib/ip.ts";
import { explain, type Explanation } from "../agent/why/explanation.ts";
import type { Stage, StageDecider } from "../agent/why/node_walk.ts";
import { type LiveCounts, liveDecision, liveWords } from "./live_counts.ts";
import { type Answer, type Party, partyName, type Question } from "../agent/why/path.ts";
import type { World } from "../agent/why/world.ts";

/** Rules of one stage that are told in full before the rest is only counted. */
const toldInFull = 12;

/** What the rules of this host have counted, and what they had before; absent where no agent runs. */
export interface CountersSeen {
  now?: LiveCounts;
  before?: LiveCounts;
}

/** The answer of `why` for people. @param live holds the prediction against the kernel's rules. */
export function answerText(world: World, question: Question, answer: Answer, live: CountersSeen = {}): string {
  const { packet, stages, verdict, assumed } = answer;
  const end = (party: Party, address: string) => party.is === "outside" ? address : `${partyName(party)} (${address})`;
  const head = `${end(question.from, formatIp(packet.src))} -> ${end(question.to, formatIp(packet.dst))} ${
    trafficName(question)
  }`;
  const lines = [`${head}: ${verdict === "allow" ? "ALLOWED" : "DENIED"}`, ""];
  for (const [i, stage] of stages.entries()) {
    lines.push(`${i + 1}. on ${stage.node}, ${stageName(stage)}: ${verdictWord(stage)}`);
    lines.push(...reasons(stage, explain(world, stage)).map((line) => `   ${line}`));
    const now = liveDecision(live.now, stage);
    if (now) lines.push(`   live: ${liveWords(now, liveDecision(live.before, stage))}`);
  }
  if (stages.length === 0) lines.push("no policy is asked");
  for (const sentence of assumed) lines.push("", `assumed: ${sentence}`);
  return lines.join("\n") + "\n";
}

/** The same for programs. */
export function answerJson(
  world: World,
  question: Question,
  answer: Answer,
  live: CountersSeen = {},
): Record<string, unknown> {
  const { packet, stages, verdict, assumed } = answer;
  return {
    verdict,
    packet: {
      ...{ source: formatIp(packet.src), destination: formatIp(packet.dst), protocol: packet.protocol },
      ...(packet.icmp ? { icmp: packet.icmp } : { sourcePort: packet.srcPort, destinationPort: packet.dstPort }),
    },
    from: partyName(question.from),
    to: partyName(question.to),
    hops: stages.map((stage) => {
      const { because, passedOver, tier, policy, rule } = explain(world, stage);
      const { node, at, direction, endpoint, interfaceName, decider, verdict, logged } = stage;
      return {
        ...{ node, at, direction, endpoint, interface: interfaceName, verdict, decidedBy: decider.by },
        ...{ tier, policy, rule, because, passedOver, logged },
        detail: deciderWords(decider),
        live: liveDecision(live.now, stage),
        liveBefore: liveDecision(live.before, stage),
      };
    }),
    assumed,
  };
}

/** `TCP 80`, `ICMP type 8`, `protocol 47`. */
export function trafficName({ protocol, dstPort, icmp }: Pick<Question, "protocol" | "dstPort" | "icmp">): string {
  if (icmp) return `ICMP type ${icmp.type}`;
  const name = { 6: "TCP", 17: "UDP", 132: "SCTP", 136: "UDPLite" }[protocol];
  return name ? `${name} ${dstPort}` : `protocol ${protocol}`;
}

/** Whose chain a stage is, and which one. */
export function stageName({ at, direction, endpoint, interfaceName }: Stage): string {
  if (at === "host") return `the host itself, ${direction}${interfaceName ? ` at ${interfaceName}` : ""}`;
  const kind = at === "normal" ? "" : `${at} policy, `;
  return `${kind}${direction} of ${endpoint}${interfaceName ? ` (${interfaceName})` : ""}`;
}

const verdictWord = ({ verdict }: Stage): string => (verdict === "continue" ? "not decided, goes on" : verdict);

/** Who decided and why, a line each. */
export function reasons(stage: Stage, { because, passedOver }: Explanation): string[] {
  const shown = passedOver.slice(0, toldInFull), more = passedOver.length - shown.length;
  return [
    deciderWords(stage.decider),
    ...because.map((b) => `- ${b}`),
    ...shown.map((p) => `  passed over: ${p.policy}${p.rule === undefined ? "" : ` rule ${p.rule}`}: ${p.why}`),
    ...(more > 0 ? [`  and ${more} more rules`] : []),
    ...stage.logged.map((l) => `  logged by ${l.policy} rule ${l.index}`),
  ];
}

/** Who decided, in words. Rules are counted from 0, as in the object. */
export function deciderWords(d: StageDecider): string {
  switch (d.by) {
    case "rule":
      return d.tier === undefined
        ? `decided by rule ${d.index} of ${d.policy}`
        : `decided in tier ${d.tier} by rule ${d.index} of ${d.policy}`;
    case "tier":
      return `decided by the end of tier ${d.tier}: policies of it apply, and none of their rules matches`;
    case "failsafe": {
      const answer = d.answer ? ", as an answer from it" : "";
      return `failsafe port ${d.protocol} ${d.port}${d.net ? ` for ${d.net}` : ""}${answer}`;
    }
    case "DefaultEndpointToHostAction":
      return `DefaultEndpointToHostAction is ${d.action}`;
    case "service loop prevention":
      return `service loop prevention for ${d.cidr}`;
    case "no profile matched":
      return "no policy applies, and no profile's rule matches: the end is deny";
    case "no forward policy":
      return "no policy with applyOnForward applies: the end is allow";
    default:
      return d.by;
  }
}
