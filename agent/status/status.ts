import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/log.ts";
import { Wake } from "../../lib/wake.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import type { Store } from "../../datastore/store.ts";
import { objectOfKey, type Refusals } from "../refusals.ts";
import { problemsByObject } from "../settings.ts";
import { AgentReport } from "./agent_report.ts";
import { EndpointReport } from "./endpoint_report.ts";
import {
  hostKey,
  hostStates,
  type Interface,
  stateValue,
  statusFile,
  statusFileName,
  workloadKey,
  workloadState,
} from "./endpoint_states.ts";
import type { StatusSettings } from "./settings.ts";
import { StatusFiles } from "./status_files.ts";
import { StatusInputs } from "./status_inputs.ts";

/** What the reports work with. */
export interface StatusOptions {
  mirror: Pick<Mirror, "changes">;
  store: Pick<Store, "read" | "txn" | "lease">;
  /** This node's name. */
  node: string;
  /** Felix's parameters: FELIX_<PARAMETER>. */
  env: (name: string) => string | undefined;
  /** What of an endpoint is missing in the kernel; undefined = nothing. */
  lacking: (endpoint: { key: string; interfaceName: string }) => string | undefined;
  /** This host's interfaces. */
  interfaces: {
    exists(name: string): boolean;
    /** Raised, and packets can pass. */
    isUp(name: string): boolean;
    /** All but workloads', with their addresses; asked for host endpoints only. */
    hosts(): readonly Interface[];
  };
  /** Each yields when what is in the kernel changed: interfaces, chains, routes. */
  changes: AsyncIterable<unknown>[];
  refusals: Refusals;
  clock: Clock;
  /** 0..1 source of jitter. */
  random: () => number;
  log: Logger;
  signal: AbortSignal;
}

/** Changes that come together are told together: every look goes over all endpoints of this node. */
const togetherMs = 250;
/** An interface may come after its endpoint, and go before it; one that is missing for longer is told of. */
const missingMs = 5_000;

/**
 * Tells of this node, until the signal: that its agent lives, and the states of its endpoints, in the datastore and in
 * files, as Felix does. While the cluster is not ready nothing new is said of endpoints.
 */
export async function runStatus(options: StatusOptions): Promise<void> {
  const loop = new StatusLoop(options);
  await Promise.all([loop.followDatastore(), ...options.changes.map((c) => loop.follow(c)), loop.run()]);
}

class StatusLoop {
  readonly #options: StatusOptions;
  readonly #inputs: StatusInputs;
  readonly #wake: Wake;
  readonly #agent: AgentReport;
  readonly #files: StatusFiles;
  #endpoints: { region: string; report: EndpointReport } | undefined;
  #settings: StatusSettings | undefined;
  #dirty = false;
  /** Endpoints whose interface does not exist, and since when. */
  #missing = new Map<string, { sinceMs: number; why: string }>();
  /** Everything is to be looked at then. */
  #dirtyAtMs = Infinity;
  #watchedLease: Promise<void> | undefined;

  constructor(options: StatusOptions) {
    this.#options = options;
    this.#inputs = new StatusInputs(options.node, options.env);
    this.#wake = new Wake(options.clock);
    this.#agent = new AgentReport(options);
    this.#files = new StatusFiles(options.log);
  }

