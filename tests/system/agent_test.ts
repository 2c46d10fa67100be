import assert from "node:assert/strict";
import { type Clock, FakeClock, systemClock } from "../../lib/clock.ts";
import { Health } from "../../lib/health.ts";
import { formatIp, parseIp } from "../../lib/ip.ts";
import { createLog } from "../../lib/log.ts";
import type { Problem } from "../../lib/problem.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { Mirror } from "../../datastore/mirror.ts";
import { runAgent } from "../../agent/agent.ts";
import { Dataplane } from "../../agent/dataplane/apply.ts";
import { Wiring } from "../../agent/endpoints/wiring.ts";
import { listFlows } from "../../kernel/netfilter/conntrack.ts";
import { NETLINK_NETFILTER } from "../../kernel/netfilter/set_messages.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";
import { addFlows } from "./_flows.ts";
import { enterOwnNetns } from "./_own_netns.ts";

const root = "/calico/resources/v3/projectcalico.org";
const endpointKey = `${root}/workloadendpoints/shop/n1-k8s-web-eth0`;
const iface = "calih4a";
const addresses = ["10.65.0.2", "fd00:65::2"];

const resource = (kind: string, name: string, spec: unknown) =>
  JSON.stringify({ apiVersion: "projectcalico.org/v3", kind, metadata: { name }, spec });
const endpoint = (mac: string, nets = ["10.65.0.2/32", "fd00:65::2/128"]) =>
  resource("WorkloadEndpoint", "n1-k8s-web-eth0", {
    ...{ orchestrator: "k8s", node: "n1", pod: "web", endpoint: "eth0", interfaceName: iface, mac },
    ipNetworks: nets,
  });
const felix = (spec: unknown) => ({
  [`${root}/felixconfigurations/default`]: resource("FelixConfiguration", "default", spec),
});
const cluster = {
  [`${root}/clusterinformations/default`]: resource("ClusterInformation", "default", { datastoreReady: true }),
  [`${root}/ippools/p`]: resource("IPPool", "p", { cidr: "10.65.0.0/16", vxlanMode: "Always", nodeSelector: "all()" }),
  "/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-26": JSON.stringify({ state: "confirmed", deleted: "false" }),
};

/** A host with an agent whose datastore is in memory. */
class TestNode implements AsyncDisposable {
  readonly store = new MemoryStore();
  readonly lines: { level: string; msg: string }[] = [];
  readonly folder = Deno.makeTempDirSync({ dir: "/dev/shm", prefix: "h4-agent-" });
  mirror!: Mirror;
  dataplane!: Dataplane;
  #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  constructor(readonly host: Namespace, readonly clock: Clock) {}

  static async start(host: Namespace, values: Record<string, string> = cluster, clock: Clock = systemClock) {
    await host.ip("addr add 192.0.2.1/32 dev lo");
    await host.ip("addr add 2001:db8::1/128 dev lo");
    const node = new TestNode(host, clock);
    await node.put(values);
    node.begin();
    return node;
  }

