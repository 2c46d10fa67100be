import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { kindPrefix } from "../datastore/keys.ts";
import type { Changes, Mirror } from "../datastore/mirror.ts";
import { parseEndpointName } from "../datastore/names.ts";
import { readChanges } from "./calc/changes.ts";
import { Graph } from "./calc/graph.ts";
import type { Filter, FilterRules } from "./dataplane/filter.ts";
import { FactInputs, type KernelFacts } from "./netfilter/facts.ts";
import { FilterProgram } from "./netfilter/program.ts";
import { BrokenValues, brokenWords, type Refusals } from "./refusals.ts";
import { problemsByObject } from "./settings.ts";

/** What the policy loop works with. */
export interface PolicyOptions {
  mirror: Pick<Mirror, "changes">;
  filter: Pick<Filter, "apply" | "enforced">;
  /** This node's name. */
  node: string;
  /** Felix's parameters: FELIX_<PARAMETER>. */
  env: (name: string) => string | undefined;
  /** What the kernel tells now; interfaces whose names begin with one of these are workloads' and are left out. */
  kernel: (workloadPrefixes: readonly string[]) => KernelFacts;
  /** Yields when what `kernel` tells changed. */
  kernelChanges: AsyncIterable<unknown>;
  clock: Clock;
  log: Logger;
  metrics: Metrics;
  /** Where what is not in force is told. */
  refusals: Refusals;
  /** Part "policy calculation" reports here. */
  health: Health;
  signal: AbortSignal;
}

/** Changes calculated at once, before others on the event loop get their turn: some milliseconds' work. */
const atOnce = 2_000;

/** A running policy loop. */
export interface Policy {
  /** Ends with the signal; rejects on a bug. */
  readonly done: Promise<void>;
  /**
   * Resolves when the kernel enforces the policy of an endpoint of this node, as of this revision of it.
   * @throws Problem "not-ready" when `deadlineMs` passes first.
   */
  enforced(endpoint: { key: string; revision: bigint; interfaceName: string }, deadlineMs?: number): Promise<void>;
}

/**
 * The policy loop: changes of the datastore → calculation → chains and sets → the kernel. While the ClusterInformation
 * does not say datastoreReady nothing new is programmed and everything stays.
 */
export function runPolicy(options: PolicyOptions): Policy {
  options.health.register("policy calculation");
  const loop = new PolicyLoop(options);
  const done = Promise.all([loop.followDatastore(), loop.followKernel()]).then(() => {});
  return {
    done,
    enforced: ({ key, revision, interfaceName }, deadlineMs) =>
      options.filter.enforced(interfaceName, () => loop.hasSeen(key, revision), deadlineMs),
  };
}

class PolicyLoop {
  readonly #options: PolicyOptions;
  readonly #graph: Graph;
  readonly #program = new FilterProgram();
  readonly #facts: FactInputs;
  #complete = false;
  /** What the rules depend on besides policy, as it was handed on; undefined = something of it changed. */
  #rules: FilterRules | undefined;
  readonly #broken = new BrokenValues();
  /** Revisions of this node's endpoints, taken in and handed on. */
  readonly #taken = new Map<string, bigint>();
  readonly #seen = new Map<string, bigint>();

  constructor(options: PolicyOptions) {
    this.#options = options;
    this.#graph = new Graph({ node: options.node });
    this.#facts = new FactInputs(options.node, options.env);
    options.metrics.onCollect(() => {
      const { policies, endpoints } = this.#graph.counts();
      options.metrics.set("felix_active_local_policies", policies);
      options.metrics.set("felix_active_local_endpoints", endpoints);
    });
  }

  async followDatastore(): Promise<void> {
    for await (const changes of this.#options.mirror.changes(this.#options.signal)) {
      await this.#take(changes);
      this.#noteEndpoints(changes);
      this.#complete = true;
      this.#apply();
    }
  }

  async followKernel(): Promise<void> {
    const { kernelChanges, signal } = this.#options;
    for await (const _ of kernelChanges) {
      if (signal.aborted) return;
      this.#rules = undefined;
      if (this.#complete) this.#apply();
    }
  }

  /** True when what the endpoint was at this revision has been handed to the kernel's side. */
  hasSeen(key: string, revision: bigint): boolean {
    return (this.#seen.get(key) ?? 0n) >= revision;
  }

  #noteEndpoints({ set, deleted }: Changes): void {
    const { node } = this.#options;
    for (const { key, revision } of set) {
      if (!key.startsWith(kindPrefix("WorkloadEndpoint"))) continue;
      if (parseEndpointName(key.slice(key.lastIndexOf("/") + 1))?.node === node) this.#taken.set(key, revision);
    }
    for (const key of deleted) {
      this.#taken.delete(key);
      this.#seen.delete(key);
    }
  }

  async #take(changes: Changes): Promise<void> {
    const { refusals, clock } = this.#options;
    const read = readChanges(changes);
    for (let i = 0; i < read.changes.length; i += atOnce) {
      if (i > 0) await clock.sleep(0);
      this.#graph.update(read.changes.slice(i, i + atOnce));
    }
    const { changed, broken } = this.#facts.update(changes);
    if (changed) this.#rules = undefined;
    const values = this.#broken.update(changes, new Map([...broken, ...read.broken]));
    refusals.set("policy's values", values, brokenWords);
  }

  #apply(): void {
    const { filter, health } = this.#options;
    const ready = this.#facts.ready();
    health.report("policy calculation", ready, "the cluster is not ready: ClusterInformation has no datastoreReady");
    if (!ready) return;
    this.#rules ??= this.#takeFacts();
    this.#program.policy(this.#graph.flush());
    this.#tellRefused();
    for (const [key, revision] of this.#taken) this.#seen.set(key, revision);
    this.#taken.clear();
    filter.apply(this.#program.flush(), this.#rules);
  }

  #takeFacts(): FilterRules {
    const { kernel, refusals } = this.#options;
    const { settings, problems } = this.#facts.parameters();
    refusals.set("policy's settings", problemsByObject(problems), "setting not understood");
    const facts = this.#facts.facts(settings, kernel(settings.interfacePrefixes));
    this.#program.facts(facts);
    return {
      settings: facts.settings,
      append: settings.insertMode === "append",
      maxSetSize: settings.maxSetSize,
    };
  }

  #tellRefused(): void {
    const now = new Map(this.#graph.refused().map(({ id, problems }) => [id, problems.join("; ")]));
    for (const { tier, policies } of this.#graph.missingTiers()) {
      now.set(`Tier:${tier}`, `there is no such tier; these apply last and end in deny: ${policies.join(", ")}`);
    }
    this.#options.refusals.set("policy", now);
  }
}
