import { startEtcd } from "../lab/etcd.ts";
import type { Etcd } from "../lab/etcd.ts";
import type { ApiObject } from "../lab/api_objects.ts";
import { type LocalApiServer, serveApi } from "../lab/api_server.ts";
import { uniqueSuffix } from "../lab/port.ts";
import { wait } from "../lab/wait.ts";

/** Below it lie all resources. */
export const v3 = "/calico/resources/v3/projectcalico.org";
const root = new URL("../..", import.meta.url).pathname;

/** `tortie controllers` in a process of its own, out of the sources or the program that TORTIE_BINARY names. */
export class Instance implements AsyncDisposable {
  #child: Deno.ChildProcess;
  readonly #log: Promise<void>;
  text = "";

  constructor(env: Record<string, string>, flags: string[]) {
    const binary = Deno.env.get("TORTIE_BINARY");
    const [program, ...args] = binary ? [binary] : [Deno.execPath(), "run", "-A", "--quiet", `${root}main.ts`];
    const whole = ["--pdeathsig", "KILL", "--", program!, ...args, "controllers", ...flags];
    const pipes = { stdin: "null", stdout: "null", stderr: "piped" } as const;
    this.#child = new Deno.Command("setpriv", { args: whole, env, ...pipes }).spawn();
    this.#log = this.#read();
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#child.stderr.pipeThrough(new TextDecoderStream())) this.text += chunk;
  }

  async works(): Promise<this> {
    await wait("an instance that works", () => this.text.includes('"this instance works"')).catch((error) => {
      throw new Error(`${error.message}\n${this.text}`);
    });
    return this;
  }

  async end(signal: Deno.Signal): Promise<number> {
    this.#child.kill(signal);
    const { code } = await this.#child.status;
    await this.#log;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch { /* it had ended */ }
    await this.#child.status;
    await this.#log;
  }
}

/** A way to the API server that can be taken away: connections break, new ones are refused. */
export class Way implements AsyncDisposable {
  #listener: Deno.TcpListener | undefined;
  readonly port: number;
  readonly #ends = new Set<Deno.TcpConn>();

  constructor(private readonly to: number) {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = (listener.addr as Deno.NetAddr).port;
    this.#listener = listener;
    this.#serve(listener);
  }

  /** No connection stands, and none can be made. */
  takeAway(): void {
    this.#listener?.close();
    this.#listener = undefined;
    for (const end of this.#ends) this.#close(end);
  }

  async giveBack(): Promise<void> {
    const listener = await wait("the port", () => Deno.listen({ hostname: "127.0.0.1", port: this.port }));
    this.#listener = listener;
    this.#serve(listener);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.takeAway();
    return Promise.resolve();
  }

  async #serve(listener: Deno.TcpListener): Promise<void> {
    for await (const from of listener) {
      const there = await Deno.connect({ hostname: "127.0.0.1", port: this.to });
      for (const end of [from, there]) this.#ends.add(end);
      this.#pipe(from, there);
      this.#pipe(there, from);
    }
  }

  async #pipe(from: Deno.TcpConn, to: Deno.TcpConn): Promise<void> {
    try {
      for await (const chunk of from.readable) {
        for (let at = 0; at < chunk.length;) at += await to.write(chunk.subarray(at));
      }
    } catch {
      /* cut */
    } finally {
      this.#close(from);
      this.#close(to);
    }
  }

  #close(end: Deno.TcpConn): void {
    if (!this.#ends.delete(end)) return;
    try {
      end.close();
    } catch { /* the stream had closed it */ }
  }
}

/** etcd, an API server, and the way between it and the instances. */
export interface World {
  /** The file of the instances' token. */
  tokenFile: string;
  etcd: Etcd;
  api: LocalApiServer;
  way: Way;
  start(env?: Record<string, string>, ...flags: string[]): Instance;
}

