/**
 * `deno task bench throughput [SECONDS]`: iperf3 from pod to pod over two hosts, without encapsulation and through VXLAN,
 * beside the same links and routes made with `ip`. `… throughput wireguard` does it for WireGuard, in an emulated kernel where
 * this one has none. Needs root and iperf3.
 */
import type { RunResult } from "../../lib/process.ts";
import { bundle, emulate, emulationMissing } from "../lab/qemu/machine.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { makeOverlay } from "../lab/overlay.ts";
import { wait } from "../lab/wait.ts";
import { percentile, table } from "./table.ts";

/** Two pods on two hosts. */
export interface PodPair extends AsyncDisposable {
  /** The second one's address. */
  address: string;
  first(program: string, args: string[]): Promise<RunResult>;
  second(program: string, args: string[]): Promise<RunResult>;
}

/** How packets travel. */
type Way = "none" | "vxlan";
const rounds = 3;

/** Runs it. */
export async function bench(args: string[]): Promise<number> {
  if (args[0] === "wireguard") return await inEmulation();
  const seconds = Number(args[0] ?? 3);
  const rows = [head];
  for (const way of ["none", "vxlan"] as const) {
    await using ours = await byTortie(way);
    await using hand = await byHand(way);
    rows.push(await compared(way === "none" ? "no encapsulation" : "VXLAN", ours, hand, seconds));
  }
  console.log(table(rows));
  return 0;
}

/** Head of the table. */
export const head = [
  `Gbit/s from pod to pod, median of ${rounds}`,
  "tortie",
  "by hand",
  "ratio",
  "all of tortie",
  "all by hand",
];

/** One row: both in turns, because the machine's speed changes. */
export async function compared(name: string, ours: PodPair, hand: PodPair, seconds: number): Promise<string[]> {
  const got: number[][] = [[], []];
  for (let i = 0; i < rounds; i++) {
    got[0]!.push(await gbitPerS(ours, seconds));
    got[1]!.push(await gbitPerS(hand, seconds));
  }
  const text = (n: number) => n.toFixed(n < 0.1 ? 4 : 2), all = got.map((g) => g.map(text).join(" "));
  const [a, b] = got.map((g) => percentile(g.toSorted((x, y) => x - y), 0.5)) as [number, number];
  return [name, text(a), text(b), text(a / b), ...all];
}

/** What the receiver counted. */
async function gbitPerS({ address, first, second }: PodPair, seconds: number): Promise<number> {
  const server = second("iperf3", ["-s", "-1"]);
  await wait("iperf3 to listen", async () => (await second("ss", ["-Hltn", "sport = :5201"])).stdout !== "");
  const { stdout } = await first("iperf3", ["-c", address, "-t", String(seconds), "-J"]);
  await server;
  const { end, error } = JSON.parse(stdout) as { end: { sum_received?: { bits_per_second: number } }; error?: string };
  if (!end.sum_received) throw new Error(`iperf3: ${error}`);
  return end.sum_received.bits_per_second / 1e9;
}

/** Whole nodes and the CNI plugin. */
async function byTortie(way: Way): Promise<PodPair> {
  const mode: Record<string, string> = way === "vxlan" ? { CALICO_IPV4POOL_VXLAN: "Always" } : {};
  const overlay = await makeOverlay({ hosts: 2, prefix: "thru", env: { CALICO_NETWORKING_BACKEND: "vxlan", ...mode } });
  const [one, two] = await Promise.all([overlay.pod(0, "one"), overlay.pod(1, "two")]);
  const address = two.addresses[0]!;
  await wait("the pods to reach each other", async () => await one.ping(address) === 1);
  return {
    address,
    first: (program, args) => one.run(program, ...args),
    second: (program, args) => two.run(program, ...args),
    [Symbol.asyncDispose]: () => overlay[Symbol.asyncDispose](),
  };
}

/** The same links and routes, nothing else: no policy, no agent. */
async function byHand(way: Way): Promise<PodPair> {
  await using stack = new AsyncDisposableStack();
  const wire = stack.use(await makeNamespace("thru"));
  await wire.ip("link add wire0 type bridge");
  await wire.ip("link set wire0 up");
  const hosts: Namespace[] = [], pods: Namespace[] = [];
  for (const n of [1, 2]) {
    const host = stack.use(await makeNamespace("thru")), pod = stack.use(await makeNamespace("thru"));
    await handMadeHost(wire, host, pod, n, way);
    hosts.push(host);
    pods.push(pod);
  }
  const all = stack.move();
  const in_ = (space: Namespace) => (program: string, args: string[]) =>
    space.run(program, args, { timeoutMs: 120_000 });
  return {
    ...{ address: podOf(2), first: in_(pods[0]!), second: in_(pods[1]!) },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

const podOf = (n: number) => `10.66.${n}.2`;
const macOf = (n: number) => `02:00:00:00:66:0${n}`;

async function handMadeHost(wire: Namespace, host: Namespace, pod: Namespace, n: number, way: Way): Promise<void> {
  const other = 3 - n, mtu = way === "vxlan" ? 1450 : 1500;
  await wire.ip(`link add h${n} master wire0 type veth peer name eth0 netns ${host.name}`);
  await wire.ip(`link set h${n} up`);
  await host.ip(`addr add 172.30.0.${n}/24 dev eth0`);
  await host.ip("link set eth0 up");
  await host.runOk("sysctl", ["-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.default.proxy_arp=1"]);
  await host.ip("route add default via 172.30.0.254 dev eth0");
  await host.ip(`link add pod mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${pod.name}`);
  await host.ip("link set pod up");
  await pod.ip(`addr add ${podOf(n)}/32 dev eth0`);
  await pod.ip("link set eth0 up");
  await pod.ip("route add 169.254.1.1 dev eth0");
  await pod.ip("route add default via 169.254.1.1 dev eth0");
  await host.ip(`route add ${podOf(n)} dev pod`);
  if (way === "none") return void await host.ip(`route add 10.66.${other}.0/24 via 172.30.0.${other}`);
  await host.ip(
    `link add vx0 address ${macOf(n)} type vxlan id 7 dstport 4789 local 172.30.0.${n} dev eth0 nolearning`,
  );
  await host.ip(`addr add 10.66.${n}.0/32 dev vx0`);
  await host.ip("link set vx0 up");
  await host.ip(`neigh add 10.66.${other}.0 lladdr ${macOf(other)} dev vx0 nud permanent`);
  await host.runOk("bridge", ["fdb", "add", macOf(other), "dev", "vx0", "dst", `172.30.0.${other}`]);
  await host.ip(`route add 10.66.${other}.0/24 via 10.66.${other}.0 dev vx0 onlink`);
}

async function inEmulation(): Promise<number> {
  const missing = await emulationMissing();
  if (missing !== undefined) {
    console.log(`bench: WireGuard cannot be emulated here: ${missing}`);
    return 0;
  }
  const here = (path: string) => new URL(path, import.meta.url).pathname;
  const agent = await bundle(here("../lab/qemu/host.ts"), "throughput-host");
  const inside = await bundle(here("_throughput_wireguard.ts"), "throughput");
  const path = `PATH=${Deno.execPath().replace(/\/[^/]*$/, "")}:$PATH`;
  const script = `export NO_COLOR=1 ${path}; modprobe wireguard && deno run -A --no-check --no-lock ${inside} ${agent}`;
  const { code, output } = await emulate(script, 480_000);
  console.log(/^Gbit[\s\S]*?\n\n/m.exec(output)?.[0].trimEnd() ?? output.slice(-3000));
  return code ?? 1;
}