  begin(): void {
    const write = (line: string) => void this.lines.push(JSON.parse(line));
    const log = createLog("agent", { write, clock: this.clock }), health = new Health(this.clock);
    const { store, clock } = this;
    this.#stop = new AbortController();
    this.mirror = Mirror.start({ store, clock: systemClock, log });
    this.dataplane = Dataplane.start({ clock, random: () => 0, log, health, mtuFile: `${this.folder}/mtu` });
    this.#loop = runAgent({
      ...{ mirror: this.mirror, dataplane: this.dataplane, node: "n1", birdRuns: true, log, health },
      env: () => undefined,
      signal: this.#stop.signal,
    });
  }

  async end(): Promise<void> {
    this.#stop.abort();
    await this.#loop.catch((error) => {
      if (!this.#stop.signal.aborted) throw error;
    });
    await this.dataplane[Symbol.asyncDispose]();
    await this.mirror[Symbol.asyncDispose]();
  }

  async put(values: Record<string, string>): Promise<void> {
    const write = Object.entries(values).map(([key, value]) => ({ put: key, value }));
    await this.store.txn({ compare: [], write });
  }

  async remove(key: string): Promise<void> {
    await this.store.txn({ compare: [], write: [{ delete: key }] });
  }

  /** Everything of the kernel that the agent makes, as text. */
  async state(): Promise<string> {
    const words = ["route", "-6 route", "neigh show nud permanent"];
    return (await Promise.all(words.map((w) => this.host.ip(w)))).join("--\n");
  }

  /** Waits until the kernel's state matches. The periodic look comes after 90 s, so it cannot be what repaired anything. */
  async becomes(what: string, ...patterns: RegExp[]): Promise<void> {
    const matches = async () => {
      const state = await this.state();
      const missing = patterns.find((p) => !p.test(state));
      if (missing) throw new Error(`${missing} is not in:\n${state}`);
      return this.dataplane.status().inSync;
    };
    await wait(what, matches, { everyMs: 5 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.store[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

const podRoute = /^10\.65\.0\.2 dev calih4a scope link metric 1024/m;
const podRoute6 = /^fd00:65::2 dev calih4a metric 1024/m;
const podNeighbour = (mac: string) => new RegExp(`^10\\.65\\.0\\.2 dev calih4a lladdr ${mac} PERMANENT`, "m");
const blackhole = /^blackhole 10\.65\.0\.0\/26 proto 80/m;
const not = (pattern: RegExp) => new RegExp(`^(?![^]*${pattern.source})`);

/** Wires a pod and stores its endpoint, as an ADD does. @returns its MAC. */
async function addPod(node: TestNode, wiring: Wiring, pod: Namespace, replaceHostInterface = false): Promise<string> {
  const request = { netns: pod.path, interfaceName: "eth0", hostInterface: iface, replaceHostInterface };
  const { mac } = await wiring.connect({ ...request, addresses: addresses.map((a) => parseIp(a)) });
  await node.put({ [endpointKey]: endpoint(mac) });
  return mac;
}

Deno.test("an endpoint is reachable as soon as enforced() resolves, and leaves nothing when it goes", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  const waited = node.dataplane.enforced(endpointKey);
  const mac = await addPod(node, wiring, pod);
  await waited;
  for (const to of ["192.0.2.1", "2001:db8::1"]) await pod.runOk("ping", ["-c1", "-W2", to]);
  for (const to of addresses) await host.runOk("ping", ["-c1", "-W2", to]);
  await node.becomes("all entries", podRoute, podRoute6, podNeighbour(mac), blackhole);
  assert.equal((await host.runOk("cat", ["/proc/sys/net/ipv4/ip_forward"])).trim(), "1");
  assert.equal(await Deno.readTextFile(`${node.folder}/mtu`), "1410");
  assert.equal(node.dataplane.status().endpoints, 1);
  await node.remove(endpointKey);
  await node.becomes("no entries", not(podRoute), not(podRoute6), not(/PERMANENT/), blackhole);
  await node.remove("/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-26");
  await node.becomes("no blackhole", not(/blackhole/));
});

Deno.test("flows of an endpoint's addresses end with it, and others go on", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  using socket = RtSocket.open(undefined, NETLINK_NETFILTER);
  const destinations = async () =>
    (await listFlows(socket, 4)).filter(({ original }) => original.destinationPort === 5353)
      .map(({ original }) => formatIp(original.destination)).sort();
  const waited = node.dataplane.enforced(endpointKey);
  await addPod(node, wiring, pod);
  await waited;
  addFlows(socket, [["192.0.2.9", "10.65.0.2", 5353], ["192.0.2.9", "10.65.0.3", 5353]]);
  assert.deepEqual(await destinations(), ["10.65.0.2", "10.65.0.3"]);
  await node.remove(endpointKey);
  await wait("its flows to be gone", async () => !(await destinations()).includes("10.65.0.2"), { everyMs: 5 });
  assert.deepEqual(await destinations(), ["10.65.0.3"]);
});

Deno.test("whatever someone else breaks is repaired at once, without a periodic look", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  const mac = await addPod(node, wiring, pod);
  await node.dataplane.enforced(endpointKey);
  const good = [podRoute, podRoute6, podNeighbour(mac), blackhole, not(/198\.51\.100\.7/)];
  await node.becomes("the beginning", ...good);
  const faults = [
    "route del 10.65.0.2 dev calih4a",
    "-6 route del fd00:65::2 dev calih4a",
    "route replace 10.65.0.2 dev calih4a metric 1024 mtu 1300",
    "route del blackhole 10.65.0.0/26",
    "neigh del 10.65.0.2 dev calih4a",
    "neigh replace 10.65.0.2 lladdr 02:00:00:00:00:99 dev calih4a nud permanent",
    "link set dev calih4a down",
    "route add 198.51.100.7 dev calih4a proto static",
    "route add blackhole 198.51.100.7 proto 80",
  ];
  for (const fault of faults) {
    await host.ip(fault);
    await node.becomes(`repair of: ${fault}`, ...good, not(/mtu 1300/));
  }
  for (const path of ["net/ipv4/conf/calih4a/forwarding", "net/ipv4/conf/calih4a/proxy_arp", "net/ipv4/ip_forward"]) {
    await host.runOk("sh", ["-c", `echo 0 > /proc/sys/${path}`]);
    const value = async () => (await host.runOk("cat", [`/proc/sys/${path}`])).trim() === "1";
    await wait(`repair of ${path}`, value, { everyMs: 5 });
  }
  await host.runOk("ping", ["-c1", "-W2", "10.65.0.2"]);
});

Deno.test("in sync and nothing changed: nothing is written, listed or logged", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  const mac = await addPod(node, wiring, pod);
  await node.dataplane.enforced(endpointKey);
  await node.becomes("all entries", podRoute, podRoute6, podNeighbour(mac), blackhole);
  const look = () => JSON.stringify(node.dataplane.counts());
  // The echoes of our own writes may still be under way; then it must stay as it is, also when others do their own things.
  await wait("quiet", settled(look), { everyMs: 50 });
  const before = look(), lines = node.lines.length;
  for (const words of ["link add h4x type bridge", "link set dev h4x up", "addr add 10.9.9.9/24 dev h4x"]) {
    await host.ip(words);
  }
  for (const words of ["route add 10.8.0.0/24 via 10.9.9.1 proto bird", "route del 10.8.0.0/24", "link del dev h4x"]) {
    await host.ip(words);
  }
  await node.put({ [`${root}/workloadendpoints/shop/n2-k8s-web-eth0`]: endpoint("02:00:00:00:00:05") });
  await node.put({ [endpointKey]: endpoint(mac) });
  await wait("the echo of the last put", async () => (await node.mirror.get(endpointKey)) !== undefined);
  await wait("quiet", settled(look), { everyMs: 50 });
  assert.equal(look(), before);
  assert.deepEqual(node.lines.slice(lines), []);
});

