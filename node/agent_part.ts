import { type Clock, rfc3339 } from "../lib/clock.ts";
import { readIfThere, writeDurably } from "../lib/durable_file.ts";
import { bits, formatIp, formatMac } from "../lib/ip.ts";
import type { Metrics } from "../lib/metrics.ts";
import { listLinks } from "../kernel/rtnetlink/link.ts";
import { listRoutes, table } from "../kernel/rtnetlink/route.ts";
import { RtSocket } from "../kernel/rtnetlink/socket.ts";
import { runAgent } from "../agent/agent.ts";
import type { Desired } from "../agent/desired.ts";
import { calicoMtuFile, Dataplane } from "../agent/dataplane/apply.ts";
import { runCollector } from "../agent/endpoints/collector.ts";
import { Journal } from "../agent/endpoints/journal.ts";
import { Leases } from "../agent/endpoints/leases.ts";
import { type AddStep, addSteps, Lifecycle } from "../agent/endpoints/lifecycle.ts";
import type { NodeCounts } from "../agent/netfilter/decision_counts.ts";
import { Wiring } from "../agent/endpoints/wiring.ts";
import { serveCni } from "../cni/server.ts";
import { Allocator } from "../ipam/commit.ts";
import { keepKubernetesAccess } from "./kubernetes_access.ts";
import { keepMemorySmall } from "./memory_part.ts";
import { startPolicy } from "./policy_part.ts";
import { observations } from "./observations.ts";
import { birdRuns } from "./routing_part.ts";
import type { Shared } from "./parts.ts";
import { startStatus } from "./status_part.ts";
import { keepTunnelAddresses } from "./tunnel_part.ts";
import { keepWireguardKeys } from "./wireguard_part.ts";

/** A running agent. */
export interface AgentPart {
  loops: Promise<void>[];
  /** Resolves when the first rules are in the kernel; rejects when they cannot be. */
  closed: Promise<void>;
  /** Resolves when the kernel first has everything that the datastore asks for. */
  ready: Promise<void>;
  /** See PolicyPart. */
  counts(): Promise<NodeCounts>;
}

/** Interfaces, addresses and routes of this node's endpoints, and the server for CNI calls. */
export async function startAgent(shared: Shared, cleanup: AsyncDisposableStack): Promise<AgentPart> {
  const { settings, mirror, store, node, clock, health, metrics, refusals, signal, stateDir, runDir } = shared;
  const log = shared.log.child("agent");
  const dataplane = cleanup.use(
    Dataplane.start({
      clock,
      random: Math.random,
      log: log.child("dataplane"),
      health,
      metrics,
      mtuFile: calicoMtuFile,
    }),
  );
  const wiring = cleanup.use(new Wiring());
  const allocator = cleanup.use(
    new Allocator({ store, reader: () => mirror, clock, random: Math.random, log: log.child("ipam") }),
  );
  const journal = new Journal(`${stateDir}/pending-del`);
  const leases = new Leases(`${stateDir}/leases`);
  const policy = startPolicy(shared, cleanup);
  const lifecycle = new Lifecycle({
    ...{ node, store, mirror, allocator, wiring, journal, leases, clock, random, step: dieAt() },
    dataplane: {
      status: () => dataplane.status(),
      enforced: async (key, deadlineMs, is) =>
        void await Promise.all([dataplane.enforced(key, deadlineMs, is), policy.enforced(key, deadlineMs)]),
    },
    log: log.child("endpoints"),
  });
  await lifecycle.recover();
  cleanup.use(
    await serveCni({
      ...{ path: `${runDir}/agent.sock`, node, lifecycle, clock, log: log.child("cni") },
      kubeconfig: settings.get("KUBECONFIG"),
      more: observations({ ...shared, policy }),
      policy: () => ({ ...policy.status() ?? { inSync: false }, refused: refusals.list().map((r) => ({ ...r })) }),
    }),
  );
  const env = (name: string) => settings.get(name);
  const agent = runAgent({
    ...{ mirror, node, log, health, signal, env, refusals },
    dataplane: appliedAfter(policy.ready, dataplane, clock),
    birdRuns: birdRuns(settings),
  });
  const socket = cleanup.use(RtSocket.open());
  const collector = runCollector({
    ...{ node, mirror, allocator, journal, leases, clock },
    learn: (events) => mirror.learn(events),
    endpoints: () => lifecycle.list(),
    routedAddresses: () => routedAddresses(socket),
    recordsSinceMs: await recordsSince(shared),
    log: log.child("collector"),
  }, signal);
  metrics.onCollect(() => collectPorts(dataplane, metrics));
  const status = startStatus(shared, { dataplane, policy }, cleanup);
  const ready = policy.ready.then(() => inSync(shared, dataplane));
  ready.catch(() => {}); // policy that cannot start ends the process, with its own words
  return {
    loops: [
      ...[agent, policy.done, lifecycle.run(signal), collector, status],
      ...[keepTunnelAddresses(shared, allocator), keepWireguardKeys(shared, dataplane), keepKubernetesAccess(shared)],
      ...[keepMemorySmall(shared, ready), tellRivals(shared, dataplane)],
    ],
    closed: policy.ready,
    ready,
    counts: () => policy.counts(),
  };
}

