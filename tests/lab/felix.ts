import type { AgentWorld } from "./agent_world.ts";
import { wait } from "./wait.ts";

/** Calico's real agent, when the environment names one: FELIX_BINARY. Without it tests use what one has left behind. */
export const felixBinary: string | undefined = Deno.env.get("FELIX_BINARY");

/** A Felix that runs. */
export interface Felix {
  /** Ends it and waits for its end. */
  stop(signal: Deno.Signal): Promise<void>;
  log(): string;
}

const healthPort = 9199;

/**
 * Starts Felix on a world's host, with the world's etcd, and waits until it says that it is ready: the dataplane is
 * programmed. It sees its own /sys and has its own /var/lib/calico and /var/run/calico.
 * @throws with the end of its log when it is not ready within a minute.
 */
export async function startFelix(
  world: Pick<AgentWorld, "dir" | "etcd"> & { host: Pick<AgentWorld["host"], "path" | "run"> },
  binary: string,
  node: string,
  env: Record<string, string> = {},
): Promise<Felix> {
  const logFile = `${world.dir}/felix.log`;
  for (const name of ["felix-lib", "felix-run"]) await Deno.mkdir(`${world.dir}/${name}`, { recursive: true });
  for (const path of ["/var/lib/calico", "/var/run/calico"]) await Deno.mkdir(path, { recursive: true });
  const script =
    'mount --bind "$1" /var/lib/calico && mount --bind "$2" /var/run/calico && mount -t sysfs sysfs /sys && ' +
    'exec "$3" >>"$4" 2>&1';
  const child = new Deno.Command("setpriv", {
    args: [
      ...["--pdeathsig", "KILL", "--", "nsenter", `--net=${world.host.path}`],
      ...["unshare", "--mount", "--propagation", "slave", "setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", script],
      ...["felix", `${world.dir}/felix-lib`, `${world.dir}/felix-run`, binary, logFile],
    ],
    clearEnv: true,
    env: {
      PATH: Deno.env.get("PATH") ?? "/usr/sbin:/usr/bin:/sbin:/bin",
      ...{ DATASTORE_TYPE: "etcdv3", FELIX_DATASTORETYPE: "etcdv3", FELIX_ETCDENDPOINTS: world.etcd.endpoint },
      ...{ ETCD_ENDPOINTS: world.etcd.endpoint, FELIX_FELIXHOSTNAME: node, FELIX_USAGEREPORTINGENABLED: "false" },
      ...{ FELIX_LOGSEVERITYSCREEN: "info", FELIX_LOGFILEPATH: "none", FELIX_HEALTHENABLED: "true" },
      ...{ FELIX_HEALTHHOST: "127.0.0.1", FELIX_HEALTHPORT: String(healthPort) },
      // A Felix that was built without cgo has no eBPF, and stops when it looks for what an eBPF dataplane left behind.
      ...{ FELIX_XDPENABLED: "false", FELIX_DebugSkipCTLBCleanup: "true", ...env },
    },
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  let ended = false;
  child.status.then(() => ended = true);
  const log = () => {
    try {
      return Deno.readTextFileSync(logFile);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    }
  };
  const url = `http://127.0.0.1:${healthPort}/readiness`;
  await wait("Felix to be ready", async () => {
    if (ended) return true;
    const { code } = await world.host.run("curl", ["-fsS", "-o", "/dev/null", "--max-time", "2", url]);
    return code === 0;
  }, { deadlineMs: 60_000, everyMs: 50 }).catch((error) => {
    child.kill("SIGKILL");
    throw new Error(`${error.message}\n${log().slice(-3000)}`);
  });
  if (ended) throw new Error(`Felix ended:\n${log().slice(-3000)}`);
  return {
    log,
    async stop(signal) {
      if (!ended) child.kill(signal);
      await child.status;
    },
  };
}
