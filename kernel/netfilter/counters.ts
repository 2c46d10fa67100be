import { Problem } from "../../lib/problem.ts";
import { run } from "../../lib/process.ts";
import { hashOf, type TableName } from "./chain.ts";
import type { Tools } from "./iptables.ts";

/** What a rule has counted since it was written, and the hash in its comment. */
export interface RuleCount {
  packets: number;
  bytes: number;
  /** undefined = the rule is not ours. */
  hash: string | undefined;
}

/** Counted rules of a table by chain, in their order. */
export type TableCounts = Map<string, RuleCount[]>;

const maxSaveBytes = 256 << 20;

/**
 * All tables' counters of a family, by one `iptables-save -c`. The kernel is not disturbed: nothing is locked, and nothing set
 * back. A rule that is written anew begins at 0.
 * @throws Problem "kernel" when the program fails.
 */
export async function readCounters({ save }: Tools): Promise<Map<TableName, TableCounts>> {
  const { code, stdout, stderr } = await run(save, ["-c"], { maxOutputBytes: maxSaveBytes });
  if (code !== 0) throw new Problem({ code: "kernel", what: `counters cannot be read: ${stderr.trim()}`, where: save });
  return parseCounters(stdout);
}

/** What `iptables-save -c` printed: `[3:180] -A cali-FORWARD …`. Lines that cannot be read are left out. */
export function parseCounters(text: string): Map<TableName, TableCounts> {
  const tables = new Map<TableName, TableCounts>();
  let chains: TableCounts = new Map();
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) tables.set(line.slice(1) as TableName, chains = new Map());
    const rule = /^\[(\d+):(\d+)\] -A (\S+)/.exec(line);
    if (!rule) continue;
    const [, packets, bytes, chain] = rule as unknown as [string, string, string, string];
    const counts = chains.get(chain) ?? [];
    chains.set(chain, counts);
    counts.push({ packets: Number(packets), bytes: Number(bytes), hash: hashOf(line) });
  }
  return tables;
}