/** Plays with etcd, an API server, and controllers that can be started. */
export async function inWorld(play: (world: World) => Promise<void>): Promise<void> {
  const dir = `/dev/shm/kc-${uniqueSuffix()}`;
  try {
    await using etcd = await startEtcd();
    await using api = await serveApi(dir);
    await using way = new Way(Number(new URL(api.url).port));
    const kubeconfig = `${dir}/way`;
    const text = await Deno.readTextFile(api.kubeconfig);
    const withFile = text.replace(/token: .*/, `tokenFile: ${dir}/token`)
      .replace(/certificate-authority-data: .*/, `certificate-authority: ${api.caFile}`);
    await Deno.writeTextFile(kubeconfig, withFile.replace(api.url, `https://127.0.0.1:${way.port}`));
    const env = { ETCD_ENDPOINTS: etcd.endpoint, KUBECONFIG: kubeconfig, LOG_LEVEL: "debug" };
    await play({
      etcd,
      api,
      way,
      tokenFile: `${dir}/token`,
      start: (more, ...flags) => new Instance({ ...env, ...more }, flags),
    });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** A Namespace. */
export const namespace = (name: string, labels: Record<string, string> = {}): ApiObject => ({
  kind: "Namespace",
  metadata: { name, labels: { "kubernetes.io/metadata.name": name, ...labels } },
});
/** A ServiceAccount. */
export const account = (name: string, ns: string): ApiObject => ({
  kind: "ServiceAccount",
  metadata: { name, namespace: ns, labels: { app: name } },
});
/** A NetworkPolicy: who is red may call who has the color, at port 80. */
export const policy = (name: string, ns: string, color = "blue"): ApiObject => ({
  kind: "NetworkPolicy",
  apiVersion: "networking.k8s.io/v1",
  metadata: { name, namespace: ns },
  spec: {
    podSelector: { matchLabels: { color } },
    ingress: [{ from: [{ podSelector: { matchLabels: { color: "red" } } }], ports: [{ port: 80 }] }],
  },
});
/** Pod production/customer on node-a. */
export const pod = (labels: Record<string, string>, ip: string): ApiObject => ({
  kind: "Pod",
  metadata: { name: "customer", namespace: "production", labels },
  spec: { nodeName: "node-a", serviceAccountName: "summary" },
  status: { phase: "Running", podIP: ip, podIPs: [{ ip }] },
});
/** Where the endpoint of that pod stands. */
export const endpointKey = `${v3}/workloadendpoints/production/node--a-k8s-customer-eth0`;
/** The endpoint of that pod, as a CNI plugin wrote it. */
export const endpoint = {
  ...{ kind: "WorkloadEndpoint", apiVersion: "projectcalico.org/v3" },
  metadata: {
    ...{ name: "node--a-k8s-customer-eth0", namespace: "production", uid: "7ae6cf4a-9ac1-4d35-9ca0-1d3aa8d5d0a1" },
    ...{ creationTimestamp: "2026-11-21T08:18:07Z", labels: { app: "customer" } },
  },
  spec: {
    ...{ orchestrator: "k8s", node: "node-a", pod: "customer", endpoint: "eth0", unknown: "stays" },
    ...{ ipNetworks: ["192.168.0.7/32"], interfaceName: "cali123", profiles: ["kns.production"] },
  },
};

/** The endpoint's address as IPAM has it: ordinal 7 of a block of node-a. */
export async function giveAddress(etcd: Etcd): Promise<void> {
  const ipam = "/calico/ipam/v2", handle = "k8s-pod-network.ab", cidr = "192.168.0.0/26";
  const pool = { kind: "IPPool", apiVersion: "projectcalico.org/v3", metadata: { ...endpoint.metadata, name: "pods" } };
  const block = {
    ...{ cidr, affinity: "host:node-a", sequenceNumber: 2, sequenceNumberForAllocation: { 7: 1 }, deleted: false },
    allocations: Array.from({ length: 64 }, (_, i) => (i === 7 ? 0 : null)),
    unallocated: Array.from({ length: 64 }, (_, i) => i).filter((i) => i !== 7),
    attributes: [{ handle_id: handle, secondary: { namespace: "production", node: "node-a", pod: "customer" } }],
  };
  const values: [string, unknown][] = [
    [`${v3}/ippools/pods`, { ...pool, spec: { cidr: "192.168.0.0/16", blockSize: 26, nodeSelector: "all()" } }],
    [`${ipam}/assignment/ipv4/block/192.168.0.0-26`, block],
    [`${ipam}/host/node-a/ipv4/block/192.168.0.0-26`, { state: "confirmed", deleted: false }],
    [`${ipam}/handle/${handle}`, { block: { [cidr]: 1 }, deleted: false }],
  ];
  for (const [key, value] of values) await etcd.etcdctl("put", key, JSON.stringify(value));
}

/** A value of etcd, as text. */
export const valueOf = async (etcd: Etcd, key: string) => (await etcd.dump(key)).get(key);
/** A value of etcd, as an object; null = there is none. */
// deno-lint-ignore no-explicit-any
export const objectOf = async (etcd: Etcd, key: string): Promise<any> => JSON.parse(await valueOf(etcd, key) ?? "null");
/** etcd's revision. */
export const revisionOf = async (etcd: Etcd): Promise<number> =>
  JSON.parse(await etcd.etcdctl("get", "x", "-w", "json")).header.revision;
/** Revisions of all resources: what does not change was not written. */
export async function resourcesOf(etcd: Etcd): Promise<string[]> {
  const { kvs = [] } = JSON.parse(await etcd.etcdctl("get", "--prefix", v3, "-w", "json"));
  return kvs.map((kv: { key: string; mod_revision: number }) => `${atob(kv.key)} ${kv.mod_revision}`);
}
