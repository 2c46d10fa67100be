import type { ApiObject } from "./api_objects.ts";
import { cniConfDir, type Pod, type Runtime, startContainerd } from "./containerd.ts";
import { type Etcd, startEtcd } from "./etcd.ts";
import type { Host, HostProcess } from "./host.ts";
import { type Lab, makeHosts } from "./hosts.ts";
import { labImage, makeImage } from "./image.ts";
import { startKubelet } from "./kubelet.ts";
import { type ControlPlane, type Kubernetes, kubernetesBinaries, startKubernetes } from "./kubernetes.ts";
import { linkPlugin, startTortie, type TortieNode } from "./tortie.ts";
import { wait } from "./wait.ts";

/** A pod's wishes. Its container is busybox's web server on port 80, which tells the pod's name at /hostname. */
export interface PodWish {
  namespace: string;
  name: string;
  labels: Record<string, string>;
  /** Name of the host. */
  host: string;
  /** A port of the host that leads to the web server. */
  hostPort?: number;
}

/** A pod that has an address. */
export interface RunningPod extends PodWish {
  ip: string;
}

/**
 * Hosts with containerd and `tortie node`, `tortie controllers`, an etcd for both, and Kubernetes: the real programs with a
 * kubelet on each host where KUBERNETES_BINARIES names them; else the lab's API server, with this process in place of
 * scheduler and kubelet.
 */
export interface KubernetesCluster extends AsyncDisposable {
  readonly lab: Lab;
  /** Calico's datastore; Kubernetes has its own. */
  readonly etcd: Etcd;
  readonly api: Kubernetes;
  readonly nodes: TortieNode[];
  readonly controllers: HostProcess;
  /** Creates the pod and waits until it has an address. */
  run(wish: PodWish): Promise<RunningPod>;
  /** Deletes the pod and waits until it is gone from the API. */
  remove(pod: PodWish): Promise<void>;
  /** Changes labels of an object; undefined takes one away. */
  label(kind: "Pod" | "Namespace" | "Node", at: { namespace?: string; name: string }, labels: Labels): Promise<void>;
  /** Whether a pod gets another's page within half a second. */
  reaches(from: RunningPod, to: RunningPod): Promise<boolean>;
  /** What answers at a place ("10.96.0.7:80") within half a second: a pod's name. @param from default: the wire, outside. */
  answers(place: string, from?: RunningPod): Promise<string | undefined>;
  /** Takes all pods from a node, then the node from Kubernetes. */
  drainAndDelete(host: string): Promise<void>;
}

type Labels = Record<string, string | undefined>;

const accounts = ["tortie-node", "tortie-controllers"] as const;

