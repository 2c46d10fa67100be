import { isProblem, messageOf } from "../../../lib/problem.ts";
import { nodeName, nodeNameFile } from "../../../lib/node_name.ts";
import type { Clock } from "../../../lib/clock.ts";
import type { StoreOptions } from "../../../datastore/options.ts";
import { Resources } from "../../../datastore/resources.ts";
import type { Store } from "../../../datastore/store.ts";
import { look } from "../../ipam_look.ts";
import type { Looked, LookedFacts } from "../check.ts";
import type { HostFacts } from "../facts.ts";
import { lookAtAgent, lookAtStrangers } from "./agent.ts";
import { lookAtBird } from "./bird.ts";
import { lookAtCni, lookAtCredentials } from "./cni.ts";
import { lookAtConnection, lookAtMembers, lookAtObjects } from "./datastore.ts";
import { lookAtFirewall } from "./firewall.ts";
import * as kernel from "./kernel.ts";
import { lookAtWays } from "./ways.ts";

/** What the looks need from outside. */
export interface LookOptions {
  /** How to reach the datastore and the store itself; or why nobody knows how. */
  datastore: { options: StoreOptions; store: Store } | { unseen: string };
  env: (name: string) => string | undefined;
  clock: Clock;
  /** Told before each part, for who waits. */
  step: (what: string) => void;
}

/** Looks at everything, each part by itself: one that cannot be looked at hides no other. */
export async function lookAtAll({ datastore, env, clock, step }: LookOptions): Promise<LookedFacts> {
  const runDir = env("TORTIE_RUN_DIR") || "/run/tortie", stateDir = env("TORTIE_STATE_DIR") || "/var/lib/tortie";
  step("the datastore");
  const host = attempt(() => lookAtHost(env));
  const agent = await attemptLater(() => lookAtAgent(runDir, stateDir, clock));
  const agentEnv = "seen" in agent && agent.seen.env || env;
  const ofCluster = await lookAtCluster(datastore, host, agentEnv, clock);
  const isNode = isThere(stateDir) || isThere(runDir) || "seen" in host && host.seen.keptName !== undefined ||
    "seen" in ofCluster.objects && "seen" in host &&
      ofCluster.objects.seen.nodes.some((n) => n.metadata.name === host.seen.nodeName);
  const cni = isNode ? await attemptLater(lookAtCni) : elsewhere;
  const credentialFiles = "seen" in cni ? cni.seen?.credentialFiles ?? [] : [];
  const credentials = attempt(() =>
    lookAtCredentials("options" in datastore ? datastore.options : undefined, credentialFiles, clock)
  );
  if (!isNode) return { ...ofCluster, ...ofNoNode, credentials };
  step("this host");
  const settings = then(ofCluster.objects, ({ settings }) => settings);
  const interfaces = then(settings, kernel.lookAtInterfaces);
  const routes = attempt(kernel.lookAtRoutes);
  const [bird, firewall, disks] = await Promise.all([
    attemptLater(() => lookAtBird(runDir, backendOf(agentEnv, "seen" in agent && agent.seen.env !== undefined), clock)),
    attemptLater(lookAtFirewall),
    attemptLater(() => kernel.lookAtDisks([stateDir].filter(isThere))),
  ]);
  step("the ways to other nodes");
  const ways = await waysOf(ofCluster.objects, host, routes, interfaces);
  return {
    ...ofCluster,
    ...{ host, interfaces, routes, bird, firewall, disks, ways, credentials },
    agent: then(agent, ({ facts }) => facts),
    switches: then(interfaces, ({ tunnels }) => kernel.lookAtSwitches(tunnels.keys())),
    wireguard: then(settings, kernel.lookAtWireguard),
    flows: attempt(kernel.lookAtFlows),
    programs: attempt(() =>
      kernel.lookAtPrograms(["iptables-restore", "ip6tables-restore", "ipset", ...birdProgram(bird)])
    ),
    cni: "seen" in cni && !cni.seen
      ? { unseen: "no CNI plugin of ours is installed on this host", elsewhere: true }
      : then(cni, (found) => found!.facts),
    strangers: attempt(lookAtStrangers),
  };
}

const elsewhere = { unseen: "this host is no node of the cluster", elsewhere: true } as const;