/** True when the look is the same ten times in a row. */
function settled(look: () => string): () => boolean {
  let last = "", times = 0;
  return () => {
    const now = look();
    times = now === last ? times + 1 : 0;
    last = now;
    return times >= 10;
  };
}

Deno.test("an agent that starts again finds everything in place and writes nothing", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  const mac = await addPod(node, wiring, pod);
  await node.dataplane.enforced(endpointKey);
  await node.becomes("all entries", podRoute, podRoute6, podNeighbour(mac), blackhole);
  const before = await node.state();
  await node.end();
  assert.equal(await node.state(), before, "what is programmed stays");
  node.begin();
  await wait("sync", () => node.dataplane.status().inSync);
  const { netlinkWrites, ports } = node.dataplane.counts();
  assert.equal(netlinkWrites, 0);
  assert.deepEqual(Object.values(ports).map((p) => p.puts + p.removes), Object.values(ports).map(() => 0));
  assert.equal(await node.state(), before);
});

Deno.test("what the last agent left and nobody wants goes, what is others' stays", async () => {
  await using host = await enterOwnNetns("h4a");
  await host.ip("link add h4eth type bridge");
  await host.ip("link set dev h4eth up");
  const foreign = [
    "10.1.0.0/24 dev h4eth proto static",
    "10.2.0.0/24 dev h4eth proto bird",
    "blackhole 10.3.0.0/24 proto bird",
  ];
  for (const words of [...foreign, "10.4.0.0/24 dev h4eth proto 80", "blackhole 10.5.0.0/26 proto 80"]) {
    await host.ip(`route add ${words}`);
  }
  await using node = await TestNode.start(host);
  await node.becomes(
    "a clean table",
    ...foreign.map((words) => new RegExp(`^${words.replaceAll(".", "\\.")}`, "m")),
    not(/10\.4\.0\.0/),
    not(/10\.5\.0\.0/),
    blackhole,
  );
});

Deno.test("routes on the interface of an unknown endpoint have ten seconds, then they go", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  const clock = new FakeClock();
  await using node = await TestNode.start(host, cluster, clock);
  await using wiring = new Wiring();
  const request = { netns: pod.path, interfaceName: "eth0", hostInterface: iface, addresses: [parseIp("10.65.0.2")] };
  await wiring.connect(request);
  await wiring.raise(iface);
  await host.ip("route add 10.65.0.2 dev calih4a");
  await node.becomes("the first sync", blackhole, /^10\.65\.0\.2 dev calih4a/m);
  await clock.advance(9_000);
  await node.becomes("no removal after nine seconds", /^10\.65\.0\.2 dev calih4a/m);
  await clock.advance(2_000);
  await node.becomes("the removal", not(/10\.65\.0\.2/), blackhole);
});

Deno.test("with removeExternalRoutes off others' routes on pods' interfaces stay", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host, { ...cluster, ...felix({ removeExternalRoutes: false }) });
  await using wiring = new Wiring();
  await addPod(node, wiring, pod);
  await node.dataplane.enforced(endpointKey);
  await host.ip("route add 198.51.100.7 dev calih4a proto static");
  await host.ip("route add 198.51.100.8 dev calih4a");
  await node.becomes("one of two", podRoute, /198\.51\.100\.7/, not(/198\.51\.100\.8/));
  await node.put(felix({ removeExternalRoutes: true }));
  await node.becomes("none", podRoute, not(/198\.51\.100\.7/));
});

