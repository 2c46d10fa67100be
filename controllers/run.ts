import { giveBackMemory } from "../kernel/memory.ts";
import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { ensureInitialized } from "../datastore/cluster.ts";
import { resourcePrefix } from "../datastore/keys.ts";
import { type Api, Reflector } from "../datastore/kubernetes/reflector.ts";
import { Mirror, mirroredRange } from "../datastore/mirror.ts";
import { Resources } from "../datastore/resources.ts";
import { prefixRange, type Store } from "../datastore/store.ts";
import { Allocator } from "../ipam/commit.ts";
import { crewOf, type Member } from "./crew.ts";
import { terms } from "./election.ts";
import type { LiveSettings } from "./live_settings.ts";
import type { ControllerMetrics } from "./metrics.ts";
import type { Source } from "./sources.ts";
import { configurationKey, specIn } from "./syncs/configuration.ts";
import { warmStore } from "./warm_store.ts";

/** What the controllers are made of. */
export interface ControllersParts {
  store: Store;
  /** Makes the connection of one reflector: each has its own, so that a dead one costs one watch. */
  api(): Promise<Api & Disposable>;
  live: LiveSettings;
  /** Name of this instance. */
  holder: string;
  /** Hears how each controller, the API server and the datastore stand. */
  health: Health;
  metrics: ControllerMetrics;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
  signal: AbortSignal;
}

/** Between two looks for health, and the time after which the process counts as dead without one. */
const lookMs = 1_000, deadMs = 90_000;
/** So many writes, or one list, leave garbage worth a pause. */
const burst = 5_000;

/** One collection of Kubernetes, and who reads it. */
interface Followed {
  source: Source;
  reflector: Reflector<unknown>;
  readers: Member[];
  /** It was listed: before, what it does not name would seem to be gone. */
  listed: PromiseWithResolvers<void>;
}

/**
 * Runs the controllers until the signal: all follow Kubernetes and etcd, so that they are warm, and those of the instance
 * that holds the lock write. When other controllers are switched on they begin anew; other settings are taken over as
 * they change. @throws what is a bug.
 */
export async function runControllers(parts: ControllersParts): Promise<void> {
  const { signal, live, health, log } = parts;
  await readSettings(parts);
  while (!signal.aborted) {
    const { enabled } = live.running;
    health.clear();
    health.register("datastore", deadMs);
    log.info("controllers begin", { enabled: enabled.join(",") });
    await runCrew(parts);
  }
}

/** The stored settings, which say what to begin with; asked for until etcd answers. */
async function readSettings({ store, live, clock, random, log, signal }: ControllersParts): Promise<void> {
  const backoff = new Backoff({ firstMs: 100, maxMs: 5_000, clock, random });
  while (!signal.aborted) {
    try {
      return void live.take(specIn(await store.get(configurationKey, { signal })));
    } catch (error) {
      if (!isProblem(error)) throw error;
      log.warn("settings cannot be read now", { why: messageOf(error) });
      await backoff.wait(signal).catch(() => {}); // aborted: the loop looks for that
    }
  }
}

/** One set of controllers, until the signal or until another set is asked for. */
async function runCrew(parts: ControllersParts): Promise<void> {
  await using cleanup = new AsyncDisposableStack();
  const { store, clock, log, random, live } = parts;
  const stop = new AbortController();
  const signal = AbortSignal.any([parts.signal, stop.signal]);
  const enabled = live.running.enabled;
  const needsAddresses = enabled.includes("node") || enabled.includes("loadbalancer");
  const range = needsAddresses ? mirroredRange : prefixRange(resourcePrefix);
  const mirror = cleanup.use(Mirror.start({ store, range, clock, log: log.child("mirror"), random }));
  const resources = new Resources(warmStore(store, mirror), { clock });
  const allocator = cleanup.use(new Allocator({ store, reader: () => mirror, clock, random, log: log.child("ipam") }));
  const api = cleanup.use(await parts.api());
  const { members, collector } = crewOf(enabled, { mirror, resources, allocator, api, live, clock, log, random });
  const followed: Followed[] = [];
  for (const source of new Set(members.flatMap(({ follower }) => follower.sources))) {
    followed.push(followedOf(source, cleanup.use(await parts.api()), members, parts));
  }
  parts.metrics.measured = { members, followed, mirror, collector };
  for (const { source } of followed) parts.health.register(source.name);
  for (const { follower } of members) parts.health.register(follower.name);
  const mirrored = Promise.withResolvers<void>();
  const loops = [
    followEtcd(mirror, members, live, mirrored.resolve, signal).finally(() =>
      stop.abort(new Error("etcd's loop ended"))
    ),
    ...followed.map((one) => followKubernetes(one, signal)),
    work(parts, members, followed, mirrored.promise, signal),
    tellHealth(parts, members, followed, mirror, signal),
  ];
  try {
    await Promise.all(loops);
  } finally {
    stop.abort(new Error("another loop ended"));
    await Promise.allSettled(loops);
  }
}

