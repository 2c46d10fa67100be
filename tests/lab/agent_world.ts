import { run, type RunResult } from "../../lib/process.ts";
import { type ApiServer, startApiServer } from "./api_server.ts";
import { type Etcd, type EtcdOptions, startEtcd } from "./etcd.ts";
import { makeNamespace, type Namespace } from "./namespaces.ts";
import { wait } from "./wait.ts";

/** How an agent of a world is started. */
export interface AgentOptions {
  /** Node name. Default "alder". */
  node?: string;
  /** Subcommand. Default "agent". */
  role?: string;
  /** More environment, with Calico's names. */
  env?: Record<string, string>;
  /** Do not wait until it answers. */
  doNotWait?: boolean;
}

/** One execution of the plugin. Variables that are `undefined` are unset. */
export interface PluginCall {
  command: string;
  containerId?: string;
  /** Path, or undefined for none. */
  netns?: string;
  ifName?: string;
  args?: string;
  /** The configuration, or the text on stdin as it is. */
  config: Record<string, unknown> | string;
  /** Name that the binary is called by. Default "calico". */
  plugin?: string;
  env?: Record<string, string>;
  unset?: string[];
  /** Default: `<world>/bin:/usr/lib/cni`. */
  path?: string;
  /** Milliseconds before the plugin is killed. Default 30,000. */
  timeoutMs?: number;
}

/** What an execution of the plugin came to. `json` is stdout parsed, when it is JSON. */
export interface PluginResult extends RunResult {
  ms: number;
  json: Record<string, unknown>;
}

/**
 * One node as CNI sees it: a network namespace that stands for the host, a real etcd in it, and a tortie agent without
 * start-up and routing. All of it goes at the end of the scope.
 */
export interface AgentWorld extends AsyncDisposable {
  readonly host: Namespace;
  readonly etcd: Etcd;
  /** Folder of this world: state, sockets, configuration. */
  readonly dir: string;
  readonly socket: string;
  readonly journalDir: string;
  /** Starts the agent, and waits until it is in sync. */
  start(options?: AgentOptions): Promise<void>;
  /** Ends the agent and waits for its end. */
  stop(signal?: Deno.Signal): Promise<void>;
  /** The agent's process id. */
  readonly pid: number;
  /** What the agent wrote. */
  log(): string;
  /** Makes a sandbox's namespace; it goes with the world. */
  pod(): Promise<Namespace>;
  /** Runs the plugin. */
  call(call: PluginCall): Promise<PluginResult>;
  /** GET of the agent's socket. */
  get(target: string): Promise<{ status: number; body: unknown }>;
  /** Puts a resource into etcd. */
  put(resource: Record<string, unknown>): Promise<void>;
  /** The small Kubernetes API; started at the first call. */
  api(): Promise<ApiServer>;
}

const root = new URL("../..", import.meta.url).pathname;

/** The words that run tortie: TORTIE_BINARY or build/tortie when it is newer than the sources, else the sources. */
export const tortie: () => string[] = once(() => {
  const binary = Deno.env.get("TORTIE_BINARY") ?? `${root}build/tortie`;
  const named = Deno.env.get("TORTIE_BINARY") !== undefined;
  if (named || (timeOf(binary) > newestSource())) return [binary];
  return [Deno.execPath(), "run", "-A", "--no-check", `${root}main.ts`];
});