/** Facts of a node, on a machine that is none. */
const ofNoNode = {
  ...{
    host: elsewhere,
    agent: elsewhere,
    bird: elsewhere,
    switches: elsewhere,
    interfaces: elsewhere,
    routes: elsewhere,
  },
  ...{
    wireguard: elsewhere,
    firewall: elsewhere,
    flows: elsewhere,
    disks: elsewhere,
    programs: elsewhere,
    cni: elsewhere,
  },
  ...{ ways: elsewhere, strangers: elsewhere },
};

/** What the datastore tells. */
async function lookAtCluster(
  datastore: LookOptions["datastore"],
  host: Looked<HostFacts>,
  env: LookOptions["env"],
  clock: Clock,
): Promise<Pick<LookedFacts, "connection" | "etcd" | "objects" | "ipam">> {
  if ("unseen" in datastore) return { connection: datastore, etcd: datastore, objects: datastore, ipam: datastore };
  const { options, store } = datastore;
  const members = await lookAtMembers(options, clock);
  const connection = await attemptLater(() => lookAtConnection(options, store, members, clock));
  const etcd = members.filter((m) => "sizeBytes" in m);
  const silent = options.endpoints.every((e) => /^https?:/.test(e)) ? "no member tells of itself" : "it is no etcd";
  const known = { connection, etcd: etcd.length > 0 ? { seen: etcd } : { unseen: silent, elsewhere: true } };
  if ("seen" in connection && connection.seen.away !== undefined) {
    const away = { unseen: "the datastore does not answer" };
    return { ...known, objects: away, ipam: away };
  }
  const node = "seen" in host ? host.seen.nodeName : "";
  const [objects, ipam] = await Promise.all([
    attemptLater(() => lookAtObjects(store, node, env)),
    attemptLater(() => look(new Resources(store, { clock }))),
  ]);
  return { ...known, objects, ipam };
}

function lookAtHost(env: LookOptions["env"]): HostFacts {
  const file = env("CALICO_NODENAME_FILE") || nodeNameFile;
  return { nodeName: nodeName({ env }), hostName: Deno.hostname().toLowerCase(), keptName: readName(file) };
}

function readName(file: string): string | undefined {
  try {
    return Deno.readTextFileSync(file).trim() || undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function waysOf(
  objects: LookedFacts["objects"],
  host: LookedFacts["host"],
  routes: LookedFacts["routes"],
  interfaces: LookedFacts["interfaces"],
): Promise<LookedFacts["ways"]> {
  for (const fact of [objects, host, routes, interfaces]) if ("unseen" in fact) return fact;
  if (!("seen" in objects && "seen" in host && "seen" in routes && "seen" in interfaces)) return elsewhere;
  return await attemptLater(() => lookAtWays(objects.seen.nodes, host.seen.nodeName, routes.seen, interfaces.seen));
}

/** The backend that the agent was told; undefined when nobody can know it. */
function backendOf(env: LookOptions["env"], isAgents: boolean): string | undefined {
  if (!isAgents && !env("CALICO_NETWORKING_BACKEND")) return undefined;
  return env("CALICO_NETWORKING") === "false" ? "none" : env("CALICO_NETWORKING_BACKEND") ?? "";
}

const birdProgram = (bird: LookedFacts["bird"]): string[] => "seen" in bird && bird.seen.wanted ? ["bird"] : [];

/** A fact that follows from another one, known when that is. */
const then = <A, B>(fact: Looked<A>, next: (value: A) => B): Looked<B> =>
  "seen" in fact ? attempt(() => next(fact.seen)) : fact;

/** What `work` sees. Problems and refusals of the system become the reason why it saw nothing. */
function attempt<T>(work: () => T): Looked<T> {
  try {
    return { seen: work() };
  } catch (error) {
    return unseen(error);
  }
}

async function attemptLater<T>(work: () => Promise<T>): Promise<Looked<T>> {
  try {
    return { seen: await work() };
  } catch (error) {
    return unseen(error);
  }
}

function unseen(error: unknown): { unseen: string } {
  const isExpected = isProblem(error) ||
    Object.values(Deno.errors).some((kind) => error instanceof kind);
  if (!isExpected) throw error;
  return { unseen: messageOf(error) };
}

function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
