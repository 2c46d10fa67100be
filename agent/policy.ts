import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Family, Ip } from "../lib/ip.ts";
import type { Metrics } from "../lib/metrics.ts";
import { Problem } from "../lib/problem.ts";
import { kindPrefix } from "../datastore/keys.ts";
import type { Changes, Mirror } from "../datastore/mirror.ts";
import { isEndpointOf } from "../datastore/names.ts";
import { Claims } from "./calc/claims.ts";
import { ChangeReader } from "./calc/changes.ts";
import { FlowJudge } from "./calc/flow_judge.ts";
import { Graph } from "./calc/graph.ts";
import { isEmptyDelta } from "./calc/outputs.ts";
import type { DeniedFlows } from "./dataplane/denied_flows.ts";
import type { Filter, FilterRules } from "./dataplane/filter.ts";
import type { PolicyDelta } from "./desired_policy.ts";
import { type NodeCounts, nodeCounts } from "./netfilter/decision_counts.ts";
import type { DropReason } from "./netfilter/drop_logs.ts";
import { FactInputs, type KernelFacts } from "./netfilter/facts.ts";
import { FilterProgram } from "./netfilter/program.ts";
import type { FilterParameters } from "./netfilter/settings.ts";
import { collectCounts, countMessages, countUpdates } from "./policy_metrics.ts";
import { BrokenValues, brokenWords, type Refusals } from "./refusals.ts";
import { problemsByObject } from "./settings.ts";

/** What the policy loop works with. */
export interface PolicyOptions {
  mirror: Pick<Mirror, "changes">;
  filter: Pick<Filter, "apply" | "enforced" | "changes" | "failures" | "written" | "counters" | "refusesNflog">;
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
  /** Ends tracked flows that policy denies, where that is asked for; default: nobody does. */
  flows?: Pick<DeniedFlows, "check">;
  /** Where what is not in force is told. */
  refusals: Refusals;
  /** Part "policy calculation" reports here. */
  health: Health;
  signal: AbortSignal;
}

const endpointPrefix = kindPrefix("WorkloadEndpoint");
/** Changes calculated at once, before others on the event loop get their turn: some milliseconds' work. */
const atOnce = 2_000;

/** So long it may take until all rules of a large host are written anew. */
const allRulesMs = 120_000;

/** An endpoint whose policy somebody waits for. */
export interface AwaitedEndpoint {
  key: string;
  revision: bigint;
  interfaceName: string;
  /** Of its addresses. */
  families: readonly Family[];
}

/** A running policy loop. */
export interface Policy {
  /** Ends with the signal; rejects on a bug. */
  readonly done: Promise<void>;
  /**
   * Resolves when the kernel enforces the policy of an endpoint of this node, as of this revision of it.
   * @throws Problem "not-ready" when `deadlineMs` passes first.
   */
  enforced(endpoint: AwaitedEndpoint, deadlineMs?: number): Promise<void>;
  /**
   * From now on the kernel tells of what it drops, to NFLOG group `dropGroup`, or does not; resolves when the rules are
   * written, or refused. @throws Problem "unsupported" when the kernel refuses such rules, "not-ready" after 2 min.
   */
  logDrops(on: boolean): Promise<void>;
  /** What the prefixes of what it tells mean now. */
  dropReasons(): Map<string, DropReason>;
  /** What the kernel's lines have counted; programs are run for it. @throws Problem "kernel". */
  counts(): Promise<NodeCounts>;
}

/**
 * The policy loop: changes of the datastore → calculation → chains and sets → the kernel. While the ClusterInformation
 * does not say datastoreReady nothing new is programmed and everything stays.
 */
export function runPolicy(options: PolicyOptions): Policy {
  options.health.register("policy calculation");
  const loop = new PolicyLoop(options);
  const done = Promise.all([loop.followDatastore(), loop.followKernel(), loop.followRefusals()]).then(() => {});
  return {
    done,
    enforced: ({ key, revision, interfaceName, families }, deadlineMs) =>
      options.filter.enforced(interfaceName, families, () => loop.hasSeen(key, revision), deadlineMs),
    logDrops: (on) => loop.logDrops(on),
    dropReasons: () => loop.dropReasons(),
    counts: () => loop.counts(),
  };
}

