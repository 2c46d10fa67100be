import type { WireguardKeys } from "../../../agent/network/wireguard.ts";
import { makeNamespace, type Namespace } from "../namespaces.ts";

/** A host of the emulated network, with one pod. */
export interface EmulatedHost extends AsyncDisposable {
  name: string;
  space: Namespace;
  pod: Namespace;
  podAddress: string;
  podAddress6: string;
  /** Hands values to its agent and waits until the kernel has what they ask for. @returns what it has not. */
  tell(set: [string, unknown][], more?: { deleted?: string[]; keys?: WireguardKeys }): Promise<string[]>;
  /** WireGuard's metrics as its node would tell them, a line each. */
  metrics(): Promise<string[]>;
  /** Pings an address from the pod. @returns how many of three came back. */
  ping(address: string, bytes?: number): Promise<number>;
}

const root = "/calico/resources/v3/projectcalico.org";
/** A stored resource. */
export const stored = (
  kind: string,
  plural: string,
  name: string,
  spec: unknown,
  status?: unknown,
  annotations?: Record<string, string>,
): [string, unknown] => [
  `${root}/${plural}/${name}`,
  { apiVersion: "projectcalico.org/v3", kind, metadata: { name: name.split("/").pop(), annotations }, spec, status },
];

/** The values that say of host number `n` where its pods are. */
export const hostValues = (n: number, node: Record<string, unknown>, status?: unknown): [string, unknown][] => {
  const empty = { allocations: Array(64).fill(null), attributes: [], unallocated: [] };
  const block = (v: 4 | 6, cidr: string): [string, unknown][] => [
    [`/calico/ipam/v2/assignment/ipv${v}/block/${cidr.replaceAll(/[:/]/g, "-")}`, {
      ...{ cidr, affinity: `host:h${n}`, ...empty },
    }],
    [`/calico/ipam/v2/host/h${n}/ipv${v}/block/${cidr.replaceAll(/[:/]/g, "-")}`, { state: "confirmed" }],
  ];
  return [
    stored("Node", "nodes", `h${n}`, node, status),
    ...block(4, `10.65.${n}.0/26`),
    ...block(6, `fd00:65::${n}:0/122`),
    stored("WorkloadEndpoint", "workloadendpoints", `shop/h${n}-cni-pod${n}-eth0`, {
      ...{ orchestrator: "cni", node: `h${n}`, endpoint: "eth0", containerID: `pod${n}` },
      ...{ interfaceName: `cali${n}`, ipNetworks: [`10.65.${n}.2/32`, `fd00:65::${n}:2/128`] },
    }),
  ];
};

/** Host number `n`: 172.30.0.<n> and fd00:30::<n> on the bridge wire0 of `wire`, an agent in it, and a pod 10.65.<n>.2, fd00:65::<n>:2. */
export async function makeEmulatedHost(wire: Namespace, n: number, agent: string): Promise<EmulatedHost> {
  await using stack = new AsyncDisposableStack();
  const space = stack.use(await makeNamespace(`em-h${n}`)), pod = stack.use(await makeNamespace(`em-p${n}`));
  await wire.ip(`link add h${n} master wire0 type veth peer name eth0 netns ${space.name}`);
  await wire.ip(`link set h${n} up`);
  await space.ip(`addr add 172.30.0.${n}/24 dev eth0`);
  await space.ip(`addr add fd00:30::${n}/64 dev eth0 nodad`);
  await space.ip("link set eth0 up");
  // The host answers ARP for 169.254.1.1 only where it has some way there.
  await space.ip("route add default via 172.30.0.254 dev eth0");
  await space.ip(`link add cali${n} address ee:ee:ee:ee:ee:ee mtu 1400 type veth peer name eth0 netns ${pod.name}`);
  await pod.ip(`addr add 10.65.${n}.2/32 dev eth0`);
  await pod.ip(`addr add fd00:65::${n}:2/128 dev eth0 nodad`);
  await pod.ip("link set eth0 up");
  await pod.ip("route add 169.254.1.1 dev eth0");
  await pod.ip("route add default via 169.254.1.1 dev eth0");
  await space.ip(`addr add fe80::1:1/64 dev cali${n} nodad`);
  await pod.ip("route add default via fe80::1:1 dev eth0");
  const child = new Deno.Command("nsenter", {
    args: [`--net=${space.path}`, Deno.execPath(), "run", "-A", "--no-check", "--no-lock", agent, `h${n}`],
    ...{ stdin: "piped", stdout: "piped" },
  }).spawn();
  stack.defer(async () => {
    child.kill("SIGKILL");
    await child.status;
  });
  const writer = child.stdin.getWriter(), reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const all = stack.move();
  let rest = "";
  const answer = async (): Promise<string[]> => {
    for (;;) {
      const end = rest.indexOf("\n");
      if (end >= 0) {
        const line = rest.slice(0, end);
        rest = rest.slice(end + 1);
        return JSON.parse(line);
      }
      const { value, done } = await reader.read();
      if (done) throw new Error(`the agent of h${n} ended`);
      rest += value;
    }
  };
  const ask = async (step: unknown) => {
    await writer.write(new TextEncoder().encode(`${JSON.stringify(step)}\n`));
    return await answer();
  };
  return {
    ...{ name: `h${n}`, space, pod, podAddress: `10.65.${n}.2`, podAddress6: `fd00:65::${n}:2` },
    tell: (set, more = {}) => ask({ set, ...more }),
    metrics: () => ask({ metrics: true }),
    async ping(address, bytes) {
      const size = bytes === undefined ? [] : ["-M", "do", "-s", String(bytes - 28)];
      const words = ["-n", "-q", "-c", "3", "-i", "0.2", "-W", "2", ...size, address];
      return Number(/(\d+) received/.exec((await pod.run("ping", words)).stdout)?.[1] ?? 0);
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** Two hosts on a wire, and how a test that runs in the emulated machine tells what it has seen. */
export interface EmulatedPair extends AsyncDisposable {
  wire: Namespace;
  one: EmulatedHost;
  two: EmulatedHost;
  /** Hands values to both agents. @returns what the kernels have not. */
  both(set: [string, unknown][]): Promise<string[]>;
  /** Says that a step has held, with the time since the start. */
  tell(what: string): void;
}

/** @param agent the program that runs a host's network. */
export async function makeEmulatedPair(agent: string): Promise<EmulatedPair> {
  const begin = performance.now();
  await using stack = new AsyncDisposableStack();
  const wire = stack.use(await makeNamespace("em-w"));
  await wire.ip("link add wire0 type bridge");
  await wire.ip("link set wire0 up");
  const [one, two] = await Promise.all([1, 2].map((n) => makeEmulatedHost(wire, n, agent))) as [
    EmulatedHost,
    EmulatedHost,
  ];
  stack.use(one);
  stack.use(two);
  const all = stack.move();
  return {
    ...{ wire, one, two },
    both: async (set) => (await Promise.all([one, two].map((h) => h.tell(set)))).flat(),
    tell: (what) => console.log(`ok ${what} (${((performance.now() - begin) / 1000).toFixed(1)} s)`),
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}
