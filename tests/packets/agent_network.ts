import { hostMac } from "../../agent/network/sysctls.ts";
import { apiVersion, type Resource, resourcePrefix } from "../../datastore/kind.ts";
import { resourceKey } from "../../datastore/keys.ts";
import { profileOfNamespace } from "../../datastore/kubernetes/profile.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { parseIp } from "../../lib/ip.ts";
import { runOk } from "../../lib/process.ts";
import { type AgentWorld, makeAgentWorld, putCluster } from "../lab/agent_world.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";
import type { JudgedPod, NamespaceLabels } from "./kubernetes_semantics.ts";
import { sentinelProtocol } from "./packet.ts";
import { answerForAll, forwards, linkOf, talkative } from "./pod_network.ts";
import type { End } from "./prober.ts";
import { InterfaceWire } from "./sockets.ts";

// The C library is loaded here and not in a test, whose leak check would take it for a leak.
RtSocket.open()[Symbol.dispose]();

const keyOf = ({ kind, metadata: { namespace, name } }: Resource) => resourceKey(kind, name, namespace);

/**
 * A host with the compiled agent, pods that the CNI plugin made, and an outside. What is stored in etcd reaches the kernel
 * by the agent alone.
 */
export class AgentNetwork implements AsyncDisposable {
  readonly #stored = new Map<string, string>();
  #number = 0;

  private constructor(
    readonly world: AgentWorld,
    /** In the order of the pods that were asked for. */
    readonly pods: End[],
    readonly outside: End,
    /** Namespaces of the pods, in their order, and of the outside. */
    readonly spaces: { pods: Namespace[]; outside: Namespace },
    /** The pods' endpoints as the plugin stored them, in their order. */
    readonly endpoints: readonly Resource[],
    private readonly stack: AsyncDisposableStack,
  ) {}

  /** @param prefix of the namespaces' names. */
  static async make(prefix: string, plans: readonly JudgedPod[]): Promise<AgentNetwork> {
    await using made = new AsyncDisposableStack();
    const world = made.use(await makeAgentWorld(prefix));
    const pools = [{ name: "p4", cidr: "10.65.0.0/16", blockSize: 26 }, {
      name: "p6",
      cidr: "fd00:65::/64",
      blockSize: 122,
    }];
    await putCluster(world, "alder", pools);
    await world.host.runOk("sysctl", ["-qw", ...forwards, ...talkative]);
    const [outside, outsideSpace] = await addOutside(world, prefix, made);
    await putNamespaces(world, plans);
    await world.start();
    const pods: End[] = [], spaces = { pods: [] as Namespace[], outside: outsideSpace };
    for (const [i, plan] of plans.entries()) {
      const space = await world.pod();
      spaces.pods.push(space);
      pods.push(await addPod(world, space, i, plan, made));
    }
    const endpoints = await storedEndpoints(world, plans.length);
    return new AgentNetwork(world, pods, outside, spaces, endpoints, made.move());
  }

  /** Stores objects in one transaction, and waits for nothing. */
  async commit(resources: readonly Resource[]): Promise<void> {
    await this.#transaction(resources.map((r) => `put ${keyOf(r)} ${quoted(JSON.stringify({ ...r, apiVersion }))}`));
  }

