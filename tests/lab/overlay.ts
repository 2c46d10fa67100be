import { keepArtefacts } from "./artefacts.ts";
import { cniBinDir } from "./containerd.ts";
import { type Etcd, startEtcd } from "./etcd.ts";
import type { Host } from "./host.ts";
import { type Lab, makeHosts } from "./hosts.ts";
import { pluginConfig, startTortie, type TortieNode } from "./tortie.ts";

/** How an overlay is made. */
export interface OverlayOptions {
  hosts: number;
  /** Numbers of the hosts (from 1) that stand in another subnet, behind a router. */
  far?: number[];
  /** At most 6 characters. */
  prefix: string;
  /** Environment of every node. */
  env?: Record<string, string>;
  /** Pods get an IPv6 address, too. */
  ipv6?: boolean;
  /** All nodes start at once; otherwise the first makes the pools alone. */
  together?: boolean;
}

/** A network namespace of a host that the CNI plugin wired. */
export interface OverlayPod {
  name: string;
  host: Host;
  addresses: string[];
  /** Runs a program in it. */
  run(...words: string[]): Promise<{ code: number; stdout: string; stderr: string }>;
  /** Sends pings to an address. @returns how many came back. */
  ping(address: string, options?: { count?: number; bytes?: number; everyS?: number }): Promise<number>;
  /** Calls the plugin's DEL. */
  remove(): Promise<void>;
}

/** Hosts with a `tortie node` each and an etcd, without containerd and Kubernetes: for what travels between hosts. */
export interface Overlay extends AsyncDisposable {
  lab: Lab;
  etcd: Etcd;
  nodes: TortieNode[];
  /** Wires a pod on host number `host`, from 0. */
  pod(host: number, name: string): Promise<OverlayPod>;
  /** `tortie ctl apply` of a resource, on the first host. */
  apply(resource: Record<string, unknown>): Promise<void>;
  /** Changes a resource's spec. */
  patch(kind: string, name: string, spec: Record<string, unknown>): Promise<void>;
}

/** Makes hosts, some of them behind a router, and starts a node on each. */
export async function makeOverlay(options: OverlayOptions): Promise<Overlay> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(await makeHosts(options.hosts, { prefix: options.prefix }));
  const etcd = stack.use(
    await startEtcd({
      ...{ netns: lab.wire.name, address: lab.serverAddress, port: 2379, dataDir: `${lab.dir}/etcd` },
    }),
  );
  if (options.far?.length) await behindRouter(lab, options.far);
  const told = { etcdEndpoint: etcd.endpoint, env: { CLUSTER_TYPE: "bare-metal", ...options.env } };
  const nodes: TortieNode[] = [];
  try {
    // Together they would race for making the pools, which is legal.
    const alone = options.together ? 0 : 1;
    for (const host of lab.hosts.slice(0, alone)) nodes.push(await startTortie(host, told));
    nodes.push(...await Promise.all(lab.hosts.slice(alone).map((host) => startTortie(host, told))));
  } catch (error) {
    console.error(`what was there is kept in ${await keepArtefacts(options.prefix, lab)}`);
    throw error;
  }
  const all = stack.move();
  const onFirst = async (file: string, words: string[], text: string) => {
    await Deno.writeTextFile(`${lab.hosts[0]!.dir}/${file}`, text);
    await nodes[0]!.ctl(...words);
  };
  return {
    ...{ lab, etcd, nodes },
    pod: (host, name) => wirePod(lab.hosts[host]!, name, etcd.endpoint, options.ipv6 ?? false),
    apply: (resource) => {
      const file = `${lab.hosts[0]!.dir}/resource.json`;
      const text = JSON.stringify({ apiVersion: "projectcalico.org/v3", ...resource });
      return onFirst("resource.json", ["apply", "-f", file], text);
    },
    patch: async (kind, name, spec) => void await nodes[0]!.ctl("patch", kind, name, "-p", JSON.stringify({ spec })),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** The machine with etcd becomes a router between two subnets of one wire. */
async function behindRouter(lab: Lab, far: number[]): Promise<void> {
  const { wire } = lab;
  await wire.ip("addr add 172.31.0.1/24 dev wire0");
  await wire.ip("addr add fd00:31::1/64 dev wire0 nodad");
  const on = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.send_redirects=0 " +
    "net.ipv4.conf.wire0.send_redirects=0";
  await wire.runOk("sysctl", ["-qw", ...on.split(" ")]);
  for (const [i, host] of lab.hosts.entries()) {
    const isFar = far.includes(i + 1), ip = (words: string) => host.runOk("ip", words.split(" "));
    if (!isFar) {
      await ip("-6 route add default via fd00:30::1");
      continue;
    }
    await ip("addr flush dev eth0 scope global");
    await ip(`addr add 172.31.0.${11 + i}/24 dev eth0`);
    await ip(`addr add fd00:31::${11 + i}/64 dev eth0 nodad`);
    await ip("route add default via 172.31.0.1");
    await ip("-6 route add default via fd00:31::1");
  }
}

async function wirePod(host: Host, name: string, etcdEndpoint: string, ipv6: boolean): Promise<OverlayPod> {
  const ipam = { type: "calico-ipam", assign_ipv4: "true", ...(ipv6 ? { assign_ipv6: "true" } : {}) };
  const config = JSON.stringify(pluginConfig(host, { etcdEndpoint, plugin: { ipam } }));
  const netns = `/run/netns/${name}`;
  await host.runOk("ip", ["netns", "add", name]);
  const call = async (command: string) => {
    const env = { CNI_COMMAND: command, CNI_CONTAINERID: `c-${name}`, CNI_NETNS: netns, CNI_IFNAME: "eth0" };
    const { code, stdout, stderr } = await host.run(`${cniBinDir}/calico`, [], {
      ...{ stdin: config, env: { ...env, CNI_PATH: cniBinDir } },
      timeoutMs: 30_000,
    });
    if (code !== 0) throw new Error(`CNI ${command} of ${name}: ${stdout}${stderr}`);
    return stdout;
  };
  const result = JSON.parse(await call("ADD")) as { ips: { address: string }[] };
  const addresses = result.ips.map(({ address }) => address.split("/")[0]!);
  const run = (...words: string[]) => host.run("ip", ["netns", "exec", name, ...words], { timeoutMs: 60_000 });
  return {
    ...{ name, host, addresses, run },
    async ping(address, { count = 1, bytes, everyS = 0.1 } = {}) {
      const size = bytes === undefined ? [] : ["-M", "do", "-s", String(bytes - (address.includes(":") ? 48 : 28))];
      const words = ["ping", "-n", "-q", "-c", String(count), "-i", String(everyS), "-W", "2", ...size, address];
      return Number(/(\d+) received/.exec((await run(...words)).stdout)?.[1] ?? 0);
    },
    async remove() {
      await call("DEL");
      await host.runOk("ip", ["netns", "delete", name]);
    },
  };
}
