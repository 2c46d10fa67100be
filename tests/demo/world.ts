import { runOk } from "../../lib/process.ts";
import { keepArtefacts } from "../lab/artefacts.ts";
import { ApiServer, startApiServer } from "../lab/api_server.ts";
import { Pod, Runtime, startContainerd } from "../lab/containerd.ts";
import { Etcd, startEtcd } from "../lab/etcd.ts";
import { Lab, makeHosts } from "../lab/hosts.ts";
import { makeImage } from "../lab/image.ts";
import { startTortie, TortieNode } from "../lab/tortie.ts";
import type { Story } from "./story.ts";

/** Everything that stands during the demo; lists are in the order of the hosts. */
export interface World extends AsyncDisposable {
  lab: Lab;
  etcd: Etcd;
  api: ApiServer;
  runtimes: Runtime[];
  nodes: TortieNode[];
  /** web-1 to web-6, two a host. */
  pods: Pod[];
}

/** Namespace of the demo's pods. */
export const namespace = "shop";

/** Makes the world, step by step; what was made goes again when a step fails. */
export async function makeWorld(story: Story, keep: boolean): Promise<World> {
  const stack = new AsyncDisposableStack();
  story.step("three hosts on a wire, beside them a machine with etcd and a Kubernetes API");
  const lab = stack.use(await makeHosts(3, { prefix: "demo", outlive: keep }));
  try {
    const address = lab.serverAddress, netns = lab.wire.name;
    const [etcd, api] = await Promise.all([
      startEtcd({ netns, address, port: 2379, dataDir: `${lab.dir}/etcd`, outlive: keep }).then((e) => stack.use(e)),
      startApiServer({ dir: `${lab.dir}/api`, netns, address, port: 6443, outlive: keep }).then((a) => stack.use(a)),
    ]);
    for (const host of lab.hosts) story.say(`${host.name}  ${host.address}  (process 1 is ${host.pid} here)`);
    story.say(`etcd  ${etcd.endpoint}\nKubernetes API  ${api.url}`);
    await fillApi(api, lab);

    story.step("containerd, and `tortie node` with its BIRD, on each host");
    const image = await makeImage(lab.dir);
    const options = { etcdEndpoint: etcd.endpoint, kubeconfig: api.kubeconfig };
    const started = await Promise.all(lab.hosts.map(async (host) => {
      const [runtime, node] = await Promise.all([
        startContainerd(host, image, lab.prefix),
        startTortie(host, options),
      ]);
      return { runtime, node };
    }));
    const runtimes = started.map((s) => stack.use(s.runtime)), nodes = started.map((s) => s.node);

    story.step("six pods through containerd, as a kubelet would start them");
    const pods = await startPods(lab, api, runtimes);
    for (const [i, pod] of pods.entries()) {
      story.say(`${pod.name}  ${lab.hosts[i >> 1]!.name}  ${pod.addresses.join(" ")}`);
    }
    const all = stack.move();
    return {
      ...{ lab, etcd, api, runtimes, nodes, pods },
      [Symbol.asyncDispose]: () => all.disposeAsync(),
    };
  } catch (error) {
    story.say(`logs, rules and routes are in ${await keepArtefacts("demo", lab)}`);
    if (!keep) await stack.disposeAsync();
    throw error;
  }
}

async function fillApi(api: ApiServer, lab: Lab): Promise<void> {
  await api.put({ kind: "Namespace", metadata: { name: namespace, labels: { team: "web" } } });
  await api.put({ kind: "ServiceAccount", metadata: { name: "default", namespace } });
  for (const host of lab.hosts) {
    const addresses = [{ type: "InternalIP", address: host.address }, { type: "Hostname", address: host.name }];
    await api.put({ kind: "Node", metadata: { name: host.name }, status: { addresses } });
  }
}

/** Creates each Pod in the API, then its sandbox and a web server in it. The pods of different hosts start at once. */
async function startPods(lab: Lab, api: ApiServer, runtimes: Runtime[]): Promise<Pod[]> {
  const perHost = await Promise.all(runtimes.map(async (runtime, i) => {
    const pods: Pod[] = [];
    for (const name of [`web-${2 * i + 1}`, `web-${2 * i + 2}`]) {
      const uid = crypto.randomUUID();
      await api.put({
        kind: "Pod",
        metadata: { name, namespace, uid, labels: { app: "web" } },
        spec: { nodeName: lab.hosts[i]!.name, serviceAccountName: "default", containers: [{ name: "main" }] },
        status: { phase: "Pending" },
      });
      const pod = await runtime.runPod({ namespace, name, uid });
      await pod.start(["httpd", "-f", "-p", "80", "-h", "/etc"]);
      pods.push(pod);
    }
    return pods;
  }));
  return perHost.flat();
}

/** Names of anything of this lab that is still there: namespaces, mounts, control groups, files, processes. */
export async function leftovers(prefix: string): Promise<string[]> {
  const left: string[] = [];
  for (const line of (await runOk("ip", ["netns", "list"])).split("\n")) {
    if (line.startsWith(prefix)) left.push(`network namespace ${line}`);
  }
  for (const line of (await Deno.readTextFile("/proc/self/mounts")).split("\n")) {
    if (line.includes(prefix)) left.push(`mount ${line.split(" ")[1]}`);
  }
  const folders = await runOk("find", ["/sys/fs/cgroup", "/dev/shm", "-maxdepth", "3", "-name", `${prefix}*`]);
  left.push(...folders.split("\n").filter((f) => f !== ""));
  for await (const entry of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(entry.name) || Number(entry.name) === Deno.pid) continue;
    const words = await Deno.readTextFile(`/proc/${entry.name}/cmdline`).catch(() => "");
    if (words.includes(prefix)) left.push(`process ${entry.name}: ${words.replaceAll("\0", " ").slice(0, 60)}`);
  }
  return left;
}