  /**
   * Makes these the policies, and these the labels of pods and namespaces, in one transaction; answers when the kernel
   * has them, and has forgotten every flow.
   */
  async put(policies: readonly Resource[], pods: readonly JudgedPod[], namespaces: NamespaceLabels): Promise<void> {
    const marks = {
      4: `192.0.2.${200 + ++this.#number % 50}/32`,
      6: `2001:db8:ffff::${this.#number.toString(16)}/128`,
    };
    const all = [
      ...Object.entries(namespaces).map(([name, labels]) => profileOfNamespace({ metadata: { name, labels } })),
      ...this.endpoints.map((e, i) => withLabels(e, pods[i]!.labels)),
      ...policies,
      ...probeTier(Object.values(marks)),
    ];
    const now = new Map(all.map((r) => [keyOf(r), JSON.stringify({ ...r, apiVersion })]));
    const lines = [...this.#stored.keys()].filter((key) => !now.has(key)).map((key) => `del ${key}`);
    for (const [key, value] of now) if (this.#stored.get(key) !== value) lines.push(`put ${key} ${quoted(value)}`);
    await this.#transaction(lines);
    this.#stored.clear();
    for (const [key, value] of now) this.#stored.set(key, value);
    await wait("the policies to be in the kernel", async () => {
      const saved = await Promise.all(["iptables", "ip6tables"].map((p) => this.#saved(p)));
      return saved[0]!.includes(marks[4]) && saved[1]!.includes(marks[6]);
    }, { everyMs: 15 }).catch((error) => {
      throw new Error(`${error.message}\n${this.world.log().slice(-3000)}`);
    });
    await this.world.host.runOk("conntrack", ["-F"]);
  }

  #saved(program: string): Promise<string> {
    return this.world.host.runOk(`${program}-legacy-save`, ["-t", "filter"]);
  }

  async #transaction(lines: string[]): Promise<void> {
    const { endpoint } = this.world.etcd, words = ["--endpoints", endpoint, "--command-timeout", "5s", "txn"];
    // Comparisons, what to do when they hold, what to do otherwise; blank lines between.
    await runOk("nsenter", [`--net=${this.world.host.path}`, "etcdctl", ...words], {
      stdin: `\n${lines.join("\n")}\n\n\n`,
      env: { ETCDCTL_API: "3" },
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stack.disposeAsync();
  }
}

/** etcdctl cuts its lines into words; a text in double quotes it reads as Go does, which is near to JSON's way. */
const quoted = (json: string): string => JSON.stringify(json);

const withLabels = (endpoint: Resource, labels: Record<string, string>): Resource => {
  const own = Object.entries(endpoint.metadata.labels!).filter(([key]) => key.startsWith("projectcalico.org/"));
  return { ...endpoint, metadata: { ...endpoint.metadata, labels: { ...labels, ...Object.fromEntries(own) } } };
};

/** Lets sentinels pass, and holds a rule about addresses that nobody has: when it is in the kernel, so is what is below it. */
function probeTier(marks: readonly string[]): Resource[] {
  const rules = [{ action: "Allow", protocol: sentinelProtocol }, { action: "Deny", source: { nets: marks } }];
  const spec = {
    tier: "probe",
    order: 1,
    selector: "all()",
    types: ["Ingress", "Egress"],
    ingress: rules,
    egress: rules,
  };
  return [
    { apiVersion, kind: "Tier", metadata: { name: "probe" }, spec: { order: 1, defaultAction: "Pass" } },
    { apiVersion, kind: "Tier", metadata: { name: "default" }, spec: { order: 1_000_000, defaultAction: "Deny" } },
    { apiVersion, kind: "GlobalNetworkPolicy", metadata: { name: "probe.sentinels" }, spec },
  ];
}

async function putNamespaces(world: AgentWorld, plans: readonly JudgedPod[]): Promise<void> {
  const api = await world.api();
  for (const name of new Set(plans.map((p) => p.namespace))) {
    await api.put({ kind: "Namespace", metadata: { name, labels: {} } });
    await world.put({ ...profileOfNamespace({ metadata: { name } }) });
  }
}

/** A pod as kubelet would have it made. */
async function addPod(
  world: AgentWorld,
  space: Namespace,
  i: number,
  plan: JudgedPod,
  made: AsyncDisposableStack,
): Promise<End> {
  const { namespace, labels, ports } = plan, name = `pod${i}`, api = await world.api();
  await api.put(
    {
      ...{ kind: "Pod", metadata: { name, namespace, labels } },
      spec: {
        nodeName: "alder",
        containers: [{ name: "c", ports: ports.map((p) => ({ ...p, containerPort: p.port })) }],
        serviceAccountName: "default",
      },
    } as never,
  );
  const result = await world.call({
    command: "ADD",
    containerId: `sandbox${i}`,
    netns: space.path,
    args: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_UID=u-${i}`,
    config: {
      ...{ name: "net", type: "calico", cniVersion: "1.0.0", nodename: "alder", nodename_file_optional: true },
      policy: { type: "k8s" },
      kubernetes: { kubeconfig: api.kubeconfig },
      ipam: { type: "calico-ipam", assign_ipv4: "true", assign_ipv6: "true" },
    },
  });
  if (result.code !== 0) throw new Error(`ADD of ${name}: ${result.stdout}\n${world.log().slice(-2000)}`);
  await space.runOk("sysctl", ["-qw", ...talkative]);
  const ips = (result.json as { ips: { address: string }[] }).ips.map((ip) => parseIp(ip.address.split("/")[0]!));
  const wire = made.use(new InterfaceWire(space.path, await linkOf(space, "eth0"), hostMac));
  return { name, wire, home: { 4: ips.find((ip) => ip.v === 4), 6: ips.find((ip) => ip.v === 6) } };
}

async function addOutside(
  world: AgentWorld,
  prefix: string,
  made: AsyncDisposableStack,
): Promise<[End, Namespace]> {
  const { host } = world, space = made.use(await makeNamespace(`${prefix}o`));
  await host.ip(`link set wire netns ${space.name} name eth0`);
  for (const [ns, last] of [[host, 1], [space, 2]] as const) {
    await ns.ip("link set eth0 up");
    await ns.ip(`addr add 192.0.2.${last}/24 dev eth0`);
    await ns.ip(`addr add 2001:db8::${last}/64 dev eth0 nodad`);
  }
  const [inner, outer] = [await linkOf(host, "eth0"), await linkOf(space, "eth0")];
  await answerForAll(space, inner.mac, { 4: "192.0.2.1", 6: "2001:db8::1" });
  for (const [family, via] of [["", "192.0.2.2"], ["-6 ", "2001:db8::2"]] as const) {
    await host.ip(`neigh replace ${via} lladdr ${outer.mac} dev eth0 nud permanent`);
    await host.ip(`${family}route add default via ${via} dev eth0`);
  }
  const wire = made.use(new InterfaceWire(space.path, outer, inner.mac));
  return [{ name: "outside", wire, home: { 4: parseIp("192.0.2.2"), 6: parseIp("2001:db8::2") } }, space];
}

/** The pods' endpoints as the plugin stored them, in the order of the pods. */
async function storedEndpoints(world: AgentWorld, count: number): Promise<Resource[]> {
  const keys = await world.etcd.dump(`${resourcePrefix}workloadendpoints/`);
  const all = [...keys.values()].map((text) => JSON.parse(text) as Resource);
  return Array.from({ length: count }, (_, i) => all.find((e) => e.spec.pod === `pod${i}`)!);
}
