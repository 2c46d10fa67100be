import { type DecisionCount, type NodeCounts, type RuleTotal, ruleTotals } from "../agent/netfilter/decision_counts.ts";
import { anyInterface, chainName, chainPrefixes } from "../agent/netfilter/names.ts";
import type { Stage } from "../agent/why/node_walk.ts";
import type { Column, Kind } from "../datastore/kind.ts";
import type { Json } from "../lib/json64.ts";
import { isProblem } from "../lib/problem.ts";
import type { Surroundings } from "./surroundings.ts";

/** What the agent of this host answers about its rules. */
export interface LiveCounts extends NodeCounts {
  node: string;
  /** Of the datastore, as far as the agent has taken it in. */
  revision: Json;
}

/** Asks the agent of this host. @returns undefined when none runs here, or, with a warning, when it cannot tell. */
export async function liveCounts({ agent, err }: Surroundings): Promise<LiveCounts | undefined> {
  try {
    return await (await agent?.())?.get("/v1/counters") as unknown as LiveCounts | undefined;
  } catch (error) {
    if (!isProblem(error)) throw error;
    err(`warning: what the rules have counted cannot be read: ${error.message}\n`);
    return undefined;
  }
}

/** The kernel's part of a predicted decision. */
export interface LiveDecision {
  /** Every line that stands for it is there as it is wanted; false also when there is none. */
  inKernel: boolean;
  packets: number;
  bytes: number;
}

/**
 * What the kernel says of the decision that ends a stage; undefined for another node's, and for what is no line of policy's.
 */
export function liveDecision(counts: LiveCounts | undefined, stage: Stage): LiveDecision | undefined {
  const { decider, node } = stage;
  if (!counts || counts.node !== node || !["rule", "tier", "no profile matched"].includes(decider.by)) return undefined;
  const lines = counts.decisions.filter((d) => isOf(d, stage));
  return {
    inKernel: lines.length > 0 && lines.every((d) => d.inKernel),
    packets: lines.reduce((n, d) => n + d.packets, 0),
    bytes: lines.reduce((n, d) => n + d.bytes, 0),
  };
}

function isOf(d: DecisionCount, stage: Stage): boolean {
  const { decider, direction, packet, at } = stage;
  const table = at === "untracked" ? "raw" : at === "preDNAT" ? "mangle" : "filter";
  if (d.family !== packet.src.v || d.table !== table || d.direction !== direction) return false;
  if (decider.by === "rule") {
    return d.decider.by === "rule" && d.decider.policy === decider.policy && d.decider.index === decider.index;
  }
  const same = decider.by === "tier"
    ? d.decider.by === "tier" && d.decider.tier === decider.tier
    : d.decider.by === decider.by;
  return same && chainsOf(stage).includes(d.chain);
}

/** The chains of a stage's endpoint. A host sees directions the other way round: what comes to it comes *from* an interface. */
function chainsOf({ endpoint, interfaceName = "", at, direction }: Stage): string[] {
  const isHost = endpoint?.startsWith("HostEndpoint:") === true;
  const { workload, host, hostForward } = chainPrefixes;
  const prefixes = !isHost ? workload : at === "forward" ? hostForward : host;
  const prefix = (direction === "ingress") === isHost ? prefixes.from : prefixes.to;
  return [interfaceName, ...(isHost ? [anyInterface] : [])].map((name) => chainName(prefix, name));
}

/** `the line is in the kernel of this host and has counted 12 packets, 720 bytes`. @param before as it was asked earlier. */
export function liveWords(now: LiveDecision, before?: LiveDecision): string {
  if (!now.inKernel) return "the kernel of this host does not have this line as it is wanted: see node status";
  const packets = `${now.packets} ${now.packets === 1 ? "packet" : "packets"}`;
  const so = `the line is in the kernel of this host and has counted ${packets}, ${now.bytes} bytes`;
  return before ? `${so}; ${now.packets - before.packets} of them while we watched` : so;
}

/** The kind with columns of what its rules have counted on this host, for the wide table. */
export function withCounts(kind: Kind, counts: LiveCounts): Kind {
  const totals = ruleTotals(counts.decisions);
  const of = (resource: { metadata: { name: string; namespace?: string } }): RuleTotal[] => {
    const { name, namespace } = resource.metadata;
    return totals.get(`${kind.kind}:${namespace ? `${namespace}/` : ""}${name}`) ?? [];
  };
  const columns: Column[] = [
    { head: "PACKETS BY RULE", only: "wide", value: (r) => ruleWords(of(r)) },
    {
      head: "BYTES",
      only: "wide",
      value: (r) => (of(r).length === 0 ? "" : `${of(r).reduce((n, t) => n + t.bytes, 0)}`),
    },
  ];
  return { ...kind, columns: [...kind.columns, ...columns] };
}

/** `in 0:12 1:0 out 0:3`; empty when no endpoint of this host has the policy. */
function ruleWords(totals: readonly RuleTotal[]): string {
  const words = (direction: string, short: string) => {
    const rules = totals.filter((t) => t.direction === direction);
    return rules.length === 0 ? [] : [short, ...rules.map((t) => `${t.rule}:${t.packets}${t.inKernel ? "" : "?"}`)];
  };
  return [...words("ingress", "in"), ...words("egress", "out")].join(" ");
}
