/** A table as calicoctl prints it: every cell padded to its column's widest and 3 more, then an empty line. */
export function plainTable(head: string[], rows: string[][]): string {
  const all = [head, ...rows];
  const widths = head.map((_, i) => Math.max(5, ...all.map((row) => length(row[i]!) + 3)));
  return all.map((row) => row.map((cell, i) => pad(cell, widths[i]!)).join("") + "\n").join("") + "\n";
}

/** A table in a box, as calicoctl's IPAM and BGP commands print it. Columns in `right` are aligned to the right. */
export function boxTable(head: string[], rows: string[][], right: ReadonlySet<number> = new Set()): string {
  const widths = head.map((cell, i) => Math.max(length(cell), ...rows.map((row) => length(row[i]!))));
  const rule = `+${widths.map((w) => "-".repeat(w + 2)).join("+")}+\n`;
  const line = (row: string[], aligned: ReadonlySet<number>) =>
    `|${
      row.map((cell, i) => (aligned.has(i) ? ` ${fill(cell, widths[i]!)}${cell} ` : ` ${pad(cell, widths[i]!)} `)).join(
        "|",
      )
    }|\n`;
  return rule + line(head, new Set()) + rule + rows.map((row) => line(row, right)).join("") + rule;
}

const length = (text: string): number => [...text].length;
const fill = (text: string, width: number): string => " ".repeat(Math.max(0, width - length(text)));
const pad = (text: string, width: number): string => text + fill(text, width);