/**
 * Policy before packets: no interface is raised and no route made before the first chains are in the kernel. Later, too, the
 * chains' turn comes first: other programs write them, and the dataplane does its part meanwhile.
 */
function appliedAfter(ready: Promise<void>, dataplane: Dataplane, clock: Clock): Pick<Dataplane, "apply"> {
  let newest: Desired | undefined, open = false;
  ready.then(() => {
    open = true;
    if (newest) dataplane.apply(newest);
  }, () => {}); // policy that cannot start ends the process
  return {
    apply(desired) {
      newest = desired;
      if (open) clock.sleep(0).then(() => dataplane.apply(newest!));
    },
  };
}

/** Names addresses of this node's that another interface has, too. */
async function tellRivals({ refusals, signal }: Shared, dataplane: Dataplane): Promise<void> {
  for await (const _ of dataplane.changes(signal)) {
    const named = [...dataplane.rivals()].map(([ip, why]): [string, string] => [`address ${ip}`, why]);
    refusals.set("node's addresses", new Map(named), "address is on several interfaces");
  }
}

/** Routes under Felix's name, and what of the network is not as wanted. */
function collectPorts(dataplane: Dataplane, metrics: Metrics): void {
  const { ports, interfaces } = dataplane.status();
  for (const { name, wanted, failed } of ports) {
    metrics.set("tortie_not_in_sync", failed.length, { port: name });
    const routes = /^routes ip(4|6) table (\d+)$/.exec(name);
    if (!routes) continue;
    const table = `IPv${routes[1]}:${routes[2]}`;
    metrics.set("felix_route_table_num_routes", wanted, { table });
    metrics.set("felix_route_table_num_ifaces", interfaces, { table });
  }
}

/** Random values of new endpoints. */
const random = {
  uuid: () => crypto.randomUUID() as string,
  mac() {
    const bytes = crypto.getRandomValues(new Uint8Array(6));
    // Locally administered, unicast (IEEE 802).
    bytes[0] = (bytes[0]! & 0xfe) | 0x02;
    return formatMac(bytes);
  },
};

/** So long BGP waits for a kernel that refuses something. That is told; what else it has shall be reachable. */
const refusedMs = 30_000;

async function inSync({ clock, signal, log }: Shared, dataplane: Dataplane): Promise<void> {
  const end = clock.monotonicMs() + refusedMs;
  while (!signal.aborted && !dataplane.status().inSync) {
    if (clock.monotonicMs() >= end) {
      return log.warn("not all is in the kernel as wanted; routes are announced all the same");
    }
    await clock.sleep(50, signal).catch(() => {});
  }
}

/** When this node's agent began to keep records; written at its first start. */
async function recordsSince({ stateDir, clock }: Shared): Promise<number> {
  const file = `${stateDir}/records-since`;
  const known = Date.parse((await readIfThere(file))?.trim() ?? "");
  if (!Number.isNaN(known)) return known;
  await writeDurably(file, rfc3339(clock.now()));
  return clock.now();
}

/** Addresses that this host routes to one interface: those of pods, whoever made them. */
function routedAddresses(socket: RtSocket): ReadonlySet<string> {
  const links = listLinks(socket);
  const isPodSide = (index: number | undefined) => index !== undefined && links.get(index)?.kind === "veth";
  const routes = ([4, 6] as const).flatMap((family) => listRoutes(socket, { family, table: table.main }));
  return new Set(routes.filter((r) => r.dst.len === bits(r.dst.v) && isPodSide(r.index)).map((r) => formatIp(r.dst)));
}

/**
 * For tests of crashes: TORTIE_TEST_DIE_AT=<step of an ADD> kills this process when an ADD has come so far, as kill -9
 * would. Nothing but the environment can set it.
 */
function dieAt(): ((step: AddStep) => void) | undefined {
  const at = Deno.env.get("TORTIE_TEST_DIE_AT");
  if (!addSteps.some((step) => step === at)) return undefined;
  return (step) => {
    if (step === at) Deno.kill(Deno.pid, "SIGKILL");
  };
}
