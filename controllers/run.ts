import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { ensureInitialized } from "../datastore/cluster.ts";
import { resourcePrefix } from "../datastore/keys.ts";
import { Mirror } from "../datastore/mirror.ts";
import { Resources } from "../datastore/resources.ts";
import { prefixRange, type Store } from "../datastore/store.ts";
import { terms } from "./election.ts";
import { nodeSync } from "./nodes.ts";
import { namespaceSync, policySync, serviceAccountSync } from "./owned.ts";
import { podSync } from "./pods.ts";
import { type Api, Reflector } from "../datastore/kubernetes/reflector.ts";
import { removeStaleNode } from "./stale_nodes.ts";
import type { Sync } from "./sync.ts";
import { Worker } from "./worker.ts";

/** All controllers by name, as ENABLED_CONTROLLERS calls them. */
export const controllers: Record<string, () => Sync> = {
  policy: policySync,
  namespace: namespaceSync,
  serviceaccount: serviceAccountSync,
  workloadendpoint: podSync,
  node: nodeSync,
};

/** What the controllers are made of. */
export interface ControllersParts {
  store: Store;
  /** Makes the connection of one reflector: each has its own, so that a dead one costs one watch. */
  api(): Promise<Api & Disposable>;
  /** Names of `controllers`. */
  enabled: string[];
  /** Name of this instance. */
  holder: string;
  /** Hears how each controller and the datastore stand. */
  health: Health;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
  signal: AbortSignal;
}

/** Between two looks for health. */
const lookMs = 1_000;

/** One controller: what it knows, who reads Kubernetes for it, who writes for it. */
interface Controller {
  sync: Sync;
  reflector: Reflector<unknown>;
  worker: Worker;
  /** Kubernetes was listed: before, what it does not name would seem to be gone. */
  listed: PromiseWithResolvers<void>;
}

/**
 * Runs the controllers until the signal: all follow Kubernetes and etcd, so that they are warm, and those of the instance
 * that holds the lock write. @throws what is a bug.
 */
export async function runControllers(parts: ControllersParts): Promise<void> {
  await using cleanup = new AsyncDisposableStack();
  const stop = new AbortController();
  const signal = AbortSignal.any([parts.signal, stop.signal]);
  const { store, clock, log } = parts;
  const resources = new Resources(store, { clock });
  const mirror = cleanup.use(
    Mirror.start({ store, range: prefixRange(resourcePrefix), clock, log: log.child("mirror"), random: parts.random }),
  );
  const all: Controller[] = [];
  for (const name of parts.enabled) {
    const api = cleanup.use(await parts.api());
    all.push(controllerOf(controllers[name]!(), api, mirror, resources, parts));
  }
  const mirrored = Promise.withResolvers<void>();
  const loops = [
    followEtcd(mirror, all, mirrored.resolve, signal),
    ...all.map((one) => followKubernetes(one, signal)),
    work(parts, all, mirrored.promise, resources, signal),
    tellHealth(parts, all, mirror, signal),
  ];
  try {
    await Promise.all(loops);
  } finally {
    stop.abort(new Error("another loop ended"));
    await Promise.allSettled(loops);
  }
}

function controllerOf(
  sync: Sync,
  api: Api,
  mirror: Mirror,
  resources: Resources,
  { clock, log, random }: ControllersParts,
): Controller {
  const own = log.child(sync.name);
  const keep: Sync["keep"] = (object) => sync.keep(object);
  return {
    sync,
    reflector: new Reflector({ api, path: sync.path, keep, clock, log: own, random }),
    worker: new Worker({
      ...{ sync, mirror, resources, clock, log: own, random },
      removeNode: (node) => removeStaleNode({ api, resources, clock, log: own, random }, node),
    }),
    listed: Promise.withResolvers<void>(),
  };
}

async function followEtcd(mirror: Mirror, all: Controller[], ready: () => void, signal: AbortSignal): Promise<void> {
  try {
    for await (const changes of mirror.changes(signal)) {
      for (const { sync, worker } of all) worker.doubt(sync.stored(changes));
      ready();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function followKubernetes({ sync, reflector, worker, listed }: Controller, signal: AbortSignal): Promise<void> {
  for await (const batch of reflector.batches(signal)) {
    worker.doubt(sync.kubernetes(batch));
    listed.resolve();
  }
}

/** Says every second how each controller stands: what it follows, and what it cannot bring in order. */
async function tellHealth({ health, clock }: ControllersParts, all: Controller[], mirror: Mirror, signal: AbortSignal) {
  while (!signal.aborted) {
    const etcd = mirror.state();
    health.report("datastore", etcd.inSync && etcd.connected, etcd.why);
    for (const { sync, reflector, worker } of all) {
      const { listed, connected, why } = reflector.state();
      const [first] = worker.failing();
      const failing = first && `${worker.failing().size} not in order, such as ${first.join(": ")}`;
      health.report(sync.name, listed && connected && !first, connected ? failing : why);
    }
    await clock.sleep(lookMs, signal).catch(() => {}); // aborted: the loop looks for that
  }
}

/** Writes, as long as this is the instance that works; a controller begins when it knows both sides. */
async function work(
  parts: ControllersParts,
  all: Controller[],
  mirrored: Promise<void>,
  resources: Resources,
  signal: AbortSignal,
): Promise<void> {
  for await (const term of terms(parts, signal)) {
    const over = new Promise<void>((resolve) => term.addEventListener("abort", () => resolve(), { once: true }));
    await initialize(parts, resources, term);
    await Promise.all(all.map(async ({ worker, listed }) => {
      await Promise.race([Promise.all([mirrored, listed.promise]), over]);
      await worker.run(term);
    }));
  }
}

/** What every cluster needs (tiers, ClusterInformation); tried until it is there. */
async function initialize({ clock, log, random }: ControllersParts, resources: Resources, term: AbortSignal) {
  const backoff = new Backoff({ firstMs: 100, maxMs: 5_000, clock, random });
  while (!term.aborted) {
    try {
      return await ensureInitialized(resources, "k8s");
    } catch (error) {
      if (!isProblem(error)) throw error;
      log.warn("the cluster's own objects cannot be made now", { why: messageOf(error) });
      await backoff.wait(term).catch(() => {}); // aborted: the loop looks for that
    }
  }
}
