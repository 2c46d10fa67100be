import { type Clock, systemClock } from "../../lib/clock.ts";
import type { Family } from "../../lib/ip.ts";
import { isProblem } from "../../lib/problem.ts";
import { run } from "../../lib/process.ts";
import type { TableName, Variant } from "./chain.ts";
import { IptablesTable, type Tools } from "./iptables.ts";
import type { TableWatch } from "./table_watch.ts";
import { findTools, hasLegacyTables } from "./variant.ts";

/**
 * Tables of nftables in which Calico's Felix keeps what it enforces when it does not use iptables; the last one it makes
 * beside iptables, too. Source: Calico felix/nftables, felix/dataplane/linux/int_dataplane.go.
 */
export const felixTables: readonly string[] = ["ip calico", "ip6 calico", "arp calico-arp"];

const tables: readonly TableName[] = ["raw", "mangle", "nat", "filter"];

/** Deletes those of the tables ("ip calico") that there are. @returns which; none without the program nft. */
export async function sweepNftTables(names: readonly string[]): Promise<string[]> {
  const listed = await run("nft", ["list", "tables"]).catch((error) => {
    if (isProblem(error, "unavailable")) return undefined;
    throw error;
  });
  if (!listed || listed.code !== 0) return [];
  const there = listed.stdout.split("\n").map((line) => line.replace(/^table /, "").trim());
  const found = names.filter((name) => there.includes(name));
  if (found.length === 0) return [];
  const stdin = found.map((name) => `delete table ${name}\n`).join("");
  const { code, stderr } = await run("nft", ["-f", "-"], { stdin });
  if (code !== 0) throw new Error(`nft: ${stderr.trim()}`);
  return found;
}

/**
 * Removes our chains, and our rules in others' chains, from the tables of a variant. What others have there stays.
 * @returns names of the tables that held some: "legacy ip4 filter". Nothing is loaded or made to look.
 */
export async function sweepChains(
  variant: Variant,
  ownPrefixes: readonly string[],
  clock: Clock = systemClock,
): Promise<string[]> {
  const swept: string[] = [];
  for (const family of [4, 6] as const) {
    const tools = await toolsIfThere(variant, family);
    if (!tools) continue;
    const { stdout } = await run(tools.save, [], { maxOutputBytes: 256 << 20 });
    for (const part of stdout.split(/^(?=\*)/m)) {
      const table = tables.find((t) => part.startsWith(`*${t}\n`));
      if (!table || !ownPrefixes.some((prefix) => part.includes(prefix))) continue;
      const open = new IptablesTable({ family, table, tools, ownPrefixes, watch: unwatched, clock, random: () => 0 });
      // Nothing is wanted, so all that is ours goes.
      const { failed, unread } = await open.flush();
      const why = [...failed.values(), ...unread ? [unread] : []].map((f) => f.why).join("; ");
      if (why !== "") throw new Error(`${tools.restore}, table ${table}: ${why}`);
      swept.push(`${variant} ip${family} ${table}`);
    }
  }
  return swept;
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
