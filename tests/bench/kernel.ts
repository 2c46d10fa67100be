/**
 * What the kernel side costs, measured in namespaces of its own: `deno run -A tests/bench/kernel.ts`. Needs root.
 * Each line is a median (p50) and the slowest of a hundred, or one figure of a batch, beside the same done by `ip`.
 */
import { systemClock } from "../../lib/clock.ts";
import { Health } from "../../lib/health.ts";
import { parseCidr } from "../../lib/ip.ts";
import { silentLog } from "../../lib/log.ts";
import { runOk } from "../../lib/process.ts";
import { enterNetns, openNetns } from "../../kernel/netns.ts";
import { Reconciler } from "../../kernel/reconcile.ts";
import { getLink } from "../../kernel/rtnetlink/link.ts";
import { type Route, route, routeKey, routePort } from "../../kernel/rtnetlink/route.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { Dataplane } from "../../agent/dataplane/apply.ts";
import { Wiring } from "../../agent/endpoints/wiring.ts";
import { networkSettings } from "../../agent/network/settings.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";

const ms = (n: number) => `${n.toFixed(n < 10 ? 2 : 0).padStart(8)} ms`;
const line = (what: string, ...figures: string[]) => console.log(what.padEnd(52), ...figures);

/** Time of each of `count` calls: p50 and slowest. */
async function each(what: string, count: number, work: (i: number) => Promise<unknown> | unknown): Promise<void> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const begin = performance.now();
    await work(i);
    times.push(performance.now() - begin);
  }
  times.sort((a, b) => a - b);
  line(what, `p50 ${ms(times[count >> 1]!)}`, `p99 ${ms(times[Math.floor(count * 0.99)]!)}`);
}

async function all(what: string, work: () => Promise<unknown> | unknown): Promise<void> {
  const begin = performance.now();
  await work();
  line(what, `all ${ms(performance.now() - begin)}`);
}

const podAddress = (i: number) => ({ v: 4 as const, n: 0x0a410000n + BigInt(i) });
const pod = (space: Namespace, i: number) => ({
  netns: space.path,
  interfaceName: "eth0",
  hostInterface: `calibench${i}`,
  addresses: [podAddress(i), { v: 6 as const, n: (0xfd000065n << 96n) + BigInt(i) }],
});

async function wiring(spaces: Namespace[], host: Namespace): Promise<void> {
  await using wiring = new Wiring();
  await wiring.connect(pod(spaces[0]!, 0));
  await wiring.disconnect({ netns: spaces[0]!.path, interfaceName: "eth0" });
  await each("wire a pod, IPv4 and IPv6 (connect)", spaces.length, (i) => wiring.connect(pod(spaces[i]!, i)));
  await each("raise its host side", spaces.length, (i) => wiring.raise(`calibench${i}`));
  await each("look at it (inspect)", spaces.length, (i) => wiring.inspect(pod(spaces[i]!, i)));
  await each("remove one pod's pair", 10, (i) => wiring.disconnect({ netns: spaces[i]!.path, interfaceName: "eth0" }));
  const rest = spaces.slice(10, 60);
  await all(
    `remove ${rest.length} pods' pairs at once`,
    () => Promise.all(rest.map((s) => wiring.disconnect({ netns: s.path, interfaceName: "eth0" }))),
  );
  await each("the same wiring by `ip`, IPv4 only", 10, (i) => byIp(host, spaces[i]!, i));
}

/** What a shell script would do for one pod. */
async function byIp(host: Namespace, space: Namespace, i: number): Promise<void> {
  const name = `calibench${i}`;
  const script = [
    `ip link add ${name} address ee:ee:ee:ee:ee:ee type veth peer name eth0 netns ${space.name}`,
    `ip -n ${space.name} link set eth0 up`,
    `ip -n ${space.name} addr add 10.65.0.${i}/32 dev eth0`,
    `ip -n ${space.name} route add 169.254.1.1 dev eth0`,
    `ip -n ${space.name} route add default via 169.254.1.1 dev eth0`,
    `ip link set ${name} up`,
    `ip route add 10.65.0.${i} dev ${name} metric 1024`,
    `echo 1 > /proc/sys/net/ipv4/conf/${name}/proxy_arp`,
  ].join(" && ");
  await host.runOk("sh", ["-c", script]);
}

