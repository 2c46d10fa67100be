import type { Mirror } from "../datastore/mirror.ts";
import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import { Pulse } from "../lib/pulse.ts";
import type { Fields, Logger } from "../lib/log.ts";
import { type Metrics, noMetrics } from "../lib/metrics.ts";
import { Problem } from "../lib/problem.ts";
import { type Applied, Bird, type BirdPaths, birdPaths } from "./bird.ts";
import { render, sealOf } from "./bird_config.ts";
import { birdGone } from "./bird_control.ts";
import type { BirdState, Session } from "./bird_status.ts";
import { serveCalicoSockets } from "./calico_sockets.ts";
import { inputsOf } from "./inputs.ts";
import { peersOf } from "./peers.ts";
import { Findings, type KubernetesView, type Surroundings } from "./resources.ts";
import { Snapshot } from "./snapshot.ts";
import { readSurroundings } from "./surroundings.ts";

/** Files and folders of routing; BIRD's own are in BirdPaths. */
export interface RoutingPaths extends BirdPaths {
  /** Folder of Calico's sockets `bird.ctl` and `bird6.ctl`, which we answer; "" = none. Default `/var/run/calico`. */
  calicoSockets: string;
  /** Folder of BGP passwords for hosts without Kubernetes: `<secret name>/<key>`. Default `/etc/tortie/secrets`. */
  secrets: string;
  /** Folder that holds `endpoint-status`. Default CALICO_ENDPOINT_STATUS_PATH_PREFIX, else `/var/run/calico`. */
  endpointStatus: string;
}

/** What routing is made of. */
export interface RoutingOptions {
  mirror: Mirror;
  /** This node's name. */
  node: string;
  paths?: Partial<RoutingPaths>;
  clock: Clock;
  log: Logger;
  health: Health;
  /** tortie_bgp_peers and tortie_bird_configurations_total are kept here. */
  metrics?: Metrics;
  /** CALICO_ROUTER_ID, CALICO_ADVERTISE_CLUSTER_IPS, CALICO_K8S_NODE_REF, CALICO_ENDPOINT_STATUS_PATH_PREFIX. */
  env: (name: string) => string | undefined;
  /** Ends the loop. BIRD and its routes stay. */
  signal: AbortSignal;
  /** BIRD is not started before this resolves, so nothing is announced too early. One that runs already is kept current. */
  dataplaneReady?: Promise<void>;
  /** Who starts BIRD: we, detached (default), or systemd, which is then only waited for. */
  startedBy?: "us" | "systemd";
  /** Whether the kernel has routes of an earlier BIRD. See BirdOptions. */
  leftRoutes?: () => boolean;
  /** Views of the Kubernetes API, newest last; without it services are announced by their ranges only. */
  kubernetes?: AsyncIterable<KubernetesView>;
}

/** What routing tells of itself. */
export interface RoutingStatus {
  /** What BIRD says; undefined when none answers. */
  bird: BirdState | undefined;
  sessions: Session[];
  /** Objects that could not be used, or only in part. */
  problems: Problem[];
  /** Why the newest configuration is not in force; undefined when it is. */
  lastError?: string;
  /** Since this process started: BIRD was told to configure, was started, and configurations that it refused. */
  counts: { configured: number; started: number; refused: number };
}

/** A running loop from the mirror to BIRD. */
export interface Routing {
  /** Resolves after `signal`; rejects on a bug. */
  readonly done: Promise<void>;
  /** BIRD itself, for its routes and for stopping it. */
  readonly bird: Bird;
  /** Asks BIRD now. */
  status(): Promise<RoutingStatus>;
  /** Objects that cannot be used, or only in part: yields all of them whenever they are others than before. */
  problems(signal: AbortSignal): AsyncGenerator<readonly Problem[]>;
}

/** A burst of changes is one configuration: written when nothing came for this long, */
const quietMs = 50;
/** or when the first of them has waited this long. */
const longestMs = 500;
/** Between two looks at files, and at a BIRD that does not run. */
const lookMs = 5_000;

/** Starts the loop: mirror → inputs → peers → text → BIRD. Returns at once. */
export function runRouting(options: RoutingOptions): Routing {
  return new Loop(options);
}

class Loop implements Routing {
  readonly done: Promise<void>;
  readonly bird: Bird;
  readonly #paths: RoutingPaths;
  readonly #snapshot: Snapshot;
  readonly #counts = { configured: 0, started: 0, refused: 0 };
  #wakes = 0;
  #woken = Promise.withResolvers<void>();
  #synced = false;
  #mayStart = false;
  #kubernetes: KubernetesView | undefined;
  #problems: Problem[] = [];
  readonly #told = new Pulse();
  #lastError: string | undefined;
  /** The surroundings of the last configuration, to notice a change of files. */
  #seen = "";
  /** The text that shall be in force. */
  #wanted: string | undefined;
  /** Monotonic time before which a BIRD that ended is not started again. */
  #startAfterMs = 0;
  /** The configuration is written for a BIRD that somebody else starts. */
  #awaitsBird = false;
  /** The text that BIRD refused: not tried again before an input changes it. */
  #refused: string | undefined;