class PolicyLoop {
  readonly #options: PolicyOptions;
  readonly #graph: Graph;
  readonly #reader = new ChangeReader();
  readonly #program = new FilterProgram();
  readonly #facts: FactInputs;
  #complete = false;
  /** What the rules depend on besides policy, as it was handed on; undefined = something of it changed. */
  #rules: FilterRules | undefined;
  readonly #broken = new BrokenValues();
  readonly #claims = new Claims();
  /** Judges tracked flows; undefined while nobody asks for that. */
  #judge: FlowJudge | undefined;
  #cutsFlows = false;
  /** Parameters that hold from the start to the end of the process. */
  #startedWith: Record<string, string> | undefined;
  #ownAddresses: readonly Ip[] = [];
  #logsDrops = false;
  /** undefined = chains have changed since it was asked for. */
  #reasons: Map<string, DropReason> | undefined;
  /** Revisions of this node's endpoints, taken in and handed on. */
  readonly #taken = new Map<string, bigint>();
  readonly #seen = new Map<string, bigint>();

  constructor(options: PolicyOptions) {
    this.#options = options;
    this.#graph = new Graph({ node: options.node });
    this.#facts = new FactInputs(options.node, options.env);
    options.metrics.onCollect(() => collectCounts(this.#graph.counts(), options.metrics));
  }

  async followDatastore(): Promise<void> {
    for await (const changes of this.#options.mirror.changes(this.#options.signal)) {
      this.#complete = false; // half of a step is not to be handed on
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

  /** What the kernel refuses, by the objects that it stands for. */
  async followRefusals(): Promise<void> {
    const { filter, refusals, signal } = this.#options;
    for await (const _ of filter.changes(signal)) {
      const now = new Map<string, string>();
      for (const { where, key, why } of filter.failures()) {
        const objects = this.#program.objectsOf(key);
        for (const object of objects.length > 0 ? objects : [where]) now.set(object, `${where}: ${why}`);
      }
      refusals.set("kernel", now);
    }
  }

  /** True when what the endpoint was at this revision has been handed to the kernel's side. */
  hasSeen(key: string, revision: bigint): boolean {
    return (this.#seen.get(key) ?? 0n) >= revision;
  }

  async logDrops(on: boolean): Promise<void> {
    const why = on ? await this.#options.filter.refusesNflog() : undefined;
    if (why !== undefined) {
      const todo = "Load the modules xt_NFLOG and xt_limit, or use a kernel that has them";
      throw new Problem({ code: "unsupported", what: `this kernel takes no rules that tell of packets: ${why}`, todo });
    }
    if (this.#logsDrops !== on) this.#rules = undefined;
    this.#logsDrops = on;
    if (this.#complete) this.#apply();
    await this.#options.filter.written(allRulesMs);
  }

  dropReasons(): Map<string, DropReason> {
    return this.#reasons ??= this.#program.dropReasons();
  }

  async counts(): Promise<NodeCounts> {
    return nodeCounts(this.#program.chains(), await this.#options.filter.counters());
  }

  #noteEndpoints({ set, deleted }: Changes): void {
    const { node } = this.#options;
    for (const { key, revision } of set) {
      if (!key.startsWith(endpointPrefix)) continue;
      if (isEndpointOf(node, key)) this.#taken.set(key, revision);
    }
    for (const key of deleted) {
      this.#taken.delete(key);
      this.#seen.delete(key);
    }
  }

  async #take(changes: Changes): Promise<void> {
    const { refusals, clock, metrics } = this.#options;
    const unread = new Map<string, string>();
    // Read in parts, too: 50,000 resources at once are a hundred megabytes that nobody needs.
    for (const part of partsOf(changes, atOnce)) {
      if (part !== changes) await clock.sleep(0);
      const read = this.#reader.read(part);
      const began = clock.monotonicMs();
      this.#graph.update(read.changes);
      metrics.observe("felix_calc_graph_update_time_seconds", (clock.monotonicMs() - began) / 1000);
      countUpdates(read.changes, metrics);
      for (const [key, why] of read.broken) unread.set(key, why);
    }
    const { changed, broken } = this.#facts.update(changes);
    if (changed) this.#rules = undefined;
    const values = this.#broken.update(changes, new Map([...broken, ...unread]));
    refusals.set("policy's values", values, brokenWords);
  }

  #apply(): void {
    const { filter, health, metrics } = this.#options;
    const ready = this.#facts.ready();
    health.report("policy calculation", ready, "the cluster is not ready: ClusterInformation has no datastoreReady");
    if (!ready) return;
    this.#rules ??= this.#takeFacts();
    const delta = this.#graph.flush();
    this.#program.policy(delta);
    this.#claims.update(delta);
    metrics.add("felix_calc_graph_output_events", Object.values(delta).reduce((n, list) => n + list.length, 0));
    countMessages(delta, metrics);
    this.#tellRefused();
    for (const [key, revision] of this.#taken) this.#seen.set(key, revision);
    this.#taken.clear();
    filter.apply(this.#program.flush(), this.#rules);
    this.#reasons = undefined;
    this.#cutFlows(delta);
  }

  #cutFlows(delta: PolicyDelta): void {
    if (!this.#cutsFlows) {
      this.#judge = undefined;
      return;
    }
    if (this.#judge && isEmptyDelta(delta)) return;
    this.#judge ? this.#judge.update(delta) : this.#judge = new FlowJudge(this.#graph.snapshot());
    const judge = this.#judge, own = this.#ownAddresses;
    this.#options.flows?.check((flow) => judge.denies(flow, own));
  }

  #takeFacts(): FilterRules {
    const { kernel, refusals } = this.#options;
    const { settings, problems } = this.#facts.parameters();
    refusals.set("policy's settings", problemsByObject(problems), "setting not understood");
    this.#tellOfStart(settings);
    const known = this.#facts.facts(settings, kernel(settings.interfacePrefixes));
    const facts = { ...known, settings: known.settings.map((s) => ({ ...s, dropLogs: this.#logsDrops })) };
    this.#program.facts(facts);
    this.#cutsFlows = settings.cutDeniedFlows;
    this.#ownAddresses = facts.ownAddresses;
    return {
      settings: facts.settings,
      append: settings.insertMode === "append",
      maxSetSize: settings.maxSetSize,
      refreshMs: settings.refreshMs,
      setRefreshMs: settings.setRefreshMs,
    };
  }

  /** Programs are chosen when the process starts. */
  #tellOfStart({ backend, ipv6, flushGuard }: FilterParameters): void {
    const now: Record<string, string> = { IptablesBackend: backend, Ipv6Support: String(ipv6) };
    // Switched off it goes at once.
    if (flushGuard || !this.#startedWith) now.TortieFlushGuard = String(flushGuard);
    this.#startedWith ??= now;
    const changed = Object.entries(now).filter(([name, value]) => this.#startedWith![name] !== value);
    const why = (value: string) => `${value} takes effect when the agent starts again`;
    this.#options.refusals.set("start", new Map(changed.map(([name, value]) => [name, why(value)])));
  }

  #tellRefused(): void {
    const now = new Map(this.#graph.refused().map(({ id, problems }) => [id, problems.join("; ")]));
    for (const { tier, policies } of this.#graph.missingTiers()) {
      now.set(`Tier:${tier}`, `there is no such tier; these apply last and end in deny: ${policies.join(", ")}`);
    }
    this.#options.refusals.set("policy", now);
    this.#options.refusals.set("claims", this.#claims.conflicts());
  }
}

/** The same changes in the same order, in parts of at most `size` values; deletions are the last part's. */
function* partsOf(changes: Changes, size: number): Generator<Pick<Changes, "set" | "deleted">> {
  const { set, deleted } = changes;
  if (set.length <= size) return yield changes;
  for (let i = 0; i < set.length; i += size) {
    yield { set: set.slice(i, i + size), deleted: i + size >= set.length ? deleted : [] };
  }
}
