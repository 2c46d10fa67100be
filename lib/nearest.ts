/**
 * The word that was probably meant: the one that the fewest changes of letters lead to (a letter more, fewer, other,
 * or two that changed places; without regard to case), if those are at most a third of its length; undefined when none is near.
 */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  let best: string | undefined, least = Infinity;
  for (const candidate of known) {
    const distance = changes(word.toLowerCase(), candidate.toLowerCase());
    // Of two that are as near the one with the same beginning.
    const rank = distance - (candidate[0]?.toLowerCase() === word[0]?.toLowerCase() ? 0.5 : 0);
    if (rank < least && distance <= Math.ceil(candidate.length / 3)) [best, least] = [candidate, rank];
  }
  return best;
}

function changes(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? before[j - 2]! + 1 : Infinity;
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1), swapped));
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}
