import { systemClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { createLog, type Logger } from "../lib/log.ts";
import { createMetrics } from "../lib/metrics.ts";
import { runService } from "../lib/service.ts";
import { ProcessMetrics } from "../lib/process_metrics.ts";
import { openEtcd } from "../datastore/etcd.ts";
import { KubernetesClients } from "../datastore/kubernetes/client.ts";
import { storeOptions } from "../datastore/options.ts";
import { type Flags, flagsIn } from "./command_line.ts";
import { LiveSettings } from "./live_settings.ts";
import { ControllerMetrics } from "./metrics.ts";
import { runControllers } from "./run.ts";
import { healthAnswer, keepStatusFile, serveMetrics } from "./serving.ts";
import { controllerNames } from "./settings.ts";

const usage = `usage: tortie controllers [--health-port PORT] [--status-file FILE]

Keeps what Kubernetes says in etcd: policies, profiles of namespaces and service accounts, labels of pods and nodes, host
endpoints; gives Services addresses, and frees addresses that nobody uses. One instance works, others wait for its end.
Settings are those of the KubeControllersConfiguration "default" (tortie ctl get kcc default -o yaml); what the
environment says comes before them:

  ETCD_ENDPOINTS, ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE, ETCD_USERNAME, ETCD_PASSWORD
  KUBECONFIG            path; empty = the service account of the pod that it runs in
  ENABLED_CONTROLLERS   some of ${controllerNames.join(",")}
  LOG_LEVEL             debug, info, warn or error
  HEALTH_ENABLED, SYNC_NODE_LABELS      true or false
  AUTO_HOST_ENDPOINTS   enabled or disabled
  RECONCILER_PERIOD, COMPACTION_PERIOD  a duration

--health-port PORT      /readiness and /liveness on all addresses: 200, or 503 and why
--status-file FILE      the same as a file, for Calico's probes; written while health checks are on
`;

/** `tortie controllers`: runs until it is told to stop. */
export async function main(args: string[]): Promise<number> {
  const flags = flagsIn(args);
  if (!flags) {
    const isHelp = ["--help", "-h"].includes(args[0]!);
    if (isHelp) console.log(usage.trimEnd());
    else console.error(`tortie: unexpected argument "${args.join(" ")}"\n\n${usage.trimEnd()}`);
    return isHelp ? 0 : 2;
  }
  const env = (name: string) => Deno.env.get(name) || undefined;
  let live: LiveSettings | undefined;
  const log = createLog("controllers", { level: () => live?.running.logLevel ?? "info", clock: systemClock });
  return await runService(log, async (signal) => {
    live = new LiveSettings(env);
    await run(live, flags, log, signal);
  });
}

async function run(live: LiveSettings, flags: Flags, log: Logger, told: AbortSignal): Promise<void> {
  const clock = systemClock, stop = new AbortController(), signal = AbortSignal.any([told, stop.signal]);
  await using store = openEtcd(storeOptions({ env: live.env }), { clock, log: log.child("etcd") });
  const kubeconfig = live.env("KUBECONFIG");
  const api = async () => {
    const clients = new KubernetesClients();
    const client = await clients.for(kubeconfig ? { kubeconfig } : {}, live.env);
    return {
      open: (...call: Parameters<typeof client.open>) => client.open(...call),
      reconnect: () => client.reconnect(),
      [Symbol.dispose]: () => clients[Symbol.dispose](),
    };
  };
  const holder = `${Deno.hostname()} ${Deno.pid}`;
  const health = new Health(clock);
  health.register("datastore");
  const answer = (request: Request) => healthAnswer(new URL(request.url).pathname, health);
  const { healthPort: port } = flags;
  await using _server = port === 0 ? undefined : Deno.serve({ port, onListen() {} }, answer);
  const registry = await createMetrics("controllers");
  new ProcessMetrics(registry, clock.now());
  const metrics = new ControllerMetrics(registry, store, () => clock.monotonicMs());
  const serving = [
    serveMetrics(registry, live, { clock, log }, signal),
    keepStatusFile(flags.statusFile, health, live, { clock, log }, signal),
  ];
  try {
    await runControllers({ store, api, live, holder, health, metrics, clock, log, random: Math.random, signal });
  } finally {
    stop.abort(new Error("the controllers ended"));
    await Promise.all(serving);
  }
}