async function routes(): Promise<void> {
  using socket = RtSocket.open();
  const index = getLink(socket, "lo")!.index;
  const port = routePort(socket, { family: 4, owns: (r) => r.protocol === 80 });
  const reconciler = new Reconciler(port, { clock: systemClock, random: Math.random, verify: "ack" });
  const want = new Map<string, Route>(
    Array.from(
      { length: 10_000 },
      (_, i) => route({ dst: { v: 4, n: 0x0b000000n + BigInt(i), len: 32 }, index, protocol: 80, metric: 1024 }),
    )
      .map((r) => [routeKey(r), r]),
  );
  reconciler.wantAll(want);
  await all("10,000 routes into an empty table", () => reconciler.flush());
  await each("look whether 10,000 routes hold (resync)", 20, () => {
    reconciler.doubt();
    return reconciler.flush();
  });
  const first = want.values().next().value!;
  await each("one route changed among 10,000", 100, (i) => {
    reconciler.want(routeKey(first), { ...first, mtuBytes: 1300 + i });
    return reconciler.flush();
  });
  reconciler.wantAll(new Map());
  await all("10,000 routes away", () => reconciler.flush());
}

async function dataplane(host: Namespace, space: Namespace): Promise<void> {
  await using wiring = new Wiring();
  const options = { clock: systemClock, random: Math.random, log: silentLog, health: new Health(), mtuFile: undefined };
  await using plane = Dataplane.start(options);
  using socket = RtSocket.open();
  const { settings } = networkSettings({ env: () => undefined });
  const desired = {
    ...{ blackholes: [], encapsulations: new Set<never>(), settings, ownAddresses: {}, tunnels: {} },
    ...{ vteps: { 4: [], 6: [] }, clusterRoutes: new Map(), wireguard: {} },
  };
  const port = routePort(socket, { family: 4, owns: () => true });
  const nets = [parseCidr("10.65.0.59/32"), parseCidr("fd00::1/128")];
  const key = "/a";
  await each("endpoint known → in the kernel (enforced)", 20, async () => {
    plane.apply({ ...desired, endpoints: new Map() });
    await wiring.disconnect({ netns: space.path, interfaceName: "eth0" });
    const { mac } = await wiring.connect(pod(space, last));
    const begin = performance.now();
    const endpoint = { key, interfaceName: `calibench${last}`, mac, nets, floatingIps: [] };
    plane.apply({ ...desired, endpoints: new Map([[key, endpoint]]) });
    await plane.enforced(key);
    enforcing.push(performance.now() - begin);
  });
  enforcing.sort((a, b) => a - b);
  line("  of which waiting for the kernel to have it", `p50 ${ms(enforcing[enforcing.length >> 1]!)}`);
  await each("drift: a pod's route removed → back", 50, async () => {
    const mine = [...(await port.list())].find(([, r]) => r.dst.n === 0x0a41003bn)!;
    await port.apply([], [mine[0]]);
    await wait("the route", async () => (await port.list()).has(mine[0]), { everyMs: 0 });
  });
  await each("drift: a pod's host side set down → all back", 20, async () => {
    await runOk("ip", ["-n", host.name, "link", "set", "dev", `calibench${last}`, "down"]);
    const back = async () => [...(await port.list()).values()].some((r) => r.dst.n === 0x0a41003bn);
    await wait("the route", back, { everyMs: 0 });
  });
}
const enforcing: number[] = [];
/** Number of the pod that the dataplane's figures are of. */
const last = 59;

await using host = await makeNamespace("h4bench");
await using spaces = new AsyncDisposableStack();
const pods: Namespace[] = [];
for (let i = 0; i < 60; i++) pods.push(spaces.use(await makeNamespace("h4bpod")));
using netns = openNetns(host.path);
const leave = enterNetns(netns);
try {
  await wiring(pods, host);
  await routes();
  await dataplane(host, pods[last]!);
} finally {
  leave();
}