/** Makes a world. @param prefix of the namespaces' names. */
export async function makeAgentWorld(prefix: string, etcd: EtcdOptions = {}): Promise<AgentWorld> {
  const stack = new AsyncDisposableStack();
  try {
    const host = stack.use(await makeNamespace(prefix));
    const dir = `/dev/shm/${host.name}`;
    stack.defer(() => Deno.remove(dir, { recursive: true }));
    for (const name of ["bin", "calico"]) await Deno.mkdir(`${dir}/${name}`, { recursive: true });
    await Deno.mkdir("/var/lib/calico", { recursive: true });
    // The host's own interface; pods get its MTU, 1500.
    await host.ip("link add eth0 type veth peer name wire");
    for (const name of ["eth0", "wire"]) await host.ip(`link set ${name} up`);
    const server = stack.use(await startEtcd({ ...etcd, netns: host.name }));
    const world = new World(prefix, host, server, dir, stack);
    await linkPlugins(`${dir}/bin`);
    return world;
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

class World implements AgentWorld {
  readonly socket: string;
  readonly journalDir: string;
  #agent: Deno.ChildProcess | undefined;
  #logs = 0;
  #api: Promise<ApiServer> | undefined;

  constructor(
    private readonly prefix: string,
    readonly host: Namespace,
    readonly etcd: Etcd,
    readonly dir: string,
    private readonly stack: AsyncDisposableStack,
  ) {
    this.socket = `${dir}/run/agent.sock`;
    this.journalDir = `${dir}/state/pending-del`;
    stack.defer(() => this.stop("SIGKILL"));
  }

  get pid(): number {
    return this.#agent!.pid;
  }

  async start({ node = "alder", role = "agent", env = {}, doNotWait = false }: AgentOptions = {}): Promise<void> {
    const logFile = `${this.dir}/agent-${++this.#logs}.log`;
    const [program, ...args] = tortie() as [string, ...string[]];
    const user: Record<string, string> = this.etcd.user
      ? { ETCD_USERNAME: this.etcd.user.name, ETCD_PASSWORD: this.etcd.user.password }
      : {};
    const tls: Record<string, string> = this.etcd.tls
      ? {
        ETCD_CA_CERT_FILE: this.etcd.tls.caFile,
        ETCD_CERT_FILE: this.etcd.tls.client.certFile,
        ETCD_KEY_FILE: this.etcd.tls.client.keyFile,
      }
      : {};
    this.#agent = new Deno.Command("setpriv", {
      args: [
        ...["--pdeathsig", "KILL", "--", "nsenter", `--net=${this.host.path}`],
        // Files that Calico keeps on a host are this world's own; namespaces made later are seen all the same.
        ...["unshare", "--mount", "--propagation", "slave", "setpriv", "--pdeathsig", "KILL", "--", "sh", "-c"],
        'mount --bind "$1" /var/lib/calico && log=$2 && shift 2 && exec "$@" >>"$log" 2>&1',
        ...["agent", `${this.dir}/calico`, logFile, program, ...args, role],
      ],
      env: {
        ...{ ETCD_ENDPOINTS: this.etcd.endpoint, NODENAME: node, CALICO_NETWORKING_BACKEND: "none" },
        ...{ TORTIE_STATE_DIR: `${this.dir}/state`, TORTIE_RUN_DIR: `${this.dir}/run` },
        ...{ FELIX_ENDPOINTSTATUSPATHPREFIX: this.dir, ...user, ...tls, ...env },
      },
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    if (doNotWait) return;
    let ended = false;
    this.#agent.status.then(() => ended = true);
    await wait("the agent to be in sync", async () => ended || (await this.get("/v1/status")).status === 200, {
      deadlineMs: 20_000,
    }).catch((error) => {
      throw new Error(`${error.message}\n${this.log()}`);
    });
    if (ended) throw new Error(`the agent ended:\n${this.log()}`);
  }

  async stop(signal: Deno.Signal = "SIGTERM"): Promise<void> {
    const agent = this.#agent;
    if (!agent) return;
    this.#agent = undefined;
    try {
      agent.kill(signal);
    } catch { /* it had ended */ }
    await agent.status;
  }

  log(): string {
    try {
      return Deno.readTextFileSync(`${this.dir}/agent-${this.#logs}.log`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    }
  }

  async pod(): Promise<Namespace> {
    return this.stack.use(await makeNamespace(this.prefix));
  }

  async call(call: PluginCall): Promise<PluginResult> {
    const env: Record<string, string> = {
      CNI_COMMAND: call.command,
      CNI_CONTAINERID: call.containerId ?? "",
      CNI_NETNS: call.netns ?? "",
      CNI_IFNAME: call.ifName ?? "eth0",
      CNI_ARGS: call.args ?? "",
      CNI_PATH: call.path ?? `${this.dir}/bin:/usr/lib/cni`,
      PATH: Deno.env.get("PATH") ?? "",
      HOME: Deno.env.get("HOME") ?? "/root",
      TORTIE_SOCKET: this.socket,
      TORTIE_STATE_DIR: `${this.dir}/state`,
      ...call.env,
    };
    for (const [name, value] of Object.entries(env)) if (value === "" || call.unset?.includes(name)) delete env[name];
    const stdin = typeof call.config === "string" ? call.config : JSON.stringify(call.config);
    const began = performance.now();
    // The plugin runs where a runtime does: in the host's network namespace.
    const args = [`--net=${this.host.path}`, `${this.dir}/bin/${call.plugin ?? "calico"}`];
    const options = { stdin, env, clearEnv: true, timeoutMs: call.timeoutMs ?? 30_000 };
    const result = await run("nsenter", args, options);
    return { ...result, ms: performance.now() - began, json: jsonOf(result.stdout) };
  }

  async get(target: string): Promise<{ status: number; body: unknown }> {
    const args = ["-sS", "--max-time", "5", "--unix-socket", this.socket, "-w", "\n%{http_code}", `http://a${target}`];
    const { stdout } = await run("curl", args);
    const lines = stdout.trimEnd().split("\n");
    return { status: Number(lines.pop()), body: jsonOf(lines.join("\n")) };
  }

  async put(resource: Record<string, unknown>): Promise<void> {
    const { kind, metadata } = resource as { kind: string; metadata: { name: string; namespace?: string } };
    const key = `${resources}${plurals[kind] ?? `${kind.toLowerCase()}s`}/${
      metadata.namespace ? `${metadata.namespace}/` : ""
    }${metadata.name}`;
    await this.etcd.etcdctl("put", key, JSON.stringify({ apiVersion: "projectcalico.org/v3", ...resource }));
  }

  api(): Promise<ApiServer> {
    this.#api ??= (async () =>
      this.stack.use(
        await startApiServer({ dir: `${this.dir}/api`, netns: this.host.name, address: "127.0.0.1", port: 6443 }),
      ))();
    return this.#api;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}

const resources = "/calico/resources/v3/projectcalico.org/";
const plurals: Record<string, string> = {
  NetworkPolicy: "networkpolicies",
  GlobalNetworkPolicy: "globalnetworkpolicies",
};

/** What an agent needs to serve: a cluster that is ready, its Node, and pools. */
export async function putCluster(
  world: AgentWorld,
  node: string,
  pools: { name: string; cidr: string; blockSize: number }[],
): Promise<void> {
  const stamp = { creationTimestamp: "2026-01-02T03:04:05Z", uid: crypto.randomUUID() };
  const of = (name: string) => ({ name, ...stamp });
  await world.put({ kind: "ClusterInformation", metadata: of("default"), spec: { datastoreReady: true } });
  await world.put({ kind: "Node", metadata: of(node), spec: {} });
  for (const { name, ...spec } of pools) {
    await world.put({ kind: "IPPool", metadata: of(name), spec: { ...spec, allowedUses: ["Workload"] } });
  }
}

/** A machine at the other end of the host's wire, which it is the default gateway of: 192.0.2.254; the host is 192.0.2.1. */
export async function machineBeside(world: AgentWorld): Promise<Namespace> {
  const { host } = world, outside = await world.pod();
  await host.ip(`link set wire netns ${outside.name}`);
  await host.ip("addr add 192.0.2.1/24 dev eth0");
  await host.ip("route add default via 192.0.2.254");
  await outside.ip("addr add 192.0.2.254/24 dev wire");
  await outside.ip("link set wire up");
  await outside.ip("route add default via 192.0.2.1");
  return outside;
}

/** Links of the plugin's names; when the sources run, small scripts, which keep the name in argv[0] only by a word. */
async function linkPlugins(dir: string): Promise<void> {
  const words = tortie();
  const names: Record<string, string> = { "calico": "cni", "calico-ipam": "ipam", "tortie": "" };
  for (const [name, word] of Object.entries(names)) {
    if (words.length === 1) await Deno.symlink(words[0]!, `${dir}/${name}`);
    else {
      const script = `#!/bin/sh\nexec ${words.join(" ")} ${word} "$@"\n`;
      await Deno.writeTextFile(`${dir}/${name}`, script, { mode: 0o755 });
    }
  }
}

function jsonOf(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

function timeOf(path: string): number {
  try {
    return Deno.statSync(path).mtime?.getTime() ?? 0;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

function newestSource(): number {
  const folders = ["agent", "cni", "datastore", "ipam", "kernel", "lib", "node", "routing"];
  const within = (dir: string): number =>
    Math.max(
      0,
      ...[...Deno.readDirSync(dir)].map((f) => {
        if (f.isDirectory) return within(`${dir}/${f.name}`);
        return f.name.endsWith(".ts") && !f.name.endsWith("_test.ts") ? timeOf(`${dir}/${f.name}`) : 0;
      }),
    );
  return Math.max(timeOf(`${root}main.ts`), ...folders.map((f) => within(root + f)));
}

function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
