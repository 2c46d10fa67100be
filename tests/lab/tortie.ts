import { cniBinDir, cniConfDir } from "./containerd.ts";
import type { Host, HostProcess } from "./host.ts";
import { wait } from "./wait.ts";

/** The binary under test: what `deno task build` makes, or TORTIE_BINARY (a release, for instance). */
export const binary = Deno.env.get("TORTIE_BINARY") ?? new URL("../../build/tortie", import.meta.url).pathname;

/** What a node of the lab is told. */
export interface TortieOptions {
  /** etcd, as `ETCD_ENDPOINTS` takes it. */
  etcdEndpoint: string;
  /** For the Kubernetes look-ups of the CNI plugin; without it pods are plain containers. */
  kubeconfig?: string;
  /** More environment, with Calico's names. */
  env?: Record<string, string>;
  /** More fields of the plugin's configuration, or others in place of those. */
  plugin?: Record<string, unknown>;
  /** Subcommand. Default "node". */
  role?: string;
}

/** A `tortie node` that runs on a host and is ready. */
export interface TortieNode {
  readonly process: HostProcess;
  /** Starts it again, after it was killed; waits until it is ready. */
  start(): Promise<void>;
  /** Runs `tortie ctl <words>` on the host. */
  ctl(...words: string[]): Promise<string>;
}

/**
 * Puts the binary, its links and its CNI configuration onto a host, starts it, and waits until it says it is ready.
 * @throws with the end of its log when it ends or is not ready within 20 s (120 s where TORTIE_LAB_SLOW is set).
 */
export async function startTortie(host: Host, options: TortieOptions): Promise<TortieNode> {
  const env = {
    ...{ ETCD_ENDPOINTS: options.etcdEndpoint, IP: "autodetect", CALICO_IPV4POOL_CIDR: "10.244.0.0/16" },
    ...{ CALICO_IPV4POOL_IPIP: "Never", CALICO_IPV6POOL_CIDR: "none", CLUSTER_TYPE: "k8s,bgp" },
    ...(options.kubeconfig ? { KUBECONFIG: options.kubeconfig } : {}),
    ...options.env,
  };
  const program = await linkPlugin(host);
  let process = await run(host, program, env, options.role);
  await Deno.writeTextFile(host.path(`${cniConfDir}/10-calico.conflist`), JSON.stringify(network(host, options)));
  return {
    get process() {
      return process;
    },
    async start() {
      process = await run(host, program, env, options.role);
    },
    ctl: (...words) => host.runOk(program, ["ctl", ...words], { env, timeoutMs: isSlow() ? 120_000 : 30_000 }),
  };
}

/**
 * Puts the binary into the host's plugin folder, under the names that a runtime calls.
 * @returns path of the binary that the host uses: a copy for the whole lab, because a build that replaces a compiled program
 * while it starts lets it fail ("Failed reading standalone binary section").
 */
export async function linkPlugin(host: Host): Promise<string> {
  const copy = `${host.dir}/../tortie`;
  if (!await Deno.stat(copy).then(() => true, () => false)) {
    const own = `${host.dir}/tortie.new`;
    await Deno.copyFile(binary, own);
    // Hosts start at once; the first one's stays.
    await Deno.link(own, copy).catch((error) => {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    });
    await Deno.remove(own);
  }
  const program = await Deno.realPath(copy);
  const links = ["calico", "calico-ipam"].map((name) => `ln -sf ${program} ${cniBinDir}/${name}`);
  await host.runOk("sh", ["-c", `mkdir -p ${cniBinDir} ${cniConfDir} && ${links.join(" && ")}`]);
  return program;
}

/** The configuration of the plugin alone, as a runtime hands it over on standard input. */
export function pluginConfig(host: Host, options: TortieOptions): Record<string, unknown> {
  return {
    ...{ name: "k8s-pod-network", cniVersion: "1.0.0", type: "calico", log_level: "info", nodename: host.name },
    ...{ datastore_type: "etcdv3", etcd_endpoints: options.etcdEndpoint, ipam: { type: "calico-ipam" } },
    ...(options.kubeconfig ? { policy: { type: "k8s" }, kubernetes: { kubeconfig: options.kubeconfig } } : {}),
    ...options.plugin,
  };
}

function network(host: Host, options: TortieOptions): unknown {
  const { name, cniVersion, ...plugin } = pluginConfig(host, options);
  return { name, cniVersion, plugins: [plugin] };
}

/** In emulation everything takes its time. */
const isSlow = (): boolean => Deno.env.has("TORTIE_LAB_SLOW");

/** As the unit starts it: before others, under the name that Calico's calicoctl looks for. */
async function run(host: Host, program: string, env: Record<string, string>, role = "node"): Promise<HostProcess> {
  const asUnit = ["-n", "-5", "bash", "-c", 'exec -a calico-felix "$0" "$@"', program, role];
  const process = await host.start("tortie", "nice", asUnit, env);
  await wait(`tortie ${role} on ${host.name} to be ready`, async () => {
    if (process.isEnded) return true;
    return (await host.run("curl", ["-fsS", "--max-time", "2", "http://localhost:9099/readyz"])).code === 0;
  }, isSlow() ? { deadlineMs: 120_000, everyMs: 1000 } : { deadlineMs: 20_000, everyMs: 50 }).catch((error) => {
    throw new Error(`${error.message}; the end of ${process.logFile}:\n${process.logTail()}`);
  });
  if (process.isEnded) throw new Error(`tortie ${role} on ${host.name} ended:\n${process.logTail()}`);
  return process;
}