  constructor(readonly options: RoutingOptions) {
    const prefix = options.env("CALICO_ENDPOINT_STATUS_PATH_PREFIX") || "/var/run/calico";
    const defaults = { calicoSockets: "/var/run/calico", secrets: "/etc/tortie/secrets", endpointStatus: prefix };
    this.#paths = { ...birdPaths, ...defaults, ...options.paths };
    this.#snapshot = new Snapshot(options.node);
    const { clock, log, health, startedBy = "us", leftRoutes } = options;
    this.bird = new Bird({ paths: this.#paths, clock, log, startedBy, leftRoutes });
    health.register("routing", 10 * lookMs);
    this.done = this.#run();
  }

  async status(): Promise<RoutingStatus> {
    const [bird, sessions] = await Promise.all([this.bird.state(), this.bird.sessions()]);
    return { bird, sessions, problems: this.#problems, lastError: this.#lastError, counts: { ...this.#counts } };
  }

  async *problems(signal: AbortSignal): AsyncGenerator<readonly Problem[]> {
    for await (const _ of this.#told.beats(signal)) yield this.#problems;
  }

  async #run(): Promise<void> {
    const { signal, clock, log } = this.options;
    const stop = new AbortController();
    const whole = AbortSignal.any([signal, stop.signal]);
    const parts = [
      this.#follow(whole),
      this.#followKubernetes(whole),
      this.#look(whole),
      this.#watchBird(whole),
      this.#work(whole),
    ];
    if (this.#paths.calicoSockets !== "") {
      const { calicoSockets: folder, control } = this.#paths;
      parts.push(serveCalicoSockets({ folder, control, clock, log, signal: whole }));
    }
    try {
      await Promise.all(parts);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      stop.abort(new Error("routing has ended"));
      await Promise.allSettled(parts);
    }
  }

  #wake(): void {
    this.#wakes++;
    this.#woken.resolve();
  }

  /** Takes changes of etcd. While the mirror is not in sync there are none, so the last configuration stays. */
  async #follow(signal: AbortSignal): Promise<void> {
    for await (const changes of this.options.mirror.changes(signal)) {
      const concerned = this.#snapshot.update(changes);
      if (concerned || !this.#synced) this.#wake();
      this.#synced = true;
    }
  }

  async #followKubernetes(signal: AbortSignal): Promise<void> {
    for await (const view of this.options.kubernetes ?? []) {
      if (signal.aborted) return;
      this.#kubernetes = view;
      this.#wake();
    }
  }

  /** Looks every few seconds at the files that were read and at what BIRD runs. */
  async #look(signal: AbortSignal): Promise<void> {
    const { clock, health } = this.options;
    for (;;) {
      await clock.sleep(lookMs, signal);
      const runs = await this.bird.running();
      if (this.#synced && fingerprint(await this.#surroundings(new Findings())) !== this.#seen) this.#wake();
      const isOther = this.#wanted !== undefined && runs !== sealOf(this.#wanted);
      if (this.#mayStart && (isOther || this.#awaitsBird)) this.#wake();
      const why = this.#synced
        ? this.#lastError ?? (runs === undefined ? "BIRD does not run" : undefined)
        : "no data yet";
      health.report("routing", why === undefined, why);
    }
  }

  async #measure(): Promise<void> {
    const { metrics = noMetrics } = this.options;
    const states = Map.groupBy(await this.bird.sessionStates(), (s) => s.state);
    metrics.clear("tortie_bgp_peers");
    for (const [state, sessions] of states) metrics.set("tortie_bgp_peers", sessions.length, { state });
  }

  /** Notices at once that BIRD ended. */
  async #watchBird(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.options;
    const backoff = new Backoff({ firstMs: 1_000, maxMs: 60_000, clock });
    while (!signal.aborted) {
      const begin = clock.monotonicMs();
      const lived = await birdGone(this.#paths.control, signal);
      if (signal.aborted) return;
      if (!lived) {
        await clock.sleep(500, signal);
        if (this.#startAfterMs > 0 && clock.monotonicMs() >= this.#startAfterMs) {
          this.#startAfterMs = 0;
          this.#wake();
        }
        continue;
      }
      const livedMs = Math.round(clock.monotonicMs() - begin);
      // One that ends soon after each start is not started at once again: it would only disturb its peers.
      if (livedMs > 60_000) backoff.reset();
      else if (livedMs < 10_000) this.#startAfterMs = clock.monotonicMs() + backoff.next();
      log.warn("BIRD ended", { control: this.#paths.control, livedMs });
      this.#wake();
    }
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { clock } = this.options;
    for (;;) {
      await unlessAborted(this.#woken.promise, signal);
      const end = clock.monotonicMs() + longestMs;
      for (let wakes = -1; wakes !== this.#wakes && clock.monotonicMs() < end;) {
        wakes = this.#wakes;
        await clock.sleep(quietMs, signal);
      }
      this.#woken = Promise.withResolvers<void>();
      if (this.#synced) await this.#once(signal);
    }
  }

  /** One pass from what is known to what BIRD runs. */
  async #once(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.options;
    const begin = clock.monotonicMs();
    const findings = new Findings();
    this.#snapshot.tell(findings);
    const around = await this.#surroundings(findings);
    this.#seen = fingerprint(around);
    const speaker = inputsOf(this.#snapshot.resources, around, findings);
    if (!speaker) {
      this.#tell(findings.problems);
      this.#lastError = "this node has no Node resource";
      return;
    }
    const peers = peersOf(speaker, this.#snapshot.resources.bgpPeers.values(), around.peeringEndpoints, findings);
    const text = render(speaker, peers, findings, { log: this.#paths.log });
    this.#tell(findings.problems);
    this.#wanted = text;
    if (text === this.#refused) return;
    await this.#waitForDataplane(signal);
    if (clock.monotonicMs() < this.#startAfterMs && await this.bird.running() === undefined) {
      this.#lastError = "BIRD ended soon after its start, it is tried again later";
      return;
    }
    try {
      const applied = await this.bird.apply(text, around.passwords.values());
      this.#take(applied, text, { sessions: peers.length, ms: Math.round(clock.monotonicMs() - begin) });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#lastError = error.message;
      log.error("BIRD has not got its configuration, we try again", { why: error.message });
    }
  }

  /** Holds back the start of BIRD, and with it every announcement, until the dataplane holds its first state. */
  async #waitForDataplane(signal: AbortSignal): Promise<void> {
    const { dataplaneReady } = this.options;
    if (!this.#mayStart && dataplaneReady && await this.bird.running() === undefined) {
      this.#lastError = "waits for the dataplane before BIRD starts";
      await unlessAborted(dataplaneReady, signal);
    }
    this.#mayStart = true;
  }

  #take(applied: Applied, text: string, fields: Fields): void {
    const { log, metrics = noMetrics } = this.options;
    if (applied.is !== "unchanged") metrics.add("tortie_bird_configurations_total", 1, { outcome: applied.is });
    this.#refused = undefined;
    this.#lastError = undefined;
    this.#awaitsBird = applied.is === "written";
    if (applied.is === "refused") {
      this.#counts.refused++;
      this.#refused = text;
      this.#lastError = `BIRD refuses the configuration: ${applied.line}`;
      log.error("BIRD refuses the configuration, the last one stays", { why: applied.line });
    } else if (applied.is === "configured") {
      this.#counts.configured++;
      log.info("BIRD configured", fields);
    } else if (applied.is === "started") {
      this.#counts.started++;
      log.info("BIRD started", fields);
    } else if (applied.is === "written") {
      this.#lastError = "the configuration is written, systemd has not started BIRD yet";
    }
  }

  /** Logs the problems that are new. */
  #tell(problems: Problem[]): void {
    const known = new Set(this.#problems.map((p) => p.message));
    for (const { message, what, where, todo } of problems) {
      if (!known.has(message)) this.options.log.warn("BGP input not usable as it is", { what, where, todo });
    }
    const isNews = known.size !== problems.length || problems.some(({ message }) => !known.has(message));
    this.#problems = problems;
    if (isNews) this.#told.beat();
  }

  #surroundings(findings: Findings): Promise<Surroundings> {
    const { node, env } = this.options;
    const { secrets, endpointStatus } = this.#paths;
    return readSurroundings(
      { node, env, secrets, endpointStatus, kubernetes: this.#kubernetes },
      this.#snapshot.resources,
      findings,
    );
  }
}

/** Text that changes when passwords or peering endpoints do. */
function fingerprint(around: Surroundings): string {
  return JSON.stringify([[...around.passwords], around.peeringEndpoints.map((e) => JSON.stringify(e)).sort()]);
}

/** The promise's value, unless the signal is aborted first: then it rejects with the signal's reason. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const over = Promise.withResolvers<never>();
  const stop = () => over.reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  try {
    if (signal.aborted) throw signal.reason;
    return await Promise.race([promise, over.promise]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
