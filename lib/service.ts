import type { Logger } from "./log.ts";
import { messageOf, Problem } from "./problem.ts";

const signals = ["SIGTERM", "SIGINT"] as const;

/**
 * Runs a long-lived subcommand until its work ends, or SIGTERM or SIGINT aborts the signal that it is given. A Problem is
 * logged in its own words; anything else is a bug, logged with its stack.
 * @returns the exit code: 0 when it ended in order, else 1; the supervisor starts it again.
 */
export async function runService(log: Logger, work: (signal: AbortSignal) => Promise<void>): Promise<number> {
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error("told to stop"));
  for (const signal of signals) Deno.addSignalListener(signal, onSignal);
  try {
    await work(stop.signal);
    return 0;
  } catch (error) {
    tell(log, error);
    return 1;
  } finally {
    for (const signal of signals) Deno.removeSignalListener(signal, onSignal);
  }
}

function tell(log: Logger, error: unknown): void {
  if (error instanceof Problem) {
    const why = error.cause === undefined ? undefined : messageOf(error.cause);
    return log.error("stopped", { what: error.what, where: error.where, todo: error.todo, why });
  }
  log.error("stopped by a bug", { why: messageOf(error), stack: error instanceof Error ? error.stack : undefined });
}

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** `--flag value` and `--flag=value` as pairs. @param help where to read more. @throws Problem "bad-input". */
export function* flagPairs(args: string[], help: string): Generator<[string, string]> {
  for (let i = 0; i < args.length; i++) {
    const [flag, inline] = args[i]!.split(/=(.*)/s, 2) as [string, string?];
    const value = inline ?? args[++i];
    if (!value) throw new Problem({ code: "bad-input", what: `"${flag}" needs a value`, todo: `See ${help}` });
    yield [flag, value];
  }
}
