/** Most cells of the table of common lines; beyond it everything counts as changed. */
const maxCells = 4_000_000;

/**
 * Lines that differ between two texts, `-` and `+` in front, with up to three unchanged lines around them; `...` stands for
 * what is left out. "" when they are equal. The least change is found (longest common subsequence).
 */
export function lineDiff(before: string, after: string): string {
  if (before === after) return "";
  const lines = compare(before.split("\n"), after.split("\n"));
  const near = lines.map((_, i) => lines.slice(Math.max(0, i - 3), i + 4).some((line) => !line.startsWith("  ")));
  return lines.flatMap((line, i) => near[i] ? [line] : near[i - 1] || i === 0 ? ["  ..."] : []).join("\n") + "\n";
}

function compare(a: string[], b: string[]): string[] {
  if (a.length * b.length > maxCells) return [...a.map((line) => `- ${line}`), ...b.map((line) => `+ ${line}`)];
  const common = Array.from({ length: a.length + 1 }, () => new Uint32Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i]![j] = a[i] === b[j] ? common[i + 1]![j + 1]! + 1 : Math.max(common[i + 1]![j]!, common[i]![j + 1]!);
    }
  }
  const result: string[] = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      result.push(`  ${a[i++]}`);
      j++;
    } else if (j === b.length || i < a.length && common[i + 1]![j]! >= common[i]![j + 1]!) result.push(`- ${a[i++]}`);
    else result.push(`+ ${b[j++]}`);
  }
  return result;
}
