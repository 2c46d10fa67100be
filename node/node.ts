import { Health } from "../lib/health.ts";
import { createMetrics, type Metrics } from "../lib/metrics.ts";
import { nodeName } from "../lib/node_name.ts";
import { aborted } from "../lib/service.ts";
import { Refusals } from "../agent/refusals.ts";
import { openEtcd } from "../datastore/etcd.ts";
import { Mirror } from "../datastore/mirror.ts";
import type { HealthParts } from "./health.ts";
import { nothingProgrammed, openNetwork } from "./boot_part.ts";
import { ProcessMetrics } from "../lib/process_metrics.ts";
import { ruleMetrics } from "./rule_metrics.ts";
import { followServing, Serving, servingSettings } from "./serving.ts";
import { datastoreOf } from "./embedded_store.ts";
import type { NodeParts, Shared } from "./parts.ts";
import { guardPending } from "./pending_guard.ts";

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
  // Health is served before the parts are known, and none of them not being ready must not read as ready.
  health.register("parts");
  const metrics = await createMetrics();
  const env = (name: string) => settings.get(name);
  const answers: HealthParts = { health, metrics: () => metrics.text() };
  const serving = cleanup.use(new Serving(answers, log.child("health"), clock));
  await serving.want(servingSettings({ env }).settings);
  const ofProcess = new ProcessMetrics(metrics, clock.now());
  tellOfLog(parts, metrics);

  const node = nodeName({ env: (name) => settings.get(name) });
  const stateDir = settings.get("TORTIE_STATE_DIR") ?? "/var/lib/tortie";
  const runDir = settings.get("TORTIE_RUN_DIR") ?? "/run/tortie";
  for (const [dir, mode] of [[stateDir, 0o700], [runDir, 0o755]] as const) {
    await Deno.mkdir(dir, { recursive: true, mode });
  }
  const datastore = datastoreOf({ settings, clock, log: log.child("datastore"), stateDir, runDir });
  const store = cleanup.use(openEtcd(datastore.options, { clock, log: log.child("etcd") }));
  const mirror = cleanup.use(
    Mirror.start({
      ...{ store, snapshotFile: `${stateDir}/snapshot`, clock, log: log.child("mirror") },
      mayBeOld: async () => roles.agent && await nothingProgrammed(runDir),
    }),
  );
  const refusals = new Refusals(log.child("agent"), metrics);
  const shared: Shared = { ...parts, signal, node, store, mirror, health, metrics, refusals, stateDir, runDir };

  tellOfMirror(shared);
  const loops: Promise<void>[] = [
    watchMirror(shared),
    followServing({
      ...{ mirror, node, env, serving, refusals, log, signal, level: parts.setLogLevel },
      processMetrics: (enabled) => void (ofProcess.enabled = enabled),
    }),
  ];
  if (datastore.keep) loops.push(datastore.keep(signal));
  let dataplaneReady: Promise<void> | undefined;
  if (roles.agent) {
    const { startAgent } = await import("./agent_part.ts");
    const agent = await startAgent(shared, cleanup);
    loops.push(...agent.loops);
    dataplaneReady = agent.ready;
    loops.push(openNetwork(shared, agent.closed));
    answers.rules = async () => ruleMetrics(await agent.counts());
  }
  if (roles.agent) {
    loops.push(guardPending({ ...shared, log: log.child("guard") }));
    loops.push((await import("./policies/policies_part.ts")).runPolicies(shared));
  }
  if (roles.startUp) loops.push((await import("./startup_part.ts")).runStartUp(shared));
  if (roles.routing) {
    const { startRouting } = await import("./routing_part.ts");
    loops.push(...startRouting(shared, dataplaneReady));
  }
  await (await import("./api_part.ts")).startApi(shared, cleanup);
  health.report("parts", true);
  log.info("started", { node, roles: Object.entries(roles).filter(([, on]) => on).map(([name]) => name).join(" ") });
  try {
    await Promise.race([Promise.all(loops), aborted(signal)]);
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

function tellOfMirror({ mirror, metrics, node }: Shared): void {
  let lists = 0;
  metrics.set("felix_host", 1, { host: node });
  metrics.onCollect(() => {
    const state = mirror.state();
    metrics.set("felix_resync_state", state.inSync ? 3 : state.connected ? 2 : 1);
    metrics.set("tortie_datastore_connected", state.connected ? 1 : 0);
    metrics.add("felix_resyncs_started", mirror.listsBegun - lists);
    lists = mirror.listsBegun;
  });
}

function tellOfLog({ logCounts }: NodeParts, metrics: Metrics): void {
  metrics.onCollect(() => {
    for (const name of ["felix_logs_dropped", "felix_log_errors"] as const) metrics.clear(name);
    metrics.add("felix_logs_dropped", logCounts.dropped);
    metrics.add("felix_log_errors", logCounts.errors);
  });
}
