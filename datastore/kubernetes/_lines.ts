import { type Clock, withDeadline } from "../../lib/clock.ts";

/** How long a stream may be silent, and what that is then called. */
export interface LineOptions {
  silenceMs: number;
  silent(): Error;
  clock: Clock;
  signal: AbortSignal;
}

/**
 * The lines of a body, those of each piece that arrives together; an unfinished last one is dropped. Ends with the body or
 * the signal. @throws what `silent` makes when nothing comes for too long; what the connection throws.
 */
export async function* linesOf(answer: Response, options: LineOptions): AsyncGenerator<string[], void> {
  const { silenceMs, silent, clock, signal } = options;
  const reader = answer.body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder();
  const cancel = () => void reader.cancel().catch(() => {}); // a body that is broken already
  signal.addEventListener("abort", cancel, { once: true });
  try {
    const rest: string[] = [];
    while (!signal.aborted) {
      const { done, value } = await withDeadline(silenceMs, () => reader.read(), silent, clock);
      if (done) return;
      const [first, ...more] = decoder.decode(value, { stream: true }).split("\n") as [string, ...string[]];
      rest.push(first);
      if (more.length === 0) continue;
      const lines = [rest.join(""), ...more.slice(0, -1)].filter((line) => line.trim() !== "");
      rest.length = 0;
      rest.push(more.at(-1)!);
      if (lines.length > 0) yield lines;
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}
