import { systemClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { createLog, parseLevel } from "../lib/log.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { openEtcd } from "../datastore/etcd.ts";
import { KubernetesClients } from "../datastore/kubernetes/client.ts";
import { storeOptions } from "../datastore/options.ts";
import { enabledControllers, healthPort } from "./command_line.ts";
import { healthAnswer } from "./readiness.ts";
import { controllers, runControllers } from "./run.ts";

const usage = `usage: tortie controllers [--health-port PORT]

Keeps what Kubernetes says in etcd: policies, profiles of namespaces and service accounts, labels of pods and nodes.
One instance works, others wait for its end. Settings come from the environment, with Calico's names:

  ETCD_ENDPOINTS, ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE, ETCD_USERNAME, ETCD_PASSWORD
  KUBECONFIG            path; empty = the service account of the pod that it runs in
  ENABLED_CONTROLLERS   some of ${Object.keys(controllers).join(",")}; default all
  LOG_LEVEL             debug, info, warn or error

--health-port PORT      /readiness and /liveness on 127.0.0.1: 200, or 503 and why
`;

/** `tortie controllers`: runs until it is told to stop. */
export async function main(args: string[]): Promise<number> {
  const port = healthPort(args);
  if (port === undefined) {
    const isHelp = ["--help", "-h"].includes(args[0]!);
    if (isHelp) console.log(usage.trimEnd());
    else console.error(`tortie: unexpected argument "${args.join(" ")}"\n\n${usage.trimEnd()}`);
    return isHelp ? 0 : 2;
  }
  const env = (name: string) => Deno.env.get(name) || undefined;
  const log = createLog("controllers", { level: parseLevel(env("LOG_LEVEL") ?? "info") ?? "info", clock: systemClock });
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error("told to stop"));
  for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.addSignalListener(signal, onSignal);
  try {
    await run(env, port, log, stop.signal);
    return 0;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    log.error("stopped", { what: error.what, where: error.where, todo: error.todo, why: messageOf(error.cause ?? "") });
    return 1;
  } finally {
    for (const signal of ["SIGTERM", "SIGINT"] as const) Deno.removeSignalListener(signal, onSignal);
  }
}

async function run(
  env: (name: string) => string | undefined,
  port: number,
  log: ReturnType<typeof createLog>,
  signal: AbortSignal,
): Promise<void> {
  const enabled = enabledControllers(env("ENABLED_CONTROLLERS"));
  await using store = openEtcd(storeOptions({ env }), { clock: systemClock, log: log.child("etcd") });
  const kubeconfig = env("KUBECONFIG");
  const api = async () => {
    const clients = new KubernetesClients();
    const client = await clients.for(kubeconfig ? { kubeconfig } : {}, env);
    return {
      open: (path: string, until: AbortSignal) => client.open(path, until),
      reconnect: () => client.reconnect(),
      [Symbol.dispose]: () => clients[Symbol.dispose](),
    };
  };
  const holder = `${Deno.hostname()} ${Deno.pid}`;
  const health = new Health(systemClock);
  for (const name of ["datastore", ...enabled]) health.register(name);
  const answer = (request: Request) => healthAnswer(new URL(request.url).pathname, health);
  await using _server = port === 0 ? undefined : Deno.serve({ hostname: "127.0.0.1", port, onListen() {} }, answer);
  await runControllers({ store, api, enabled, holder, health, clock: systemClock, log, random: Math.random, signal });
}
