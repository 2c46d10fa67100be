import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import type { Level, LogCounts, Logger } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import type { Refusals } from "../agent/refusals.ts";
import type { Mirror } from "../datastore/mirror.ts";
import type { Store } from "../datastore/store.ts";
import type { Settings } from "./settings.ts";

/** Which parts this process runs. */
export interface NodeRoles {
  startUp: boolean;
  agent: boolean;
  routing: boolean;
}

/** What a node process is made of. */
export interface NodeParts {
  roles: NodeRoles;
  settings: Settings;
  clock: Clock;
  log: Logger;
  /** Lines of `log` that were lost. */
  logCounts: LogCounts;
  /** Takes the log's level, unless the environment has said it. */
  setLogLevel(level: Level): void;
  /** Ends the process in order. */
  signal: AbortSignal;
}

/** What the parts of a node share. */
export interface Shared extends NodeParts {
  /** This node's name. */
  node: string;
  store: Store;
  mirror: Mirror;
  health: Health;
  metrics: Metrics;
  /** What is not in force as it was asked for. */
  refusals: Refusals;
  /** What must outlive a restart: journal, snapshot. */
  stateDir: string;
  /** Sockets, pids. */
  runDir: string;
}

/**
 * Runs `work` until it succeeds: an etcd that is away is waited for, with back-off; any other failure is thrown.
 * @param what for the log, a sentence's beginning: "start-up waits for etcd".
 */
export async function untilDone<T>(
  { clock, log, signal }: Pick<NodeParts, "clock" | "log" | "signal">,
  what: string,
  work: () => Promise<T>,
): Promise<T | undefined> {
  const backoff = new Backoff({ firstMs: 200, maxMs: 10_000, clock });
  while (!signal.aborted) {
    try {
      return await work();
    } catch (error) {
      if (!isProblem(error, "unavailable", "conflict", "not-ready")) throw error;
      log.warn(what, { why: messageOf(error) });
      await backoff.wait(signal).catch(() => {}); // aborted: the loop's condition ends it
    }
  }
  return undefined;
}