Deno.test("a changed setting moves the routes; with routeSyncDisabled they are left alone", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  await addPod(node, wiring, pod);
  await node.dataplane.enforced(endpointKey);
  await node.put(felix({ deviceRouteProtocol: 88, ipv4NormalRoutePriority: 7 }));
  await node.becomes("new routes", /^10\.65\.0\.2 dev calih4a proto 88 scope link metric 7/m, not(/metric 1024 *$/));
  await node.put(felix({ routeSyncDisabled: true }));
  await wait("the setting", () => !node.dataplane.status().ports.some((p) => p.name.startsWith("routes")));
  await host.ip("route del 10.65.0.2 dev calih4a metric 7");
  await node.remove(endpointKey);
  await wait("the removal", () => node.dataplane.status().endpoints === 0);
  await node.becomes("what was left", not(/^10\.65\.0\.2/m), /^fd00:65::2 dev calih4a proto 88/m);
});

Deno.test("a broken value leaves the pod as it is, and others are served", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  const mac = await addPod(node, wiring, pod);
  await node.dataplane.enforced(endpointKey);
  await node.put({ [endpointKey]: "{ broken", ...felix({ ipv4NormalRoutePriority: 7 }) });
  await node.becomes("the other change", /^10\.65\.0\.2 dev calih4a scope link metric 7/m, podNeighbour(mac));
  assert.ok(node.lines.some((l) => l.level === "warn" && /^value not understood/.test(l.msg)));
});

Deno.test("nothing is programmed before the cluster is ready, nothing is taken away when it is ready no longer", async () => {
  await using host = await enterOwnNetns("h4a");
  await host.ip("route add blackhole 10.5.0.0/26 proto 80");
  const notReady = resource("ClusterInformation", "default", { datastoreReady: false });
  const key = `${root}/clusterinformations/default`;
  await using node = await TestNode.start(host, { ...cluster, [key]: notReady });
  await wait("the warning", () => node.lines.some((l) => /^cluster is not ready/.test(l.msg)));
  assert.match(await node.state(), /10\.5\.0\.0/);
  assert.deepEqual([node.dataplane.counts().netlinkWrites, node.dataplane.status().inSync], [0, false]);
  await node.put(cluster);
  await node.becomes("the catch-up", blackhole, not(/10\.5\.0\.0/));
  await node.put({ [key]: notReady });
  await node.remove("/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-26");
  await wait("the mirror", () => !node.mirror.get("/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-26"));
  await host.ip("route del blackhole 10.65.0.0/26");
  await node.becomes("repair of what held", blackhole);
});

Deno.test("a sandbox that replaces another gets its own entries under the same names", async () => {
  await using host = await enterOwnNetns("h4a");
  await using old = await makeNamespace("h4p");
  await using young = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  await addPod(node, wiring, old);
  await node.dataplane.enforced(endpointKey);
  const mac = await addPod(node, wiring, young, true);
  await node.dataplane.enforced(endpointKey, 5000, (e) => e.mac === mac);
  for (const to of addresses) await host.runOk("ping", ["-c1", "-W2", to]);
  await node.becomes("the new entries", podRoute, podRoute6, podNeighbour(mac));
});

Deno.test("enforced() says what is missing when it takes too long, and what the kernel refused", async () => {
  await using host = await enterOwnNetns("h4a");
  await using pod = await makeNamespace("h4p");
  await using node = await TestNode.start(host);
  await using wiring = new Wiring();
  const rejects = (code: string, words: RegExp, deadlineMs = 1000) =>
    assert.rejects(node.dataplane.enforced(endpointKey, deadlineMs), (p: Problem) => {
      assert.match(p.message, words);
      return p.code === code;
    });
  await rejects("not-ready", /after 1000 ms: the endpoint is not known to the agent/);
  await node.put({ [endpointKey]: endpoint("02:00:00:00:00:01") });
  await wait("the endpoint", () => node.dataplane.status().endpoints === 1);
  await rejects("not-ready", /interface calih4a does not exist/);
  await host.ip("link add h4eth type bridge");
  await host.ip("link set dev h4eth up");
  await host.ip("route add 10.65.0.2 dev h4eth proto static metric 1024");
  await addPod(node, wiring, pod);
  await rejects("kernel", /a foreign route is in the way: 10\.65\.0\.2\/32 interface \d+ protocol 4/, 5000);
  await host.ip("route del 10.65.0.2 dev h4eth");
  await node.becomes("the route when its place is free", podRoute);
});

Deno.test("an endpoint without the agent's end: disposing rejects who waits", async () => {
  await using host = await enterOwnNetns("h4a");
  let refused: Promise<void>;
  {
    await using node = await TestNode.start(host);
    refused = assert.rejects(node.dataplane.enforced(endpointKey), /the agent is stopping/);
  }
  await refused;
});
