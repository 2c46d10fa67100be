import { keepArtefacts } from "./artefacts.ts";
import { ApiServer, startApiServer } from "./api_server.ts";
import { Pod, Runtime, startContainerd } from "./containerd.ts";
import { Etcd, startEtcd } from "./etcd.ts";
import { Lab, makeHosts } from "./hosts.ts";
import { makeImage } from "./image.ts";
import { startTortie, TortieNode, TortieOptions } from "./tortie.ts";

/** What a cluster is made of. */
export interface ClusterOptions {
  hosts: number;
  /** Begins the names of everything that is made; at most 6 characters. */
  prefix: string;
  /** Everything lives on when this process ends. */
  outlive?: boolean;
  /** What each node is told; etcd and Kubernetes are filled in. */
  node?: Partial<TortieOptions>;
  /** Called when the next part begins. */
  onStep?: (what: string) => void;
}

/** Hosts with containerd and a `tortie node` each, an etcd and a Kubernetes API. Lists are in the order of the hosts. */
export interface Cluster extends AsyncDisposable {
  lab: Lab;
  etcd: Etcd;
  api: ApiServer;
  runtimes: Runtime[];
  nodes: TortieNode[];
  /** Creates the Pod in the API and runs it on host number `host`, with a container of busybox's `words`. */
  runPod(host: number, name: string, words?: string[], labels?: Record<string, string>): Promise<Pod>;
}

/** Namespace of a cluster's pods. */
export const namespace = "shop";

/** A web server that tells the pod's name at /hostname. */
export const webServer = ["httpd", "-f", "-p", "80", "-h", "/etc"];

/** Makes a cluster. When a part does not start, what was there is kept in `build/artefacts/<prefix>`, and all of it goes. */
export async function makeCluster(options: ClusterOptions): Promise<Cluster> {
  const { prefix, outlive = false, onStep = () => {} } = options;
  const stack = new AsyncDisposableStack();
  onStep(`${options.hosts} hosts on a wire, beside them a machine with etcd and a Kubernetes API`);
  const lab = stack.use(await makeHosts(options.hosts, { prefix, outlive }));
  try {
    const address = lab.serverAddress, netns = lab.wire.name;
    const [etcd, api] = await Promise.all([
      startEtcd({ netns, address, port: 2379, dataDir: `${lab.dir}/etcd`, outlive }).then((e) => stack.use(e)),
      startApiServer({ netns, address, port: 6443, dir: `${lab.dir}/api`, outlive }).then((a) => stack.use(a)),
    ]);
    await fillApi(api, lab);
    await writeProfiles(etcd);
    onStep("containerd, and `tortie node` with its BIRD, on each host");
    const image = await makeImage(lab.dir);
    const told = { etcdEndpoint: etcd.endpoint, kubeconfig: api.kubeconfig, ...options.node };
    const started = await Promise.all(
      lab.hosts.map((host) => Promise.all([startContainerd(host, image, lab.prefix), startTortie(host, told)])),
    );
    const runtimes = started.map(([runtime]) => stack.use(runtime)), nodes = started.map(([, node]) => node);
    const all = stack.move();
    return {
      ...{ lab, etcd, api, runtimes, nodes },
      runPod: (host, name, words = webServer, labels = {}) =>
        runPod(api, runtimes[host]!, lab.hosts[host]!.name, name, words, labels),
      [Symbol.asyncDispose]: () => all.disposeAsync(),
    };
  } catch (error) {
    console.error(`what was there is kept in ${await keepArtefacts(prefix, lab)}`);
    if (!outlive) await stack.disposeAsync();
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

/**
 * What Calico's controllers write for a namespace and a service account: without its namespace's profile, a pod is denied
 * everything.
 */
async function writeProfiles(etcd: Etcd): Promise<void> {
  const allow = { ingress: [{ action: "Allow" }], egress: [{ action: "Allow" }] };
  const specs: Record<string, unknown> = {
    [`kns.${namespace}`]: { ...allow, labelsToApply: { "pcns.projectcalico.org/name": namespace, "pcns.team": "web" } },
    [`ksa.${namespace}.default`]: { labelsToApply: { "pcsa.projectcalico.org/name": "default" } },
  };
  for (const [name, spec] of Object.entries(specs)) {
    const metadata = { name, uid: crypto.randomUUID(), creationTimestamp: "2026-01-02T03:04:05Z" };
    const profile = { kind: "Profile", apiVersion: "projectcalico.org/v3", metadata, spec };
    await etcd.etcdctl("put", `/calico/resources/v3/projectcalico.org/profiles/${name}`, JSON.stringify(profile));
  }
}

async function runPod(
  api: ApiServer,
  runtime: Runtime,
  host: string,
  name: string,
  words: string[],
  labels: Record<string, string>,
): Promise<Pod> {
  const uid = crypto.randomUUID();
  await api.put({
    kind: "Pod",
    metadata: { name, namespace, uid, labels: { app: "web", name, ...labels } },
    spec: { nodeName: host, serviceAccountName: "default", containers: [{ name: "main" }] },
    status: { phase: "Pending" },
  });
  const pod = await runtime.runPod({ namespace, name, uid });
  await pod.start(words);
  return pod;
}
