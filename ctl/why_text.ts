import { formatIp } from "../lib/ip.ts";
import { explain } from "../agent/why/explanation.ts";
import type { Stage } from "../agent/why/node_walk.ts";
import { type LiveCounts, liveDecision, liveWords } from "./live_counts.ts";
import { type Answer, type Party, partyName, type Question } from "../agent/why/path.ts";
import { deciderWords, reasons, stageName, trafficName } from "../agent/why/words.ts";
import type { World } from "../agent/why/world.ts";

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

const verdictWord = ({ verdict }: Stage): string => (verdict === "continue" ? "not decided, goes on" : verdict);