/** Makes it. @param prefix of all names; at most 6 characters. */
export async function makeKubernetesCluster(hosts: number, prefix: string): Promise<KubernetesCluster> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(await makeHosts(hosts, { prefix }));
  const netns = lab.wire.name, address = lab.serverAddress;
  const [etcd, api] = await Promise.all([
    startEtcd({ netns, address, port: 2379, dataDir: `${lab.dir}/etcd` }).then((e) => stack.use(e)),
    startKubernetes({ dir: `${lab.dir}/kube`, netns, address }).then((a) => stack.use(a)),
  ]);
  await prepare(api, lab.hosts);
  const image = await makeImage(lab.dir), runtimes = new Map<string, Runtime>(), nodes: TortieNode[] = [];
  for (const host of lab.hosts) {
    runtimes.set(host.name, stack.use(await startContainerd(host, image, lab.prefix)));
    const kubeconfig = await installed(host, api, "tortie-node");
    nodes.push(
      await startTortie(host, {
        ...{ etcdEndpoint: etcd.endpoint, kubeconfig, env: { CALICO_K8S_NODE_REF: host.name } },
      }),
    );
    await chainPortmap(host);
    if (kubernetesBinaries) await startKubelet(host, api as unknown as ControlPlane, lab.prefix);
  }
  const first = lab.hosts[0]!;
  const controllers = await first.start("controllers", await linkPlugin(first), ["controllers"], {
    ETCD_ENDPOINTS: etcd.endpoint,
    KUBECONFIG: await installed(first, api, "tortie-controllers"),
    LOG_LEVEL: "debug",
  });
  const by: Acting = kubernetesBinaries ? new ByKubelets(api) : new ByHand(api, runtimes);
  const all = stack.move();
  return {
    ...{ lab, etcd, api, nodes, controllers },
    run: (wish) => by.run(wish),
    remove: (pod) => by.remove(pod),
    label: (kind, at, labels) => by.label(kind, at, labels),
    reaches: async (from, to) => await answers(lab, runtimes, to.ip, from) === to.name,
    answers: (place, from) => answers(lab, runtimes, place, from),
    drainAndDelete: (host) => by.drainAndDelete(host),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** The accounts, as the manifests give them, and what the lab's API server does not make by itself. */
async function prepare(api: Kubernetes, hosts: Host[]): Promise<void> {
  if (!kubernetesBinaries) {
    await api.put({ kind: "Namespace", metadata: { name: "kube-system" } });
    for (const { name, address } of hosts) {
      const status = { addresses: [{ type: "InternalIP", address }, { type: "Hostname", address: name }] };
      await api.put({ kind: "Node", metadata: { name }, status });
    }
  }
  await api.apply(await Deno.readTextFile(new URL("../../docs/kubernetes/rbac.yaml", import.meta.url)));
}

/** Lets `tortie install` write the kubeconfig of an account onto a host. @returns its path there. */
async function installed(host: Host, api: Kubernetes, account: typeof accounts[number]): Promise<string> {
  const program = await linkPlugin(host), root = account === "tortie-node" ? "" : `/opt/${account}`;
  await host.runOk("mkdir", ["-p", `${root}/etc`]);
  await host.runOk(program, [
    ...["install", "--kubernetes", "--kubeconfig", api.kubeconfig, "--service-account", `kube-system/${account}`],
    ...["--no-systemd", "--no-cni", "--binary", program, ...(root === "" ? [] : ["--root", root])],
  ]);
  return `${root}/var/lib/tortie/kubeconfig`;
}

/** As the installation chains it where the plugin is there. */
async function chainPortmap(host: Host): Promise<void> {
  const file = host.path(`${cniConfDir}/10-calico.conflist`);
  const config = JSON.parse(await Deno.readTextFile(file)) as { plugins: unknown[] };
  config.plugins.push({ type: "portmap", snat: true, capabilities: { portMappings: true } });
  await Deno.writeTextFile(file, JSON.stringify(config));
}

async function answers(
  lab: Lab,
  runtimes: Map<string, Runtime>,
  place: string,
  from?: RunningPod,
): Promise<string | undefined> {
  const words = ["-fsS", "--connect-timeout", "0.5", "--max-time", "2", `http://${place}/hostname`];
  const host = lab.hosts.find((h) => h.name === from?.host);
  const { code, stdout } = from && host
    ? await host.run("nsenter", [`--net=${await netnsOf(runtimes.get(from.host)!, from)}`, "curl", ...words])
    : await lab.wire.run("curl", words);
  return code === 0 ? stdout.trim() : undefined;
}

/** The network namespace of a pod, as its host knows it. */
async function netnsOf({ cri }: Runtime, pod: PodWish): Promise<string> {
  type Listed = { items: { id: string; state: string | number; metadata: { name: string; namespace: string } }[] };
  const { items } = await cri.call<Listed>("ListPodSandbox", {});
  const ready = items.filter(({ metadata: m, state }) =>
    m.name === pod.name && m.namespace === pod.namespace && Number(state) === 0
  );
  const seen = await cri.call<{ info: Record<string, string> }>("PodSandboxStatus", {
    ...{ pod_sandbox_id: ready[0]?.id ?? "", verbose: true },
  });
  const { runtimeSpec } = JSON.parse(seen.info["info"]!) as {
    runtimeSpec: { linux: { namespaces: { type: string; path?: string }[] } };
  };
  return runtimeSpec.linux.namespaces.find((n) => n.type === "network")!.path!;
}

/** Who does what a cluster does with pods and nodes. */
type Acting = Pick<KubernetesCluster, "run" | "remove" | "label" | "drainAndDelete">;

const podOf = ({ namespace, name, labels, hostPort }: PodWish, more: Record<string, unknown>): ApiObject => ({
  ...{ apiVersion: "v1", kind: "Pod", metadata: { name, namespace, labels } },
  spec: {
    ...{ terminationGracePeriodSeconds: 1, tolerations: [{ operator: "Exists" }], ...more },
    containers: [{
      ...{ name: "main", image: labImage, imagePullPolicy: "Never" },
      ...(hostPort ? { ports: [{ containerPort: 80, hostPort }] } : {}),
      command: ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/etc"],
    }],
  },
});

/** The real scheduler and kubelets act; we only speak to the API, with kubectl. */
class ByKubelets implements Acting {
  readonly #kubectl: ControlPlane["kubectl"];

  constructor(api: Kubernetes) {
    this.#kubectl = (api as unknown as ControlPlane).kubectl;
  }

  async run(wish: PodWish): Promise<RunningPod> {
    const pod = podOf(wish, { nodeSelector: { "kubernetes.io/hostname": wish.host } });
    // A namespace's default account is made a moment after it.
    await wait(`pod ${wish.name} to be taken`, async () => {
      await this.#kubectl(["create", "-f", "-"], JSON.stringify(pod));
      return true;
    }, { deadlineMs: 30_000 });
    const at = ["-n", wish.namespace, "pod", wish.name];
    const ip = await wait(`pod ${wish.name} to be ready`, async () => {
      const text = await this.#kubectl(["get", ...at, "-o", "json"]);
      const { status } = JSON.parse(text) as {
        status: { podIP?: string; conditions?: { type: string; status: string }[] };
      };
      return status.conditions?.some((c) => c.type === "Ready" && c.status === "True") ? status.podIP : undefined;
    }, { deadlineMs: 90_000, everyMs: 200 }).catch(async (error) => {
      throw new Error(`${error.message}\n${await this.#kubectl(["describe", ...at])}`);
    });
    return { ...wish, ip };
  }

  async remove({ namespace, name }: PodWish): Promise<void> {
    await this.#kubectl(["delete", "pod", "-n", namespace, name, "--wait", "--timeout=100s"]);
  }

  async label(kind: string, { namespace, name }: { namespace?: string; name: string }, labels: Labels): Promise<void> {
    const words = Object.entries(labels).map(([key, value]) => (value === undefined ? `${key}-` : `${key}=${value}`));
    await this.#kubectl(["label", "--overwrite", kind, name, ...(namespace ? ["-n", namespace] : []), ...words]);
  }

  async drainAndDelete(host: string): Promise<void> {
    await this.#kubectl(["drain", host, "--force", "--ignore-daemonsets", "--timeout=100s"]);
    await this.#kubectl(["delete", "node", host]);
  }
}

/** This process acts for scheduler and kubelets, over the lab's API server and the hosts' containerds. */
class ByHand implements Acting {
  readonly #pods = new Map<string, { pod: Pod; wish: PodWish }>();
  readonly #objects = new Map<string, ApiObject>();

  constructor(private readonly api: Kubernetes, private readonly runtimes: Map<string, Runtime>) {}

  async run(wish: PodWish): Promise<RunningPod> {
    const uid = crypto.randomUUID(), { namespace, name } = wish;
    const object = podOf(wish, { nodeName: wish.host, serviceAccountName: "default" });
    object.metadata.uid = uid;
    await this.#put(object);
    const pod = await this.runtimes.get(wish.host)!.runPod({ namespace, name, uid, hostPort: wish.hostPort });
    await pod.start(["httpd", "-f", "-p", "80", "-h", "/etc"]);
    const ip = pod.addresses[0]!;
    await this.#put({ ...object, status: { phase: "Running", podIP: ip, podIPs: [{ ip }] } });
    this.#pods.set(`${namespace}/${name}`, { pod, wish });
    return { ...wish, ip };
  }

  async remove({ namespace, name }: PodWish): Promise<void> {
    await this.#pods.get(`${namespace}/${name}`)!.pod.remove();
    this.#pods.delete(`${namespace}/${name}`);
    await this.api.delete("pods", namespace, name);
  }

  async label(kind: string, at: { namespace?: string; name: string }, labels: Labels): Promise<void> {
    const known = this.#objects.get(idOf(kind, at)) ?? { apiVersion: "v1", kind, metadata: { ...at } };
    const next = { ...known.metadata.labels, ...labels };
    const kept = Object.fromEntries(Object.entries(next).filter(([, v]) => v !== undefined)) as Record<string, string>;
    await this.#put({ ...known, metadata: { ...known.metadata, labels: kept } });
  }

  async drainAndDelete(host: string): Promise<void> {
    for (const { wish } of [...this.#pods.values()].filter(({ wish }) => wish.host === host)) await this.remove(wish);
    await this.api.delete("nodes", undefined, host);
  }

  async #put(object: ApiObject): Promise<void> {
    this.#objects.set(idOf(object.kind!, object.metadata), object);
    await this.api.put(object);
  }
}

const idOf = (kind: string, { namespace, name }: { namespace?: string; name: string }) =>
  `${kind}/${namespace ?? ""}/${name}`;