function followedOf(source: Source, api: Api, members: Member[], { clock, log, random }: ControllersParts): Followed {
  const { path, isOptional } = source;
  const keep: Source["keep"] = (object) => source.keep(object);
  return {
    source,
    reflector: new Reflector({ api, path, keep, clock, log: log.child(source.name), random, isOptional }),
    readers: members.filter(({ follower }) => follower.sources.includes(source)),
    listed: Promise.withResolvers<void>(),
  };
}

/** Until the signal, or until other controllers are to run. */
async function followEtcd(
  mirror: Mirror,
  members: Member[],
  live: LiveSettings,
  ready: () => void,
  signal: AbortSignal,
): Promise<void> {
  const { enabled } = live.running;
  let isFirst = true;
  try {
    for await (const changes of mirror.changes(signal)) {
      const isChanged = live.take(specIn(mirror.get(configurationKey)));
      if (live.running.enabled.join() !== enabled.join()) return;
      for (const { follower, worker } of members) {
        worker.doubt(follower.stored(changes));
        if (isFirst || isChanged) worker.doubt(follower.configure?.(live.running) ?? []);
      }
      isFirst = false;
      ready();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function followKubernetes({ source, reflector, readers, listed }: Followed, signal: AbortSignal): Promise<void> {
  for await (const batch of reflector.batches(signal)) {
    for (const { follower, worker } of readers) worker.doubt(follower.kubernetes(batch, source));
    listed.resolve();
  }
}

/** Says every second how everything stands: what is followed, and what cannot be brought in order. */
async function tellHealth(
  { health, clock }: ControllersParts,
  members: Member[],
  followed: Followed[],
  mirror: Mirror,
  signal: AbortSignal,
): Promise<void> {
  let done = 0;
  while (!signal.aborted) {
    const etcd = mirror.state();
    health.report("datastore", etcd.inSync && etcd.connected, etcd.why);
    for (const { source, reflector } of followed) {
      const { listed, connected, why } = reflector.state();
      health.report(source.name, listed && connected, why);
    }
    for (const { follower, worker } of members) {
      const [first] = worker.failing();
      const failing = first && `${worker.failing().size} not in order, such as ${first.join(": ")}`;
      health.report(follower.name, !first, failing);
    }
    const now = workOf(members, followed);
    if (now !== undefined && now - done > burst) {
      giveBackMemory();
      done = now;
    }
    await clock.sleep(lookMs, signal).catch(() => {}); // aborted: the loop looks for that
  }
}

/** What was listed and written since the start, as a number that grows; undefined while there is something to do. */
function workOf(members: Member[], followed: Followed[]): number | undefined {
  const isBusy = members.some(({ worker }) => worker.waiting > 0) ||
    followed.some(({ reflector }) => !reflector.state().listed);
  if (isBusy) return undefined;
  const lists = followed.reduce((sum, { reflector }) => sum + reflector.state().lists, 0);
  return members.reduce((sum, { worker }) => sum + worker.written, lists * burst);
}

/** Writes, as long as this is the instance that works; a member begins when it knows both sides. */
async function work(
  parts: ControllersParts,
  members: Member[],
  followed: Followed[],
  mirrored: Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  for await (const term of terms(parts, signal)) {
    const over = new Promise<void>((resolve) => term.addEventListener("abort", () => resolve(), { once: true }));
    parts.metrics.working = true;
    await initialize(parts, new Resources(parts.store, { clock: parts.clock }), term);
    await Promise.all(members.map(async ({ follower, worker }) => {
      const sides = followed.filter(({ source }) => follower.sources.includes(source)).map(({ listed }) =>
        listed.promise
      );
      await Promise.race([Promise.all([mirrored, ...sides]), over]);
      await worker.run(term);
    }));
    parts.metrics.working = false;
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
