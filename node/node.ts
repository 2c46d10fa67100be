import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import { createMetrics } from "../lib/metrics.ts";
import { nodeName } from "../lib/node_name.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { openEtcd } from "../datastore/etcd.ts";
import { Mirror } from "../datastore/mirror.ts";
import { storeOptions } from "../datastore/options.ts";
import type { Store } from "../datastore/store.ts";
import { healthSettings, serveHealth } from "./health.ts";
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
  /** What must outlive a restart: journal, snapshot. */
  stateDir: string;
  /** Sockets, pids. */
  runDir: string;
}

/** Between two looks at the mirror's state, for health. */
const lookMs = 1_000;

/**
 * Runs the parts that `roles` names until the signal ends them, or one of them fails: then the whole process ends, and
 * who started it starts it again. Everything that is programmed stays in force.
 * @throws Problem for what an operator must mend; any other error is a bug.
 */
export async function runNode(parts: NodeParts): Promise<void> {
  const { roles, settings, clock, log } = parts;
  const stop = new AbortController();
  const signal = AbortSignal.any([parts.signal, stop.signal]);
  await using cleanup = new AsyncDisposableStack();
  const health = new Health(clock);
  const metrics = await createMetrics();
  const at = healthSettings(settings);
  if (at.enabled) cleanup.use(serveHealth({ health, metrics: () => metrics.text() }, at, log.child("health"), clock));

  const node = nodeName({ env: (name) => settings.get(name) });
  const stateDir = settings.get("TORTIE_STATE_DIR") ?? "/var/lib/tortie";
  const runDir = settings.get("TORTIE_RUN_DIR") ?? "/run/tortie";
  for (const [dir, mode] of [[stateDir, 0o700], [runDir, 0o755]] as const) {
    await Deno.mkdir(dir, { recursive: true, mode });
  }
  const store = cleanup.use(
    openEtcd(storeOptions({ env: (name) => settings.get(name) }), { clock, log: log.child("etcd") }),
  );
  const mirror = cleanup.use(
    Mirror.start({ store, snapshotFile: `${stateDir}/snapshot`, clock, log: log.child("mirror") }),
  );
  const shared: Shared = { ...parts, signal, node, store, mirror, health, stateDir, runDir };

  const loops: Promise<void>[] = [watchMirror(shared)];
  let dataplaneReady: Promise<void> | undefined;
  if (roles.agent) {
    const { startAgent } = await import("./agent_part.ts");
    const agent = await startAgent(shared, cleanup);
    loops.push(...agent.loops);
    dataplaneReady = agent.ready;
  }
  if (roles.startUp) loops.push((await import("./startup_part.ts")).runStartUp(shared));
  if (roles.routing) {
    const { startRouting } = await import("./routing_part.ts");
    loops.push(...startRouting(shared, dataplaneReady));
  }
  log.info("started", { node, roles: Object.entries(roles).filter(([, on]) => on).map(([name]) => name).join(" ") });
  try {
    await Promise.race([Promise.all(loops), ended(signal)]);
  } finally {
    stop.abort(new Error("the node process ends"));
    await Promise.allSettled(loops);
  }
  log.info("stopped", { node });
}

/** Readiness of the datastore: in sync and connected. The rest of the node works on without the second. */
async function watchMirror({ mirror, health, clock, signal }: Shared): Promise<void> {
  health.register("datastore");
  while (!signal.aborted) {
    const { inSync, connected, why } = mirror.state();
    health.report("datastore", inSync && connected, why);
    await clock.sleep(lookMs, signal).catch(() => {}); // aborted: the loop's condition ends it
  }
}

/** Resolves when the signal is aborted. */
function ended(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
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
