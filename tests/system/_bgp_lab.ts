import { Mirror } from "../../datastore/mirror.ts";
import { openEtcd } from "../../datastore/etcd.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import type { Store } from "../../datastore/store.ts";
import { systemClock } from "../../lib/clock.ts";
import { Health } from "../../lib/health.ts";
import { createLog, silentLog } from "../../lib/log.ts";
import { type Routing, type RoutingPaths, runRouting } from "../../routing/routing.ts";
import type { Etcd } from "../lab/etcd.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { uniqueSuffix } from "../lab/port.ts";
import { wait, type WaitOptions } from "../lab/wait.ts";

/** A host of the lab: a namespace on the wire in which BIRD runs. Address `10.99.0.<n>` and `fd99::<n>`. */
export interface SpeakerHost {
  name: string;
  number: number;
  space: Namespace;
  address: string;
  address6: string;
  paths: RoutingPaths;
}

/** Hosts on one wire, and a datastore for them. */
export interface BgpLab extends AsyncDisposable {
  hosts: SpeakerHost[];
  /** The bridge; a router on the wire gets a namespace of its own by `plug`. */
  wire: Namespace;
  dir: string;
  store: Store;
  /** Puts a resource under its key, or a bare value under a whole key. */
  put(plural: string, name: string, spec: unknown, metadata?: Record<string, unknown>): Promise<void>;
  putKey(key: string, value: string): Promise<void>;
  deleteKey(key: string): Promise<void>;
  /** A namespace on the wire with `10.99.0.<n>/24` and `fd99::<n>/64` at eth0. */
  plug(name: string, number: number): Promise<Namespace>;
}

/** Key of a resource. */
export const keyOf = (plural: string, name: string) => `/calico/resources/v3/projectcalico.org/${plural}/${name}`;

/**
 * Makes `count` hosts h1, h2, … with a Node resource each and an unencapsulated pool of each family.
 * @param etcd where the resources go; default: memory.
 */
export async function makeBgpLab(count: number, etcd?: Etcd): Promise<BgpLab> {
  const prefix = "h6";
  const wire = await makeNamespace(prefix);
  await wire.ip("link add wire0 type bridge");
  await wire.ip("link set wire0 up");
  const dir = `/dev/shm/${wire.name}-${uniqueSuffix()}`;
  await Deno.mkdir(dir);
  const spaces: Namespace[] = [];
  const store = etcd
    ? openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 5_000 }, { clock: systemClock, log: silentLog })
    : new MemoryStore();
  const lab: BgpLab = {
    hosts: [],
    wire,
    dir,
    store,
    async put(plural, name, spec, metadata = {}) {
      const kind = { nodes: "Node", ippools: "IPPool", bgppeers: "BGPPeer", bgpfilters: "BGPFilter" }[plural] ??
        "BGPConfiguration";
      const value = { kind, apiVersion: "projectcalico.org/v3", metadata: { name, ...metadata }, spec };
      await lab.putKey(keyOf(plural, name), JSON.stringify(value));
    },
    async putKey(key, value) {
      await store.txn({ compare: [], write: [{ put: key, value }] });
    },
    async deleteKey(key) {
      await store.txn({ compare: [], write: [{ delete: key }] });
    },
    async plug(name, number) {
      const space = await makeNamespace(`${wire.name}-${name}`);
      spaces.push(space);
      const port = `p${number}`;
      await wire.ip(`link add ${port} master wire0 type veth peer name eth0 netns ${space.name}`);
      await wire.ip(`link set ${port} up`);
      await space.ip(`addr add 10.99.0.${number}/24 dev eth0`);
      await space.ip(`addr add fd99::${number}/64 dev eth0 nodad`);
      await space.ip("link set eth0 up");
      return space;
    },
    async [Symbol.asyncDispose]() {
      for (const space of spaces) await space[Symbol.asyncDispose]();
      await wire[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await Deno.remove(dir, { recursive: true });
    },
  };
  for (let i = 1; i <= count; i++) {
    const space = await lab.plug(`h${i}`, i);
    lab.hosts.push({
      ...{ name: `h${i}`, number: i, space, address: `10.99.0.${i}`, address6: `fd99::${i}` },
      paths: pathsOf(dir, `h${i}`, space),
    });
    await lab.put("nodes", `h${i}`, { bgp: { ipv4Address: `10.99.0.${i}/24`, ipv6Address: `fd99::${i}/64` } });
  }
  await lab.put("ippools", "four", { cidr: "10.65.0.0/16", ipipMode: "Never", vxlanMode: "Never" });
  await lab.put("ippools", "six", { cidr: "fd65::/48", ipipMode: "Never", vxlanMode: "Never" });
  return lab;
}

