import type { Clock } from "../../lib/clock.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { type Running, type RunOptions, start } from "../../lib/process.ts";

/** start() of lib/process.ts, which tells metrics how long it took until the program ran: fork and exec hold us up. */
export function startProgram(
  program: string,
  args: string[],
  options: RunOptions,
  { clock, metrics }: { clock: Clock; metrics: Metrics },
): Running {
  const began = clock.monotonicMs();
  const running = start(program, args, options);
  metrics.observe("felix_exec_time_micros", (clock.monotonicMs() - began) * 1000);
  return running;
}
