import type { Decider } from "../calc/verdict.ts";
import type { Direction } from "../desired_policy.ts";
import type { Chain, Decision, Match, NetRule } from "./model.ts";
import { logPrefix, parsePolicyId, policySuffix } from "./names.ts";

/** NFLOG group of what is dropped. Not 1 and 2, which are those of Calico's flow logs: a group has one listener. */
export const dropGroup = 29_745;

/** A flood shall cost the kernel, and who watches, no more than this a second and rule. */
const limit: Match = { is: "limit", rate: "25/second", burst: 50 };

/** Why a packet is dropped: a decision of policy, or another rule of ours in its own words. */
export type DropReason = Decision | { decider: { by: "another rule"; words: string }; direction: Direction };

/** The chain with an NFLOG line before each one that drops or rejects, for the same packets, as many as `limit` lets through. */
export function withDropLogs(chain: Chain): Chain {
  if (!chain.rules.some(drops)) return chain;
  const rules = chain.rules.flatMap((rule) => {
    if (!drops(rule)) return [rule];
    const prefix = dropPrefix(reasonOf(rule, chain.name));
    const told: NetRule = { match: [...rule.match, limit], action: { is: "nflog", group: dropGroup, prefix } };
    return [told, rule];
  });
  return { name: chain.name, rules };
}

/** What the prefixes of a chain's NFLOG lines mean. */
export function dropReasons({ name, rules }: Chain): [prefix: string, DropReason][] {
  return rules.filter(drops).map((rule) => reasonOf(rule, name)).map((reason) => [dropPrefix(reason), reason]);
}

const drops = ({ action }: NetRule): boolean => action?.is === "drop" || action?.is === "reject";

function reasonOf({ decides, comments, match }: NetRule, chain: string): DropReason {
  if (decides) return decides;
  return { decider: { by: "another rule", words: comments?.[0] ?? matchWords(match) }, direction: directionOf(chain) };
}

/** Lines of ours that drop and have no comment. */
function matchWords(match: Match[]): string {
  if (match.some((m) => m.is === "spoofed")) return "Drop packets whose source address is not of the workload";
  if (match.some((m) => m.is === "connection")) return "Drop what belongs to no connection and begins none";
  return "Drop";
}

/** As the endpoint, or the host, sees it that the chain is about. */
const directionOf = (chain: string): Direction =>
  /^cali-(from-wl|fw-|PREROUTING|OUTPUT|th-|thfw-|to-h)/.test(chain) ? "egress" : "ingress";

/** Calico's prefix for decisions of policy; `X` and the direction for other rules. At most 63 bytes without spaces. */
export function dropPrefix(reason: DropReason): string {
  const { decider, direction } = reason;
  if (decider.by === "another rule") {
    return `X${direction === "ingress" ? "I" : "E"}|${decider.words.replaceAll(/[^\w./:@+=~-]/g, "_")}`.slice(0, 63);
  }
  return logPrefix(loggedVerdict(decider), direction);
}

function loggedVerdict(decider: Decider): Parameters<typeof logPrefix>[0] {
  if (decider.by === "tier") return { by: "tier", tier: decider.tier };
  if (decider.by !== "rule") return { by: "no profile" };
  const { kind, namespace, name } = parsePolicyId(decider.policy);
  const isProfile = kind === "Profile";
  return {
    ...{ by: "rule", action: "deny", index: decider.index, owner: isProfile ? "profile" : "policy" },
    id: isProfile ? name : policySuffix({ kind, namespace, name }),
  };
}
