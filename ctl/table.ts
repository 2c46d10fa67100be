import { type Paint, plain } from "./paint.ts";

/** A table as calicoctl prints it: every cell padded to its column's widest and 3 more, then an empty line. */
export function plainTable(head: string[], rows: string[][], colours: Paint = plain): string {
  const widths = head.map((_, i) => Math.max(5, ...[head, ...rows].map((row) => length(row[i]!) + 3)));
  const line = (row: string[]) => row.map((cell, i) => pad(cell, widths[i]!)).join("");
  return [colours.bold(line(head)), ...rows.map(line)].join("\n") + "\n\n";
}

/** A table in a box, as calicoctl's IPAM and BGP commands print it. Columns in `right` are aligned to the right. */
export function boxTable(
  head: string[],
  rows: string[][],
  { right = new Set(), colours = plain }: { right?: ReadonlySet<number>; colours?: Paint } = {},
): string {
  const widths = head.map((cell, i) => Math.max(length(cell), ...rows.map((row) => length(row[i]!))));
  const rule = `+${widths.map((w) => "-".repeat(w + 2)).join("+")}+\n`;
  const line = (row: string[], aligned: ReadonlySet<number>) =>
    `|${
      row.map((cell, i) => (aligned.has(i) ? ` ${fill(cell, widths[i]!)}${cell} ` : ` ${pad(cell, widths[i]!)} `)).join(
        "|",
      )
    }|`;
  const body = rows.map((row) => `${byWord(row, line(row, right), colours)}\n`).join("");
  return `${rule}${colours.bold(line(head, new Set()))}\n${rule}${body}${rule}`;
}

/** Words of states of BGP sessions, as BIRD says them. */
const good = ["Established"],
  bad = ["Passive", "Active", "Connect", "Idle", "OpenSent", "OpenConfirm", "Close", "Down"];

function byWord(row: readonly string[], line: string, colours: Paint): string {
  const says = (words: string[]) =>
    row.some((cell) => words.some((word) => cell === word || cell.startsWith(`${word}: `)));
  return says(bad) ? colours.red(line) : says(good) ? colours.green(line) : line;
}

const length = (text: string): number => [...text].length;
const fill = (text: string, width: number): string => " ".repeat(Math.max(0, width - length(text)));
const pad = (text: string, width: number): string => text + fill(text, width);
