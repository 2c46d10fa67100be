import type { RunResult } from "../../lib/process.ts";

/** What iptables-restore said when it wrote nothing. */
export interface RestoreRefusal {
  /** Line numbers that it blames, from 1. */
  lines: number[];
  why: string;
  /** Nothing is wrong with the text: somebody holds the lock, memory is short, the program was killed. */
  passing: boolean;
}

/**
 * Reads the words of iptables-restore, legacy and nft. A line that it blames may be the COMMIT, when the kernel refused
 * the whole table.
 */
export function refusalOf({ code, stderr }: RunResult): RestoreRefusal {
  const lines = [...stderr.matchAll(/^(?:Error occurred at line: |.*\bline )(\d+)(?: failed|:|$)/gm)]
    .map((m) => Number(m[1]));
  const said = stderr.split("\n").map((l) => l.replace(/^ip6?tables(-legacy|-nft)?-restore( v[\d.]+ \(\w+\))?: ?/, ""))
    .filter((l) => l.trim() !== "" && !/^(Error occurred at line|Try `|Ignoring deprecated|# )/.test(l));
  const why = said.join("; ") || `exit code ${code}`;
  const passing = code > 128 || code < 0 ||
    /xtables lock|Resource temporarily unavailable|Cannot allocate memory|Out of memory/.test(stderr);
  return { lines, why, passing };
}
