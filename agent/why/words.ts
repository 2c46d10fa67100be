import type { Explanation } from "./explanation.ts";
import type { Stage, StageDecider } from "./node_walk.ts";
import type { Question } from "./path.ts";

/** Rules of one stage that are told in full before the rest is only counted. */
const toldInFull = 12;

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
