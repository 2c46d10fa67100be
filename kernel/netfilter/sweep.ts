import { type Clock, systemClock } from "../../lib/clock.ts";
import type { Family } from "../../lib/ip.ts";
import { isProblem } from "../../lib/problem.ts";
import { run } from "../../lib/process.ts";
import type { TableName, Variant } from "./chain.ts";
import { IptablesTable, type Tools } from "./iptables.ts";
import type { TableWatch } from "./table_watch.ts";
import { findTools, hasLegacyTables, legacyTables } from "./variant.ts";

/**
 * Tables of nftables in which Calico's Felix keeps what it enforces when it does not use iptables; the last one it makes
 * beside iptables, too. Source: Calico felix/nftables, felix/dataplane/linux/int_dataplane.go.
 */
export const felixTables: readonly string[] = ["ip calico", "ip6 calico", "arp calico-arp"];

const tables: readonly TableName[] = ["raw", "mangle", "nat", "filter", "security"];

/**
 * Deletes those of the tables ("ip calico") that there are. In two transactions: first no packet is led into them any more.
 * In one, a packet that is under way finds the elements of a map gone and the rule behind it, which drops, still there.
 * @returns which; none without the program nft.
 */
export async function sweepNftTables(names: readonly string[]): Promise<string[]> {
  const listed = await run("nft", ["list", "chains"]).catch((error) => {
    if (isProblem(error, "unavailable")) return undefined;
    throw error;
  });
  if (!listed || listed.code !== 0) return [];
  const parts = listed.stdout.split(/^table /m).slice(1).map((text) => ({
    name: text.slice(0, text.indexOf(" {")),
    text,
  }));
  const found = parts.filter(({ name }) => names.includes(name));
  if (found.length === 0) return [];
  const hooked = found.flatMap(({ name, text }) =>
    [...text.matchAll(/^\s*chain (\S+) .\s*type \S+ hook/gm)].map((m) => `flush chain ${name} ${m[1]}\n`)
  );
  for (const lines of [hooked, found.map(({ name }) => `delete table ${name}\n`)]) {
    const { code, stderr } = await run("nft", ["-f", "-"], { stdin: lines.join("") });
    if (code !== 0) throw new Error(`nft: ${stderr.trim()}`);
  }
  return found.map(({ name }) => name);
}

/** A table of a family and variant that holds something of ours. */
export interface HeldTable {
  variant: Variant;
  family: Family;
  table: TableName;
  tools: Tools;
}

/**
 * The tables of a variant that hold chains of ours, or rules that lead to such. Nothing is loaded or made to look.
 * @param only one table to look at; default all.
 */
export async function heldTables(
  variant: Variant,
  ownPrefixes: readonly string[],
  only?: TableName,
): Promise<HeldTable[]> {
  const held: HeldTable[] = [];
  for (const family of [4, 6] as const) {
    const tools = await toolsIfThere(variant, family);
    if (!tools || (only && variant === "legacy" && !legacyTables(family).includes(only))) continue;
    const { stdout } = await run(tools.save, only ? ["-t", only] : [], { maxOutputBytes: 256 << 20 });
    for (const part of stdout.split(/^(?=\*)/m)) {
      const table = tables.find((t) => part.startsWith(`*${t}\n`));
      if (table && ownPrefixes.some((prefix) => part.includes(prefix))) held.push({ variant, family, table, tools });
    }
  }
  return held;
}

/** `legacy ip4 filter`. */
export const tableText = ({ variant, family, table }: HeldTable): string => `${variant} ip${family} ${table}`;

/** Removes our chains, and our rules in others' chains, from a table. What others have there stays. */
export async function sweepTable(
  { family, table, tools }: HeldTable,
  ownPrefixes: readonly string[],
  clock: Clock = systemClock,
): Promise<void> {
  // Nothing is wanted, so all that is ours goes.
  const open = new IptablesTable({ family, table, tools, ownPrefixes, watch: unwatched, clock, random: () => 0 });
  const { failed, unread } = await open.flush();
  const why = [...failed.values(), ...unread ? [unread] : []].map((f) => f.why).join("; ");
  if (why !== "") throw new Error(`${tools.restore}, table ${table}: ${why}`);
}

async function toolsIfThere(variant: Variant, family: Family): Promise<Tools | undefined> {
  if (variant === "legacy" && !hasLegacyTables(family)) return undefined;
  return await findTools(variant, family).catch(() => undefined); // not installed: then nobody wrote by it
}

/** For a table that is read once and left. */
const unwatched: TableWatch = {
  foreign: () => 0,
  begin() {},
  end() {},
  async *changes() {},
  [Symbol.dispose]() {},
};
