import { systemClock } from "../lib/clock.ts";
import { createLog, type Level, parseLevel } from "../lib/log.ts";
import { runService } from "../lib/service.ts";
import { runNode } from "./node.ts";
import { loadSettings, type Settings } from "./settings.ts";
import type { NodeRoles } from "./parts.ts";

const usage = `usage: tortie node | agent | routing [--datastore=etcd|embedded]

  node      start-up (Node resource, default pools), agent and routing in one process
  agent     the agent alone: CNI, addresses, interfaces and routes of pods
  routing   BGP alone: writes BIRD's configuration

--datastore=embedded keeps everything in a store of this host alone (tortie store), for one host without etcd.

Settings come from the environment and from /etc/tortie/tortie.yaml, with Calico's names (ETCD_ENDPOINTS, NODENAME, IP,
CALICO_NETWORKING_BACKEND, …). LOG_LEVEL is debug, info, warn or error.
`;

/** \`tortie node\`. */
export const node = (args: string[]): Promise<number> => main(args, { startUp: true, agent: true, routing: true });

/** \`tortie agent\`. */
export const agent = (args: string[]): Promise<number> => main(args, { startUp: false, agent: true, routing: false });

/** \`tortie routing\`. */
export const routing = (args: string[]): Promise<number> => main(args, { startUp: false, agent: false, routing: true });

async function main(args: string[], roles: NodeRoles): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(usage.trimEnd());
    return 0;
  }
  const datastore = args.length === 1 ? /^--datastore=(etcd|embedded)$/.exec(args[0]!)?.[1] : undefined;
  if (args.length > 0 && datastore === undefined) {
    console.error(`tortie: unexpected argument "${args.join(" ")}"\n\n${usage.trimEnd()}`);
    return 2;
  }
  const said = Deno.env.get("LOG_LEVEL"), starting = said ?? Deno.env.get("CALICO_STARTUP_LOGLEVEL") ?? "info";
  let level = parseLevel(starting) ?? "info";
  const logCounts = { dropped: 0, errors: 0 };
  const log = createLog("node", { level: () => level, clock: systemClock, counts: logCounts });
  if (parseLevel(starting) === undefined) log.warn("log level is not understood", { level: starting, used: "info" });
  const setLogLevel = (now: Level) => void (level = said === undefined ? now : level);
  return await runService(log, async (signal) => {
    const settings = withDatastore(await loadSettings(), datastore);
    await runNode({ roles, settings, clock: systemClock, log, logCounts, setLogLevel, signal });
  });
}

/** The settings with what the command line says about the datastore. */
function withDatastore(settings: Settings, told: string | undefined): Settings {
  if (told === undefined) return settings;
  return { ...settings, get: (name) => name === "TORTIE_DATASTORE" ? told : settings.get(name) };
}
