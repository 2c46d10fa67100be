import type { Family } from "../../lib/ip.ts";

/** Which of the kernel's two sets of tables iptables writes into. */
export type Variant = "legacy" | "nft";

/** The tables that we write. */
export type TableName = "raw" | "mangle" | "nat" | "filter" | "security";

/** A table of one family: `4 filter`. */
export type TableKey = `${Family} ${TableName}`;

/** A chain of ours as it should be. It never changes after it was given. */
export interface WantedChain {
  readonly name: string;
  /** Whole lines for iptables-restore: `-A <name> -m comment --comment "cali:<hash>" …`. */
  readonly lines: readonly string[];
  /** The 16 characters of each line's comment. Equal hashes = equal rules. */
  readonly hashes: readonly string[];
  /**
   * Bodies of the rules that stand in while the chain cannot be written and no older version of it is there. Default:
   * everything is dropped (nat: nothing is done). An endpoint of a host gives its failsafe rules here.
   */
  readonly standIn?: readonly string[];
}

/** Our rules in a chain that is not ours, such as FORWARD. */
export interface Hook {
  readonly chain: string;
  /** At the end of the chain, else at its top. */
  readonly append: boolean;
  /** As a chain's; `-A` stands there also for those that are inserted. */
  readonly lines: readonly string[];
  readonly hashes: readonly string[];
}

/** What is known of a chain of ours in the kernel: "" stands for a rule that is not ours. */
export interface HaveChain {
  readonly hashes: readonly string[];
  /** Chains of ours that its rules lead to. */
  readonly refs: readonly string[];
}

/** One rule of a chain that is not ours; undefined = not ours, and nothing is known of it but that it is there. */
export type HookedRule = { readonly hash: string; readonly line: string } | undefined;

/**
 * A chain with the chains that it leads to; lines as in WantedChain. There are more hashes than lines when iptables makes
 * several rules of one.
 */
export interface Content extends HaveChain {
  readonly name: string;
  readonly lines: readonly string[];
}

/** Tells whether a chain's name is of those that we own. */
export const isOwnChain = (name: string, prefixes: readonly string[]): boolean =>
  prefixes.some((p) => name.startsWith(p));

/** Chains of ours that the rules lead to, each once. Quoted words are comments and log prefixes. */
export function refsOf(lines: readonly string[], prefixes: readonly string[]): string[] {
  const found = new Set<string>();
  for (const line of lines) {
    const target = targetOf(line);
    if (target !== undefined && isOwnChain(target, prefixes)) found.add(target);
  }
  return [...found];
}

/** The hashes as the kernel shows them: iptables makes a rule for each address of `--source 10.0.0.1,10.0.0.2`. */
export function kernelHashes({ lines, hashes }: WantedChain): readonly string[] {
  if (!lines.some((line) => addressList.test(line))) return hashes;
  return lines.flatMap((line, i) => {
    const lists = [...withoutQuoted(line).matchAll(new RegExp(addressList, "g"))];
    const rules = lists.reduce((n, [, list]) => n * list!.split(",").length, 1);
    return Array.from({ length: rules }, () => hashes[i]!);
  });
}

const addressList = / (?:--source|--destination|-s|-d) ([^\s,]+,\S+)/;

/** What a rule jumps or goes to: a chain or an action. */
export function targetOf(line: string): string | undefined {
  return / (?:-j|-g|--jump|--goto) (\S+)/.exec(withoutQuoted(line))?.[1];
}

const withoutQuoted = (line: string): string => line.includes('"') ? line.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""') : line;

/** The hash in a rule's comment; undefined when it has none. */
export function hashOf(line: string): string | undefined {
  const at = line.indexOf("cali:");
  return at < 0 ? undefined : /--comment "?cali:([a-zA-Z0-9_-]+)"?/.exec(line)?.[1];
}

/** Stands where a hash stands in the rules of a stand-in. */
export const standInHash = "refused_stand_in";

/** What is written instead of a chain that is refused and was never there. */
export function standInOf(name: string, table: TableName, bodies: readonly string[] | undefined): Content {
  // nat refuses DROP; nothing done there lets nothing pass.
  const rules = bodies ?? (table === "nat" ? [] : ["--jump DROP"]);
  return {
    name,
    lines: rules.map((body) => `-A ${name} -m comment --comment "cali:${standInHash}" ${body}`),
    hashes: rules.map(() => standInHash),
    refs: [],
  };
}

/** True when both have the same rules in the same order. */
export const sameHashes = (a: readonly string[], b: readonly string[]): boolean =>
  a === b || (a.length === b.length && a.every((hash, i) => hash === b[i]));
