import type { Namespace } from "../lab/namespaces.ts";

/** What Felix works through. */
export type Backend = "legacy" | "nft" | "nftables";

/** Rules, sets and tables of a host, as text. */
export interface Rules {
  /** `iptables-save`, `ip6tables-save`: without counters, dates and empty tables. */
  iptables: string;
  ip6tables: string;
  /** `ipset save`: without what differs each time. */
  ipset: string;
  /** Calico's own tables of nftables. */
  nft: string;
}

const tables = ["raw", "mangle", "nat", "filter"];

/** Reads what is enforced on a host. */
export async function readRules(host: Namespace, backend: Backend): Promise<Rules> {
  const variant = backend === "nft" ? "nft" : "legacy";
  const saved = async (program: string) => {
    const parts = await Promise.all(tables.map((t) => host.runOk(`${program}-${variant}-save`, ["-t", t])));
    return parts.map(withoutCounters).filter((part) => /^-A|cali-/m.test(part)).join("");
  };
  const sets = (await host.runOk("ipset", ["save"])).split("\n").filter((line) => line !== "");
  return {
    iptables: await saved("iptables"),
    ip6tables: await saved("ip6tables"),
    ipset: sortedSets(sets.map((line) => line.replace(/ (hashsize|bucketsize|initval) \S+/g, ""))),
    nft: await calicoTables(host),
  };
}

const withoutCounters = (text: string): string =>
  text.split("\n").filter((l) => l !== "" && !l.startsWith("#")).map((l) => l.replace(/ ?\[\d+:\d+\]$/, "") + "\n")
    .join("");

/** Sets before members, each in the order of names. */
function sortedSets(lines: string[]): string {
  const [makes, members] = [lines.filter((l) => l.startsWith("create")), lines.filter((l) => !l.startsWith("create"))];
  return [...makes.sort(), ...members.sort()].map((l) => `${l}\n`).join("");
}

async function calicoTables(host: Namespace): Promise<string> {
  const names = (await host.runOk("nft", ["list", "tables"])).split("\n").filter((l) => / calico(-arp)?$/.test(l));
  const all = await Promise.all(names.map((line) => host.runOk("nft", ["list", ...line.split(" ")])));
  return all.join("").replace(/counter packets \d+ bytes \d+/g, "counter packets 0 bytes 0");
}

/** Loads rules that were read, into a host that has none. */
export async function loadRules(host: Namespace, backend: Backend, rules: Rules): Promise<void> {
  const variant = backend === "nft" ? "nft" : "legacy";
  if (rules.ipset !== "") await host.runOk("ipset", ["restore"], { stdin: rules.ipset });
  for (const program of ["iptables", "ip6tables"] as const) {
    const stdin = rules[program];
    if (stdin !== "") await host.runOk(`${program}-${variant}-restore`, [], { stdin });
  }
  if (rules.nft !== "") await host.runOk("nft", ["-f", "-"], { stdin: rules.nft });
}

const folder = new URL("../golden/felix/", import.meta.url);
const files = { iptables: "iptables-save", ip6tables: "ip6tables-save", ipset: "ipset-save", nft: "nft" } as const;

/** What a Felix was recorded with. */
export function recordedRules(backend: Backend): Rules {
  const entries = Object.entries(files).map(([part, name]) => {
    const url = new URL(`${backend === "nftables" ? "nftables" : "iptables"}/${name}`, folder);
    return [part, Deno.readTextFileSync(url)];
  });
  return Object.fromEntries(entries);
}

/** Keeps rules for recordedRules(). */
export function recordRules(backend: Backend, rules: Rules): void {
  const url = new URL(`${backend === "nftables" ? "nftables" : "iptables"}/`, folder);
  Deno.mkdirSync(url, { recursive: true });
  for (const [part, name] of Object.entries(files)) {
    Deno.writeTextFileSync(new URL(name, url), rules[part as keyof Rules]);
  }
}

/**
 * Lines that only one of them has, "- " before those of the first. Hashes are left out, as each depends on all rules before
 * it. A chain of which only the order differs is told as a whole.
 */
export function differences(a: Rules, b: Rules): string[] {
  const found: string[] = [];
  for (const part of ["iptables", "ip6tables"] as const) {
    const [left, right] = [a[part], b[part]].map((text) => Map.groupBy(text.split("\n").map(withoutHash), chainOf));
    for (const chain of new Set([...left!.keys(), ...right!.keys()])) {
      const [l, r] = [left!.get(chain) ?? [], right!.get(chain) ?? []];
      const [gone, come] = [minus(l, r), minus(r, l)];
      found.push(...gone.map((line) => `- ${part} ${line}`), ...come.map((line) => `+ ${part} ${line}`));
      if (minus(l, gone).join("\n") !== minus(r, come).join("\n")) found.push(`order of ${part} ${chain}`);
    }
  }
  for (const part of ["ipset", "nft"] as const) {
    const [l, r] = [a[part], b[part]].map((text) => text.split("\n"));
    found.push(
      ...minus(l!, r!).map((line) => `- ${part} ${line}`),
      ...minus(r!, l!).map((line) => `+ ${part} ${line}`),
    );
  }
  return found;
}

const withoutHash = (line: string): string => line.replace(/"cali:[\w-]{16}"/, '"cali:#"');

/** A list without the lines of another, each of which takes one away; order stays. */
function minus(list: readonly string[], other: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const line of other) left.set(line, (left.get(line) ?? 0) + 1);
  return list.filter((line) => {
    const n = left.get(line) ?? 0;
    left.set(line, n - 1);
    return n <= 0;
  });
}

/** Chain that a line of iptables-save belongs to; tables follow one another, so that names alone would not do. */
const chainOf = (line: string): string => /^(?:-A |:)(\S+)/.exec(line)?.[1] ?? "";