function pathsOf(dir: string, name: string, space: Namespace): RoutingPaths {
  const folder = `${dir}/${name}`;
  return {
    config: `${folder}/bird.conf`,
    control: `${folder}/bird.ctl`,
    pid: `${folder}/bird.pid`,
    program: ["ip", "netns", "exec", space.name, Deno.env.get("BIRD") ?? "bird"],
    log: `${folder}/bird.log`,
    calicoSockets: `${folder}/calico`,
    secrets: `${folder}/secrets`,
    endpointStatus: `${folder}/status`,
  };
}

/** Routing of a host, in this process. */
export interface RunningRouting extends AsyncDisposable {
  routing: Routing;
  mirror: Mirror;
  health: Health;
  logged: Record<string, unknown>[];
}

/** Starts routing of a host. What it logs is kept in `logged`. */
export function startRouting(
  lab: BgpLab,
  host: SpeakerHost,
  options: { dataplaneReady?: Promise<void>; env?: Record<string, string> } = {},
): RunningRouting {
  const stop = new AbortController();
  const clock = systemClock;
  const health = new Health();
  const logged: Record<string, unknown>[] = [];
  const log = createLog("routing", { write: (line) => logged.push(JSON.parse(line)) });
  const mirror = Mirror.start({ store: lab.store, clock, log: silentLog });
  const { dataplaneReady } = options;
  const env = (name: string) => options.env?.[name];
  const routing = runRouting({
    ...{ mirror, node: host.name, paths: host.paths, clock, log, health, env, dataplaneReady },
    signal: stop.signal,
  });
  return {
    routing,
    mirror,
    health,
    logged,
    async [Symbol.asyncDispose]() {
      stop.abort(new Error("the test is over"));
      await routing.done;
      await mirror[Symbol.asyncDispose]();
    },
  };
}

/** Gives a host a block, and a workload's /32 in it as the agent would program it. */
export async function giveBlock(lab: BgpLab, host: SpeakerHost, cidr: string): Promise<void> {
  const v = cidr.includes(":") ? 6 : 4;
  const value = JSON.stringify({ state: "confirmed", deleted: "false" });
  await lab.putKey(`/calico/ipam/v2/host/${host.name}/ipv${v}/block/${cidr.replace("/", "-")}`, value);
}

/** Waits until all sessions of these hosts are established, `count` on each. */
export async function established(routings: RunningRouting[], count: number): Promise<void> {
  await wait(`${count} established sessions on each host`, async () => {
    const states = await Promise.all(routings.map(async (r) => (await r.routing.status()).sessions));
    const all = states.every((s) => s.length === count && s.every((x) => x.state === "Established"));
    if (!all) throw new Error(JSON.stringify(states.map((s) => s.map((x) => `${x.name} ${x.state}`))));
    return all;
  }, { deadlineMs: 40_000, everyMs: 200 });
}

/** wait() that leaves BIRD the time that it needs on a busy machine. */
export const patiently = <T>(what: string, look: () => T | Promise<T>, options: WaitOptions = {}) =>
  wait(what, look, { deadlineMs: 40_000, ...options });

/** The kernel's route to a network in a namespace: gateways, or "blackhole"; undefined when there is none. */
export async function routeTo(space: Namespace, net: string): Promise<string[] | undefined> {
  const routes = await space.ipJson<{ type?: string; gateway?: string; nexthops?: { gateway: string }[] }[]>(
    `${net.includes(":") ? "-6" : "-4"} route show exact ${net}`,
  );
  if (routes.length === 0) return undefined;
  return routes.flatMap((r) => r.nexthops?.map((h) => h.gateway) ?? r.gateway ?? r.type ?? "").sort();
}

/** The kernel's route changes in a namespace from now on, without those that it makes for addresses by itself. */
export function watchRoutes(space: Namespace): { lines: string[]; stop(): Promise<void> } {
  const child = new Deno.Command("ip", { args: ["-n", space.name, "monitor", "route"], stdout: "piped", stdin: "null" })
    .spawn();
  const lines: string[] = [];
  const done = (async () => {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      lines.push(...text.split("\n").filter((l) => l !== "" && !/proto kernel|^(Deleted )?(local|multicast) /.test(l)));
    }
  })();
  return {
    lines,
    async stop() {
      child.kill("SIGKILL");
      await child.status;
      await done;
    },
  };
}