  async followDatastore(): Promise<void> {
    const { mirror, signal, refusals } = this.#options;
    for await (const changes of mirror.changes(signal)) {
      if (!this.#inputs.update(changes) && this.#settings) continue;
      const { settings, problems } = this.#inputs.settings();
      refusals.set("status' settings", problemsByObject(problems), "setting not understood");
      this.#settings = settings;
      this.#touch();
    }
  }

  async follow(changes: AsyncIterable<unknown>): Promise<void> {
    for await (const _ of changes) {
      if (this.#options.signal.aborted) return;
      this.#touch();
    }
  }

  async run(): Promise<void> {
    const { clock, signal } = this.#options;
    let waitMs = Infinity;
    while (!signal.aborted) {
      await this.#wake.sleep(Math.min(waitMs, 0x7fffffff), signal);
      if (signal.aborted) return;
      if (this.#dirty) await clock.sleep(togetherMs, signal).catch(() => {}); // aborted: the loop's condition ends it
      if (this.#settings) waitMs = await this.#step(this.#settings);
    }
  }

  #touch(): void {
    this.#dirty = true;
    this.#wake.call();
  }

  async #step(settings: StatusSettings): Promise<number> {
    const waits = [await this.#agent.step(settings)];
    this.#watchLease();
    const report = this.#reportFor(settings.region);
    const isDue = this.#options.clock.monotonicMs() >= this.#dirtyAtMs;
    if ((this.#dirty || isDue) && this.#inputs.ready) {
      this.#dirty = false;
      if (isDue) this.#dirtyAtMs = Infinity;
      const { states, files, lost } = this.#look(settings);
      this.#tellMissing(lost);
      report.want(settings.endpoints ? states : new Map());
      // An empty prefix switches the files off; those of before stay, as Felix leaves them.
      if (settings.filesPrefix !== "" && !await this.#files.want(settings.filesPrefix, files)) {
        this.#dirty = true;
        waits.push(1_000);
      }
    }
    if (this.#inputs.ready) waits.push(await report.step(settings.delayMs));
    waits.push(Math.max(0, this.#dirtyAtMs - this.#options.clock.monotonicMs()));
    return Math.min(...waits);
  }

  #reportFor(region: string): EndpointReport {
    if (this.#endpoints?.region !== region) {
      this.#endpoints = { region, report: new EndpointReport({ ...this.#options, region }) };
      this.#dirty = true;
    }
    return this.#endpoints.report;
  }

  #look({ region, interfacePrefixes }: StatusSettings) {
    const { node, interfaces, lacking } = this.#options;
    const states = new Map<string, string>(), files = new Map<string, string>(), lost = new Map<string, string>();
    for (const workload of this.#inputs.workloads()) {
      const { interfaceName } = workload;
      const isUp = interfaces.isUp(interfaceName);
      const state = workloadState(workload, isUp, isUp ? lacking(workload) : undefined);
      states.set(workloadKey(node, region, workload), stateValue(state));
      if (state === "up") files.set(statusFileName(workload), statusFile(workload));
      if (!isUp && !interfaces.exists(interfaceName)) {
        lost.set(objectOfKey(workload.key), `interface ${interfaceName} does not exist`);
      }
    }
    const hosts = this.#inputs.hosts();
    if (hosts.length > 0) {
      for (const [name, state] of hostStates(hosts, interfaces.hosts(), interfacePrefixes)) {
        states.set(hostKey(node, name), stateValue(state));
        if (state === "error") {
          lost.set(`HostEndpoint:${name}`, "no interface of the host has its name or address, or another has it");
        }
      }
    }
    return { states, files, lost };
  }

  #tellMissing(lost: ReadonlyMap<string, string>): void {
    const { clock, refusals } = this.#options;
    const now = clock.monotonicMs();
    this.#missing = new Map(
      [...lost].map(([object, why]) => [object, { why, sinceMs: this.#missing.get(object)?.sinceMs ?? now }]),
    );
    const all = [...this.#missing];
    const late = all.filter(([, { sinceMs }]) => now - sinceMs >= missingMs);
    refusals.set("interfaces", new Map(late.map(([object, { why }]) => [object, why])));
    // Nothing else may happen until the rest has been missing for too long.
    if (late.length < all.length) this.#dirtyAtMs = now + missingMs;
  }

  /** A lease that is lost is taken anew at once. */
  #watchLease(): void {
    const { lost } = this.#agent;
    if (lost === this.#watchedLease) return;
    this.#watchedLease = lost;
    lost?.then(() => this.#wake.call());
  }
}
