import { isObject, type Json, parseJson } from "../../../lib/json64.ts";
import { isProblem, Problem } from "../../../lib/problem.ts";
import { run } from "../../../lib/process.ts";
import type { Variant } from "../../../kernel/netfilter/chain.ts";
import { felixTables } from "../../../kernel/netfilter/sweep.ts";
import { findProgram, findTools, hasLegacyTables } from "../../../kernel/netfilter/variant.ts";
import type { ChainFact, FirewallFacts } from "../facts.ts";

/** Tables that iptables-nft makes. */
const iptablesTables = /^(ip|ip6|arp|bridge) (filter|nat|mangle|raw|security|broute)$/;

/** Both variants of iptables, and nftables' own tables. @throws Problem "unauthorized" for who may not see them. */
export async function lookAtFirewall(): Promise<FirewallFacts> {
  const [nft, legacy, foreign] = await Promise.all([savedChains("nft"), savedChains("legacy"), foreignChains()]);
  return { tables: { nft, legacy }, foreign };
}

/** Chains of the filter table; none of a variant that is not installed. */
async function savedChains(variant: Variant): Promise<Map<string, ChainFact>> {
  // Asking would load the legacy modules into a kernel that does without them.
  if (variant === "legacy" && !hasLegacyTables(4)) return new Map();
  try {
    const { save } = await findTools(variant, 4);
    const { code, stdout, stderr } = await run(save, ["-t", "filter"], { maxOutputBytes: 256 << 20 });
    if (code !== 0) throw new Problem({ code: "unauthorized", what: stderr.trim(), where: save, todo: "Run as root" });
    return chainsIn(stdout);
  } catch (error) {
    if (isProblem(error, "unsupported")) return new Map();
    throw error;
  }
}

/** The kernel's own chains in what `iptables-save -t filter` printed. */
export function chainsIn(text: string): Map<string, ChainFact> {
  const chains = new Map<string, { policy: string; rules: string[] }>();
  for (const line of text.split("\n")) {
    const [, name, policy] = /^:(\S+) ([A-Z]+) /.exec(line) ?? [];
    if (name) chains.set(`4 filter ${name}`, { policy: policy!, rules: [] });
    else if (line.startsWith("-A ")) chains.get(`4 filter ${line.split(" ", 2)[1]}`)?.rules.push(line);
  }
  return chains;
}

async function foreignChains(): Promise<FirewallFacts["foreign"]> {
  if (!findProgram("nft")) return [];
  const found: FirewallFacts["foreign"][number][] = [];
  for (const chain of objectsOf(await nftJson("list", "chains"), "chain")) {
    const table = `${chain.family} ${chain.table}`;
    if (chain.hook !== "forward" || iptablesTables.test(table) || felixTables.includes(table)) continue;
    const drops = chain.policy === "drop" ? "policy drop" : await dropIn(`${table} ${chain.name}`);
    if (drops) found.push({ table, chain: String(chain.name), hook: String(chain.hook), drops });
  }
  return found;
}

/** The rule of a chain that drops or rejects whatever gets to it. */
async function dropIn(chain: string): Promise<string | undefined> {
  for (const { expr } of objectsOf(await nftJson("list", "chain", ...chain.split(" ")), "rule")) {
    const parts = Array.isArray(expr) ? expr.filter(isObject).map((part) => Object.keys(part)[0]!) : [];
    const rest = parts.filter((part) => part !== "counter" && part !== "log");
    if (rest.length === 1 && (rest[0] === "drop" || rest[0] === "reject")) return `rule ${rest[0]}`;
  }
  return undefined;
}

async function nftJson(...words: string[]): Promise<Json> {
  const { code, stdout, stderr } = await run("nft", ["-j", ...words]);
  if (code !== 0) throw new Problem({ code: "unauthorized", what: stderr.trim(), where: "nft", todo: "Run as root" });
  return parseJson(stdout);
}

function objectsOf(answer: Json, what: string): Record<string, Json>[] {
  const list = isObject(answer) && Array.isArray(answer.nftables) ? answer.nftables.filter(isObject) : [];
  return list.map((item) => item[what]).filter(isObject);
}
