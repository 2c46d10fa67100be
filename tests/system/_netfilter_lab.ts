import { chainLines, hashComment, ruleBody } from "../../agent/netfilter/iptables_text.ts";
import type { Chain, NetRule } from "../../agent/netfilter/model.ts";
import { ownPrefixes, ruleHashes } from "../../agent/netfilter/names.ts";
import { kernelHandles } from "./_own_netns.ts";
import type { Hook, TableName, Variant, WantedChain } from "../../kernel/netfilter/chain.ts";
import { IptablesTable, type Tools } from "../../kernel/netfilter/iptables.ts";
import { watchLegacy } from "../../kernel/netfilter/legacy_watch.ts";
import { watchNft } from "../../kernel/netfilter/nft_watch.ts";
import type { TableWatch } from "../../kernel/netfilter/table_watch.ts";
import { type Clock, systemClock } from "../../lib/clock.ts";
import type { Family } from "../../lib/ip.ts";
import { runOk } from "../../lib/process.ts";

export { kernelHandles };

/** The two variants, each test runs on both. */
export const variants: readonly Variant[] = ["legacy", "nft"];
const text = { family: 4 as Family, randomFully: true };

/** Programs of a variant by their full names. */
export function toolsOf(variant: Variant, family: Family = 4): Tools {
  const prefix = `ip${family === 6 ? "6" : ""}tables-${variant}`;
  return { variant, save: `${prefix}-save`, restore: `${prefix}-restore` };
}

/** A chain as the agent gives it. */
export function wanted(chain: Chain): WantedChain {
  return { name: chain.name, ...chainLines(chain, text) };
}

/** Our rules in a kernel chain as the agent gives them. */
export function hook(chain: string, append: boolean, rules: NetRule[]): Hook {
  const bodies = rules.map((r) => ruleBody(r, text));
  const hashes = ruleHashes(
    append ? `${chain}*appends*` : chain,
    bodies.map((body) => `-A ${chain} HASH ${body}`),
  );
  return { chain, append, hashes, lines: bodies.map((body, i) => `-A ${chain} ${hashComment(hashes[i]!)} ${body}`) };
}

/** A chain of rules written as bodies: `-s 10.0.0.1 --jump DROP`. */
export function chainOf(name: string, bodies: string[]): WantedChain {
  const hashes = ruleHashes(name, bodies.map((body) => `-A ${name} HASH ${body}`));
  return { name, hashes, lines: bodies.map((body, i) => `-A ${name} ${hashComment(hashes[i]!)} ${body}`) };
}

/** A table of the calling thread's namespace with its watch. */
export function openTable(
  variant: Variant,
  table: TableName,
  options: { family?: Family; clock?: Clock; watch?: TableWatch; tools?: Partial<Tools> } = {},
): { table: IptablesTable; watch: TableWatch } & Disposable {
  const family = options.family ?? 4, clock = options.clock ?? systemClock;
  const watch = options.watch ??
    (variant === "legacy" ? watchLegacy({ clock: systemClock }) : watchNft({ ownPrefixes }));
  const tools = { ...toolsOf(variant, family), ...options.tools };
  const made = new IptablesTable({ family, table, tools, ownPrefixes, watch, clock, random: () => 0 });
  return { table: made, watch, [Symbol.dispose]: () => watch[Symbol.dispose]() };
}

/** What the kernel has, without counters and comments. */
export async function saved(variant: Variant, table: TableName, family: Family = 4): Promise<string[]> {
  const all = await runOk(toolsOf(variant, family).save, ["-t", table]);
  return all.split("\n").filter((l) => l !== "" && !l.startsWith("#")).map((l) => l.replace(/ \[\d+:\d+\]$/, ""));
}
