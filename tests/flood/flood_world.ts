import type { Resource } from "../../datastore/kind.ts";
import { resourceKey } from "../../datastore/keys.ts";
import { runOk } from "../../lib/process.ts";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import { connect, makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";
import type { Variant } from "../packets/loader.ts";
import { baseResources, nodeName, type PodName, pods, profileOfPods } from "./flood_policy.ts";
import { openWires, type Wires } from "./wires.ts";

/** What is put into etcd, or deleted, in one transaction. */
export interface Writes {
  put?: Resource[];
  del?: Resource[];
}

/** Where the host has an address that pods and outside may try. */
export const hostAddress = "192.0.2.1";
/** UDP port at which the host itself listens. */
export const hostPort = 5555;

/**
 * A host with an agent, etcd, namespaces for pods and the outside, and sockets in all of them. Pods come and go by CNI
 * calls; their namespaces and sockets stay, so that a pod sends from the moment on at which it can.
 */
export class FloodWorld implements AsyncDisposable {
  readonly wires: Record<string, Wires> = {};
  readonly #spaces = new Map<PodName, Namespace>();
  /** IPv4 and IPv6 address of a pod that is there. */
  readonly addresses = new Map<PodName, string[]>();
  readonly #env: Record<string, string>;
  /** Of the last commit. */
  #revision = 0;

  private constructor(
    readonly agent: AgentWorld,
    readonly variant: Variant,
    readonly outside: Namespace,
    env: Record<string, string>,
    private readonly stack: AsyncDisposableStack,
  ) {
    this.#env = { ...env, FELIX_IPTABLESBACKEND: variant };
  }

  /** Makes host, agent, policies and the pods a, b and p. @param env of the agent, beside the variant. */
  static async make(prefix: string, variant: Variant, env: Record<string, string>): Promise<FloodWorld> {
    const stack = new AsyncDisposableStack();
    try {
      const agent = stack.use(await makeAgentWorld(prefix));
      const outside = stack.use(await makeNamespace(`${prefix}o`));
      const world = new FloodWorld(agent, variant, outside, env, stack);
      await world.#connect();
      await putCluster(agent, nodeName, [
        { name: "p4", cidr: "10.65.0.0/16", blockSize: 26 },
        { name: "p6", cidr: "fd00:65::/112", blockSize: 122 },
      ]);
      await world.commit({ put: baseResources() });
      await world.startAgent();
      for (const name of ["a", "b", "p"] as const) await world.add(name);
      await world.relabel("p", {}, { profiles: ["prof-one"] });
      return world;
    } catch (error) {
      await stack.disposeAsync();
      throw error;
    }
  }

  get host(): Namespace {
    return this.agent.host;
  }

  async #connect(): Promise<void> {
    const { host, outside, stack } = this;
    await host.runOk("sysctl", ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]);
    await connect(
      { in: host, name: "ext0", addresses: [`${hostAddress}/24`, "2001:db8::1/64"] },
      { in: outside, name: "eth0", addresses: ["192.0.2.2/24", "2001:db8::2/64"] },
    );
    await host.ip("route add default via 192.0.2.2 dev ext0");
    // What is sent to a pod that is not there must not come out outside.
    await host.ip("route add blackhole 10.65.0.0/16 metric 4000");
    await outside.ip(`route add default via ${hostAddress} dev eth0`);
    for (const name of Object.keys(pods) as PodName[]) {
      this.#spaces.set(name, await this.agent.pod());
    }
    for (const space of [outside, ...this.#spaces.values()]) await silence(space);
    const open = (name: string, space: Namespace, port?: number) =>
      this.wires[name] = stack.use(openWires(space.path, port));
    open("host", host, hostPort);
    open("outside", outside);
    for (const [name, space] of this.#spaces) open(name, space);
  }

  /** Starts the agent and waits until it is in sync. */
  async startAgent(): Promise<void> {
    await this.agent.start({ node: nodeName, env: this.#env });
  }

  /** Writes all of it in one transaction. */
  async commit({ put = [], del = [] }: Writes): Promise<void> {
    const keyOf = (r: Resource) => base64(resourceKey(r.kind, r.metadata.name, r.metadata.namespace));
    const { header } = await this.#etcd("txn", {
      success: [
        ...del.map((r) => ({ request_delete_range: { key: keyOf(r) } })),
        ...put.map((r) => ({ request_put: { key: keyOf(r), value: base64(JSON.stringify(r)) } })),
      ],
    }) as { header: { revision: string } };
    this.#revision = Number(header.revision);
  }

  /** Waits until the agent has taken in the last commit, and has nothing to write. */
  async caughtUp(): Promise<void> {
    await wait(`the agent to be at revision ${this.#revision}`, async () => {
      const { body } = await this.agent.get("/v1/status");
      const { revision, policy } = body as { revision?: string | number; policy?: { inSync: boolean } };
      return Number(revision) >= this.#revision && policy?.inSync;
    }, { deadlineMs: 20_000 });
  }

  /** Changes labels and other fields of a pod's endpoint. */
  async relabel(pod: PodName, labels: Record<string, string>, spec: object = {}): Promise<void> {
    const old = await this.endpoint(pod);
    const metadata = { ...old.metadata, labels: { ...old.metadata.labels, ...labels } };
    await this.commit({ put: [{ ...old, metadata, spec: { ...old.spec as object, ...spec } }] });
  }

  /** A pod's endpoint as it is stored. */
  async endpoint(pod: PodName): Promise<Resource> {
    const prefix = resourceKey("WorkloadEndpoint", "", "default");
    const { kvs } = await this.#etcd("range", {
      key: base64(prefix),
      range_end: base64(`${prefix.slice(0, -1)}0`),
    }) as { kvs: { value: string }[] };
    const all = kvs.map(({ value }) => JSON.parse(new TextDecoder().decode(bytesOf(value))) as Resource);
    const found = all.find((r) => (r.spec as { containerID?: string }).containerID === pods[pod].containerId);
    if (!found) throw new Error(`pod ${pod} has no endpoint`);
    return found;
  }

  async #etcd(call: "txn" | "range", body: object): Promise<unknown> {
    const url = `http://127.0.0.1:${this.agent.etcd.port}/v3/kv/${call}`;
    const text = await runOk("nsenter", [
      ...[`--net=${this.host.path}`, "curl", "-sS", "--fail-with-body", "--max-time", "10", "-d", "@-", url],
    ], { stdin: JSON.stringify(body) });
    return JSON.parse(text);
  }

  /** CNI ADD. @param ip the IPv4 address it shall get; without one it gets one of each family. */
  async add(pod: PodName, ip?: string): Promise<void> {
    const { containerId, labels } = pods[pod];
    const mesos = Object.entries(labels).map(([key, value]) => ({ key, value }));
    const result = await this.agent.call({
      ...{ command: "ADD", containerId, netns: this.#spaces.get(pod)!.path },
      args: ip ? `IP=${ip}` : undefined,
      config: {
        ...network,
        ipam: { type: "calico-ipam", assign_ipv4: "true", assign_ipv6: ip ? "false" : "true" },
        args: { "org.apache.mesos": { network_info: { labels: { labels: mesos } } } },
      },
    });
    if (result.code !== 0) throw new Error(`ADD of ${pod}: ${result.stdout} ${result.stderr}\n${this.agent.log()}`);
    const { ips } = result.json as { ips: { address: string }[] };
    this.addresses.set(pod, ips.map(({ address }) => address.split("/")[0]!));
  }

  /** CNI DEL. */
  async remove(pod: PodName): Promise<void> {
    const { containerId } = pods[pod];
    const netns = this.#spaces.get(pod)!.path;
    const result = await this.agent.call({ command: "DEL", containerId, netns, config: network });
    if (result.code !== 0) throw new Error(`DEL of ${pod}: ${result.stdout} ${result.stderr}`);
    this.addresses.delete(pod);
  }

  /** Host side of a pod that is there. */
  async interfaceOf(pod: PodName): Promise<string> {
    return ((await this.endpoint(pod)).spec as { interfaceName: string }).interfaceName;
  }

  /** An iptables command of the variant under test, IPv4 and IPv6. */
  async iptables(...args: string[]): Promise<void> {
    for (const program of ["iptables", "ip6tables"]) await this.host.runOk(`${program}-${this.variant}`, args);
  }

  /** Name of the set in use whose members hold all these words. */
  async setWith(...members: string[]): Promise<string> {
    return await wait(`a set with ${members}`, async () => {
      const text = await this.host.runOk("ipset", ["save"]);
      const names = [...text.matchAll(/^create (\S+)/gm)].map(([, name]) => name!);
      return names.find((name) => members.every((m) => text.includes(`add ${name} ${m}\n`)));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stack.disposeAsync();
  }
}

const network = {
  ...{ name: profileOfPods, type: "calico", cniVersion: "1.0.0", nodename: nodeName, nodename_file_optional: true },
  ipam: { type: "calico-ipam" },
};

/** Nobody answers: an answer would make the flow an established one. */
async function silence(space: Namespace): Promise<void> {
  for (const program of ["iptables-legacy", "ip6tables-legacy"]) {
    for (const protocol of ["udp", "tcp"]) {
      await space.runOk(program, ["-t", "raw", "-A", "PREROUTING", "-p", protocol, "-j", "DROP"]);
    }
  }
}

function base64(text: string): string {
  let binary = "";
  for (const byte of new TextEncoder().encode(text)) binary += String.fromCharCode(byte);
  return btoa(binary);
}

const bytesOf = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
