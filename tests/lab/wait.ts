/** How a wait() looks and how long. */
export interface WaitOptions {
  /** Default 10,000. */
  deadlineMs?: number;
  /** Time between two looks. Default 20. */
  everyMs?: number;
}

/**
 * Waits until `look` answers something true, and gives that back. What `look` throws counts as "not yet" and is told
 * when the deadline passes; `what` is a noun phrase that says what was awaited ("the BGP session of h2").
 */
export async function wait<T>(
  what: string,
  look: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<NonNullable<T>> {
  const deadlineMs = options.deadlineMs ?? 10_000;
  const end = performance.now() + deadlineMs;
  let last: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (seen) return seen as NonNullable<T>;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) {
      const why = last === undefined ? "" : `: ${last instanceof Error ? last.message : last}`;
      throw new Error(`waited ${deadlineMs} ms for ${what}${why}`);
    }
    await new Promise((resolve) => setTimeout(resolve, options.everyMs ?? 20));
  }
}
