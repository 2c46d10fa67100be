import { systemClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { createLog, type Logger, parseLevel, silentLog } from "../lib/log.ts";
import { createMetrics } from "../lib/metrics.ts";
import { Problem } from "../lib/problem.ts";
import { aborted, flagPairs, runService } from "../lib/service.ts";
import { agentSocket } from "../agent/agent_socket.ts";
import { openEtcd } from "../datastore/etcd.ts";
import { storeOptions } from "../datastore/options.ts";
import { localSessions } from "./sessions.ts";
import { serveApi } from "./serve.ts";
import { apiSettings, type SettingOf } from "./settings.ts";

const usage =
  `usage: tortie api [--socket PATH] [--listen ADDRESS:PORT [--token-file FILE] [--cert-file FILE --key-file FILE]]

Resources over HTTP with the checks of tortie ctl, changes as server-sent events, /openapi.json, /metrics, and pages for a
browser. tortie node serves the same on /run/tortie/api.sock.

  --socket PATH         unix socket, its owner and root only   (default /run/tortie/api.sock)
  --listen ADDR:PORT    also there, for those who have the token; beyond this host only with a certificate
  --token-file FILE     the token, mode 0600; made when absent (default /var/lib/tortie/api-token)
  --cert-file, --key-file

Each flag is also a variable: TORTIE_API_SOCKET, TORTIE_API_LISTEN, TORTIE_API_TOKEN_FILE, TORTIE_API_CERT_FILE,
TORTIE_API_KEY_FILE. etcd is found as by tortie node: ETCD_ENDPOINTS, ETCD_CA_CERT_FILE, …

Look:  curl --unix-socket /run/tortie/api.sock http://tortie/apis/projectcalico.org/v3/ippools
`;

const flags: Record<string, string> = {
  "--socket": "TORTIE_API_SOCKET",
  "--listen": "TORTIE_API_LISTEN",
  "--token-file": "TORTIE_API_TOKEN_FILE",
  "--cert-file": "TORTIE_API_CERT_FILE",
  "--key-file": "TORTIE_API_KEY_FILE",
};

/** `tortie api`: runs until it is told to stop. */
export async function main(args: string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(usage.trimEnd());
    return 0;
  }
  const env = (name: string) => Deno.env.get(name) || undefined;
  const log = createLog("api", { level: parseLevel(env("LOG_LEVEL") ?? "info") ?? "info", clock: systemClock });
  return await runService(log, (signal) => run(told(args, env), log, signal));
}

/** Settings of the command line, then of the environment. @throws Problem "bad-input". */
function told(args: string[], env: SettingOf): SettingOf {
  const said = new Map<string, string>();
  for (const [flag, value] of flagPairs(args, "tortie api --help")) {
    const name = flags[flag];
    if (!name) {
      throw new Problem({ code: "bad-input", what: `unknown argument "${flag}"`, todo: "See tortie api --help" });
    }
    said.set(name, value);
  }
  return (name) => said.get(name) ?? env(name);
}

async function run(setting: SettingOf, log: Logger, signal: AbortSignal): Promise<void> {
  const dirs = {
    state: setting("TORTIE_STATE_DIR") ?? "/var/lib/tortie",
    run: setting("TORTIE_RUN_DIR") ?? "/run/tortie",
  };
  const settings = apiSettings(setting, dirs);
  await using store = openEtcd(storeOptions({ env: setting }), { clock: systemClock, log: log.child("etcd") });
  const health = new Health(systemClock);
  const metrics = await createMetrics();
  await using _api = await serveApi({
    ...{ store, clock: systemClock, random: Math.random, log, signal, health, host: Deno.hostname() },
    metrics: () => metrics.text(),
    agent: agentSocket(`${dirs.run}/agent.sock`),
    sessions: () => localSessions(dirs.run, systemClock, silentLog),
  }, settings);
  await aborted(signal);
}
