import type { Family } from "../../lib/ip.ts";
import type { Direction, PolicyId, RuleAction } from "../desired_policy.ts";
import { chainLines } from "./iptables_text.ts";
import type { Chain, Decision, NetRule, Table } from "./model.ts";
import { chainPrefixes } from "./names.ts";
import type { PlacedChain } from "./owned_chains.ts";

/** What one line of a chain has counted, and the hash it was written with. */
export interface LineCount {
  packets: number;
  bytes: number;
  hash: string | undefined;
}

/** The kernel's lines by family, table and chain. */
export type KernelCounts = ReadonlyMap<Family, ReadonlyMap<Table, ReadonlyMap<string, readonly LineCount[]>>>;

/** How often something was decided in one place. */
export interface DecisionCount extends Decision {
  family: Family;
  table: Table;
  chain: string;
  /** Whose chain it is; undefined for chains that endpoints share: those of policies and profiles. */
  interfaceName: string | undefined;
  /** The line is in the kernel as it is wanted. */
  inKernel: boolean;
  packets: number;
  bytes: number;
}

/** Packets of a workload's interface, of both families: what it was sent, and what it sent. */
export interface InterfaceCount {
  interfaceName: string;
  to: { packets: number; bytes: number };
  from: { packets: number; bytes: number };
}

/** What the kernel counted, in the words of policy. Lines begin at 0 when they are written anew. */
export interface NodeCounts {
  decisions: DecisionCount[];
  interfaces: InterfaceCount[];
}

/** Holds the kernel's counters against the chains that are wanted. */
export function nodeCounts(chains: Iterable<PlacedChain>, kernel: KernelCounts): NodeCounts {
  const decisions: DecisionCount[] = [];
  const interfaces = new Map<string, InterfaceCount>();
  for (const { family, table, chain } of chains) {
    const lines = kernel.get(family)?.get(table)?.get(chain.name) ?? [];
    decisions.push(...decided({ family, table, chain }, lines));
    if (table === "filter" && /^cali-(from|to)-wl-dispatch/.test(chain.name)) countInterfaces(chain, lines, interfaces);
  }
  return { decisions, interfaces: [...interfaces.values()] };
}

function decided({ family, table, chain }: PlacedChain, lines: readonly LineCount[]): DecisionCount[] {
  if (!chain.rules.some((r) => r.decides)) return [];
  const { hashes } = chainLines(chain, { family, randomFully: true });
  const counted = new Set<Decision>();
  return chain.rules.flatMap(({ decides }, at) => {
    if (!decides || counted.has(decides)) return [];
    counted.add(decides);
    const line = lines[at], inKernel = line?.hash === hashes[at];
    const { packets, bytes } = line && inKernel ? line : none;
    const interfaceName = interfaceOf(chain.name);
    return [{ ...decides, family, table, chain: chain.name, interfaceName, inKernel, packets, bytes }];
  });
}

const none = { packets: 0, bytes: 0 };

const endpointPrefixes = [chainPrefixes.workload, chainPrefixes.hostForward, chainPrefixes.host]
  .flatMap(({ to, from }) => [to, from]);

function interfaceOf(chain: string): string | undefined {
  const prefix = endpointPrefixes.find((p) => chain.startsWith(p));
  return prefix && chain.slice(prefix.length);
}

/** Every packet of a workload goes once through the line that leads to its chain. */
function countInterfaces(chain: Chain, lines: readonly LineCount[], into: Map<string, InterfaceCount>): void {
  for (const [at, rule] of chain.rules.entries()) {
    const end = workloadOf(rule), line = lines[at];
    if (!end || !line) continue;
    const { name, way } = end;
    const known = into.get(name) ?? { interfaceName: name, to: { ...none }, from: { ...none } };
    known[way].packets += line.packets;
    known[way].bytes += line.bytes;
    into.set(name, known);
  }
}

/** The workload to whose chain a dispatch line leads; undefined for one that leads to further dispatch lines. */
function workloadOf({ match, action }: NetRule): { name: string; way: "to" | "from" } | undefined {
  const [only] = match;
  if (only?.is !== "interface" || action?.is !== "goto") return undefined;
  const way = only.direction === "out" ? "to" : "from";
  return action.chain === `${chainPrefixes.workload[way]}${only.name}` ? { name: only.name, way } : undefined;
}

/** What one rule of a policy or profile has matched on this node, in all tables and families. */
export interface RuleTotal {
  policy: PolicyId;
  direction: Direction;
  /** Counted from 0. */
  rule: number;
  action: RuleAction;
  packets: number;
  bytes: number;
  /** In every place where it is wanted. */
  inKernel: boolean;
}

/** Totals of all rules that this node has, by policy, in their order. */
export function ruleTotals(decisions: readonly DecisionCount[]): Map<PolicyId, RuleTotal[]> {
  const totals = new Map<string, RuleTotal>();
  for (const { decider, direction, action, packets, bytes, inKernel } of decisions) {
    if (decider.by !== "rule") continue;
    const { policy, index } = decider, key = `${policy} ${direction} ${index}`;
    const known = totals.get(key) ?? { policy, direction, rule: index, action, ...none, inKernel: true };
    known.packets += packets;
    known.bytes += bytes;
    known.inKernel &&= inKernel;
    totals.set(key, known);
  }
  const inOrder = [...totals.values()].sort((a, b) =>
    a.policy !== b.policy
      ? (a.policy < b.policy ? -1 : 1)
      : a.direction !== b.direction
      ? (a.direction === "ingress" ? -1 : 1)
      : a.rule - b.rule
  );
  return Map.groupBy(inOrder, (t) => t.policy);
}
