import { hostMac } from "../../agent/network/sysctls.ts";
import { apiVersion, type Resource, resourcePrefix } from "../../datastore/kind.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { parseIp } from "../../lib/ip.ts";
import { runOk } from "../../lib/process.ts";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import { connect, makeNamespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";
import { answerForAll, forwards, linkOf, talkative } from "./pod_network.ts";
import type { End } from "./prober.ts";
import { HostWire, InterfaceWire } from "./sockets.ts";

// The C library is loaded here and not in a test, whose leak check would take it for a leak.
RtSocket.open()[Symbol.dispose]();

/** A resource as a test writes it down. */
export interface Stored {
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  spec: object;
}

/** Interfaces of the host and the places behind them, which answer for all addresses. */
const sides = { left: "lan0", right: "lan1" } as const;

/** Address of the host (1) or of the place (2) at an interface, in both families. */
const addressesAt = (name: keyof typeof sides, last: 1 | 2): [string, string] => {
  const net = name === "left" ? 1 : 2;
  return [`10.99.${net}.${last}`, `fd99:${net}::${last}`];
};

const plurals: Record<string, string> = { GlobalNetworkPolicy: "globalnetworkpolicies" };
const keyOf = ({ kind, metadata: { namespace, name } }: Resource): string =>
  `${resourcePrefix}${plurals[kind] ?? `${kind.toLowerCase()}s`}/${namespace ? `${namespace}/` : ""}${name}`;

/**
 * A host with the agent, an etcd, a pod that the CNI plugin made, and two places outside: `left` at lan0 (10.99.1.0/24),
 * `right` at lan1 (10.99.2.0/24). The host's own address is that of lan0. What is stored reaches the kernel by the agent.
 */
export class HostNetwork implements AsyncDisposable {
  readonly #stored = new Map<string, string>();
  #barrier = 0;
  /** Hardware addresses of the places. */
  readonly #macs = new Map<string, string>();

  private constructor(
    readonly world: AgentWorld,
    readonly ends: ReadonlyMap<string, End>,
    /** The pod's endpoint as the plugin stored it. */
    readonly pod: Resource,
    private readonly stack: AsyncDisposableStack,
  ) {}

  /** @param prefix of the namespaces' names. */
  static async make(prefix: string): Promise<HostNetwork> {
    await using made = new AsyncDisposableStack();
    // A `*` host endpoint closes the loopback, too, but for failsafe ports.
    const world = made.use(await makeAgentWorld(prefix, { port: 2379 }));
    await putCluster(world, "alder", [
      { name: "p4", cidr: "10.65.0.0/16", blockSize: 26 },
      { name: "p6", cidr: "fd00:65::/64", blockSize: 122 },
    ]);
    // What start-up would write: who asks from afar knows interfaces by it.
    const interfaces = (["left", "right"] as const).map((n) => ({ name: sides[n], addresses: addressesAt(n, 1) }));
    await world.put({ kind: "Node", metadata: { name: "alder" }, spec: { interfaces } });
    const lax = ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"];
    await world.host.runOk("sysctl", ["-qw", ...forwards, ...talkative, ...lax]);
    const ends = new Map<string, End>();
    for (const name of ["left", "right"] as const) ends.set(name, await addSide(world, prefix, name, made));
    const home = homeOf(addressesAt("left", 1));
    ends.set("host", { name: "host", wire: made.use(new HostWire(world.host.path)), home });
    await world.start();
    ends.set("pod", await addPod(world, made));
    const stored = await world.etcd.dump(`${resourcePrefix}workloadendpoints/`);
    const pod = JSON.parse([...stored.values()][0]!) as Resource;
    const network = new HostNetwork(world, ends, pod, made.move());
    for (const name of ["left", "right"] as const) {
      const [v4] = addressesAt(name, 2);
      const [neighbour] = await world.host.ipJson<{ lladdr: string }[]>(`neigh show ${v4}`);
      network.#macs.set(name, neighbour!.lladdr);
    }
    return network;
  }

  /** Makes these the resources beside pod, pools and cluster, in one transaction; answers when the kernel has them. */
  async put(resources: readonly Stored[]): Promise<void> {
    // Its chains have names that were not there before: with them everything of this transaction is there.
    const name = `bar${++this.#barrier}`;
    const barrier = {
      kind: "HostEndpoint",
      metadata: { name: "zz-barrier" },
      spec: { node: "alder", interfaceName: name },
    };
    const all = [...resources, barrier].map((r) => ({ apiVersion, ...r }) as unknown as Resource);
    const now = new Map(all.map((r) => [keyOf(r), JSON.stringify(r)]));
    const lines = [...this.#stored.keys()].filter((key) => !now.has(key)).map((key) => `del ${key}`);
    for (const [key, value] of now) {
      if (this.#stored.get(key) !== value) lines.push(`put ${key} ${JSON.stringify(value)}`);
    }
    const { host, etcd } = this.world, words = ["--endpoints", etcd.endpoint, "txn"];
    // Comparisons, what to do when they hold, what to do otherwise; blank lines between.
    await runOk("nsenter", [`--net=${host.path}`, "etcdctl", ...words], {
      stdin: `\n${lines.join("\n")}\n\n\n`,
      env: { ETCDCTL_API: "3" },
      timeoutMs: 5_000,
    });
    this.#stored.clear();
    for (const [key, value] of now) this.#stored.set(key, value);
    await this.inKernel(`cali-th-${name} `);
  }

  /** Waits until `iptables-save` tells this in every family, in filter and mangle. */
  async inKernel(text: string): Promise<void> {
    const save = (program: string, table: string) => this.world.host.runOk(`${program}-save`, ["-t", table]);
    const places = ["iptables", "ip6tables"].flatMap((p) => ["filter", "mangle"].map((t) => [p, t] as const));
    await wait(`"${text}" in the kernel`, async () => {
      for (const [p, t] of places) if (!(await save(`${p}-legacy`, t)).includes(text)) return false;
      return true;
    }, { everyMs: 15 }).catch((error) => {
      throw new Error(`${error.message}\n${this.world.log().slice(-3000)}`);
    });
  }

  /** Gives an interface the addresses that the place expects behind it, and the neighbours. */
  async readdress(name: keyof typeof sides, inner: string): Promise<void> {
    const { host } = this.world;
    for (const cidr of withLengths(addressesAt(name, 1))) {
      await host.ip(`addr replace ${cidr} dev ${inner}${cidr.includes(":") ? " nodad" : ""}`);
    }
    for (const address of addressesAt(name, 2)) {
      await host.ip(`neigh replace ${address} lladdr ${this.#macs.get(name)} dev ${inner} nud permanent`);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stack.disposeAsync();
  }
}

const homeOf = ([v4, v6]: readonly string[]) => ({ 4: parseIp(v4!), 6: parseIp(v6!) });
const withLengths = ([v4, v6]: readonly string[]) => [`${v4}/24`, `${v6}/64`];

async function addSide(
  { host }: AgentWorld,
  prefix: string,
  name: keyof typeof sides,
  made: AsyncDisposableStack,
): Promise<End> {
  const space = made.use(await makeNamespace(`${prefix}o`)), inner = sides[name];
  await connect(
    { in: host, name: inner, addresses: withLengths(addressesAt(name, 1)) },
    { in: space, name: "eth0", addresses: withLengths(addressesAt(name, 2)) },
  );
  await answerFrom(space, host, name, inner);
  const wire = made.use(new InterfaceWire(space.path, await linkOf(space, "eth0"), (await linkOf(host, inner)).mac));
  return { name, wire, home: homeOf(addressesAt(name, 2)) };
}

/** Makes the place answer by way of the host, and the host know where it is. */
async function answerFrom(
  space: AgentWorld["host"],
  host: AgentWorld["host"],
  name: keyof typeof sides,
  inner: string,
): Promise<void> {
  const [v4, v6] = addressesAt(name, 1);
  await answerForAll(space, (await linkOf(host, inner)).mac, { 4: v4, 6: v6 });
  const { mac } = await linkOf(space, "eth0");
  for (const address of addressesAt(name, 2)) {
    await host.ip(`neigh replace ${address} lladdr ${mac} dev ${inner} nud permanent`);
  }
}

async function addPod(world: AgentWorld, made: AsyncDisposableStack): Promise<End> {
  const space = await world.pod();
  const result = await world.call({
    command: "ADD",
    containerId: "sandbox",
    netns: space.path,
    config: {
      ...{ name: "net", type: "calico", cniVersion: "1.0.0", nodename: "alder", nodename_file_optional: true },
      ipam: { type: "calico-ipam", assign_ipv4: "true", assign_ipv6: "true" },
    },
  });
  if (result.code !== 0) throw new Error(`ADD: ${result.stdout}\n${world.log().slice(-2000)}`);
  await space.runOk("sysctl", ["-qw", ...talkative]);
  const ips = (result.json as { ips: { address: string }[] }).ips.map((ip) => parseIp(ip.address.split("/")[0]!));
  const wire = made.use(new InterfaceWire(space.path, await linkOf(space, "eth0"), hostMac));
  return { name: "pod", wire, home: { 4: ips.find((ip) => ip.v === 4), 6: ips.find((ip) => ip.v === 6) } };
}
