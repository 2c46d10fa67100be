import type { Clock } from "../../lib/clock.ts";
import type { Family } from "../../lib/ip.ts";
import { type Metrics, noMetrics } from "../../lib/metrics.ts";
import { messageOf } from "../../lib/problem.ts";
import type { RunResult } from "../../lib/process.ts";
import type { Failure, Report } from "../reconcile.ts";
import {
  type Content,
  type HaveChain,
  type Hook,
  type HookedRule,
  kernelHashes,
  refsOf,
  sameHashes,
  standInOf,
  type TableKey,
  type TableName,
  type Variant,
  type WantedChain,
} from "./chain.ts";
import {
  agrees,
  calleesFirst,
  type ChainStep,
  hooksAgree,
  type HookStep,
  type RestoreText,
  restoreText,
  wantedHooks,
} from "./delta.ts";
import { References } from "./_references.ts";
import { startProgram } from "./_spawn.ts";
import { refusalOf, type RestoreRefusal } from "./restore_refusal.ts";
import { parseSaved } from "./saved.ts";
import type { TableWatch } from "./table_watch.ts";

/** Programs of a family and variant; see variant.ts. */
export interface Tools {
  variant: Variant;
  save: string;
  restore: string;
}

/** Which table, and by what means. */
export interface IptablesOptions {
  family: Family;
  table: TableName;
  tools: Tools;
  /** What names of our chains begin with. */
  ownPrefixes: readonly string[];
  watch: TableWatch;
  clock: Clock;
  /** 0..1 source of the back-off's jitter. */
  random: () => number;
  metrics?: Metrics;
  /** Back-off of what fails: from this, doubling, up to that. Default 100 and 30,000. */
  firstRetryMs?: number;
  maxRetryMs?: number;
}

/** Name under which our rules in others' chains stand in reports. */
export const hooksKey = "hooks";

/** Reads, failures and refused chains that one flush may go through before it gives the loop to others. */
const maxRounds = 200;
const maxReads = 4;
const lockSeconds = 10;
/** Room for some 400,000 rules. */
const maxSaveBytes = 256 << 20;

/** What a write came to. */
type Outcome = { done: true } | { done: false; refusal: RestoreRefusal; owners: (string | undefined)[] };

/**
 * One table of one family: our chains and our rules in the kernel's chains, written with the least text, in one
 * transaction a flush. It is no Port of the Reconciler because a table is one thing to the kernel: what may be written
 * depends on what leads where, a change of many chains holds all at once or not at all, and the delta of a chain needs
 * what is there. It behaves like one: want() remembers, flush() works, doubt() makes it look.
 *
 * Only chains in use are written: those that our hooks lead to, directly or not. A chain that iptables refuses does not
 * hold up the others: its older version stays, or a stand-in that drops everything, and it is tried again later.
 */
export class IptablesTable {
  readonly #options: IptablesOptions & { metrics: Metrics; firstRetryMs: number; maxRetryMs: number };
  readonly #key: TableKey;
  readonly #want = new Map<string, Content & { standIn?: readonly string[] }>();
  #hooks: readonly Hook[] = [];
  #have = new Map<string, HaveChain>();
  #hooked = new Map<string, HookedRule[]>();
  readonly #references = new References();
  /** Chains that may have to change. */
  #dirty = new Set<string>();
  #hooksDirty = false;
  /** Chains whose wish changed since they last held, so that the rest is known to be drift. */
  readonly #wished = new Set<string>();
  #doubted = true;
  /** Of the watch, when the table was last known. */
  #foreign = 0;
  /** Refused as they are wanted now. */
  readonly #refused = new Map<string, Failure>();
  #unread: Failure | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #queued: Promise<Report<string>> | undefined;
  /** What was done since the start. */
  readonly counts = { reads: 0, writes: 0, lines: 0, failures: 0 };

  constructor(options: IptablesOptions) {
    this.#options = { metrics: noMetrics, firstRetryMs: 100, maxRetryMs: 30_000, ...options };
    this.#key = `${options.family} ${options.table}`;
  }

  /** `iptables ip4 filter`. */
  get name(): string {
    return `iptables ip${this.#options.family} ${this.#options.table}`;
  }

  /** The table's name at its watch. */
  get key(): TableKey {
    return this.#key;
  }

  /** Wants a chain, or none of that name. It is written once something in use leads to it. */
  want(name: string, chain: WantedChain | undefined): void {
    const before = this.#want.get(name);
    const hashes = chain ? kernelHashes(chain) : [];
    if (chain && before ? sameHashes(before.hashes, hashes) : chain === before) return;
    const refs = chain ? refsOf(chain.lines, this.#options.ownPrefixes) : [];
    if (chain) this.#want.set(name, { name, lines: chain.lines, hashes, refs, standIn: chain.standIn });
    else this.#want.delete(name);
    this.#settle(name);
    this.#touch([name, ...this.#references.set(name, refs)]);
  }

  /** Wants exactly these chains. */
  wantAll(chains: Iterable<WantedChain>): void {
    const all = new Map([...chains].map((c) => [c.name, c]));
    for (const name of [...this.#want.keys()]) if (!all.has(name)) this.want(name, undefined);
    for (const [name, chain] of all) this.want(name, chain);
  }

  /** Wants exactly these rules in chains that are not ours. */
  wantHooks(hooks: readonly Hook[]): void {
    const roots = (of: readonly Hook[]) => of.flatMap((h) => refsOf(h.lines, this.#options.ownPrefixes));
    this.#touch(this.#references.setRoots(roots(hooks), roots(this.#hooks)));
    this.#hooks = hooks;
    this.#hooksDirty = true;
    this.#wished.add(hooksKey);
    this.#refused.delete(hooksKey);
  }

  #touch(names: Iterable<string>): void {
    for (const name of names) {
      this.#dirty.add(name);
      this.#wished.add(name);
    }
  }

  /** The table may have changed: the next flush reads it. */
  doubt(): void {
    this.#doubted = true;
  }

  /** What was refused is tried at the next flush: a set that it needs may be there now. */
  retry(): void {
    for (const failure of this.#refused.values()) failure.retryAtMs = 0;
  }

  /** True when the chain is in use and in the kernel as wanted, as far as is known. */
  holds(name: string): boolean {
    return !this.#doubted && !this.#dirty.has(name) && !this.#refused.has(name) && this.#references.isUsed(name) &&
      agrees(this.#have.get(name), this.#want.get(name));
  }

  /** Chains that are not in the kernel as wanted because iptables refuses them; `hooks` for our rules in others'. */
  get failed(): ReadonlyMap<string, Failure> {
    return this.#refused;
  }

  /** Chains and rules of ours in the kernel. */
  get size(): { chains: number; rules: number } {
    let rules = 0;
    for (const { hashes } of this.#have.values()) rules += hashes.length;
    return { chains: this.#have.size, rules };
  }

  /** Makes the table as wanted as far as possible. Calls during a flush share the next one. Never rejects. */
  flush(): Promise<Report<string>> {
    if (this.#queued) return this.#queued;
    const work = this.#last.then(() => {
      this.#queued = undefined;
      return this.#flushOnce();
    });
    this.#queued = work;
    this.#last = work.catch(() => {});
    return work;
  }

  /** Reads the table if it is not known as it is now. Never rejects: a flush that follows finds out what could not be read. */
  look(): Promise<void> {
    const work = this.#last.then(async () => {
      if (this.#unread && this.#unread.retryAtMs > this.#now()) return;
      try {
        if (this.#disturbed()) await this.#read();
      } catch {
        this.doubt(); // the watch, or iptables-save; the flush says which
      }
    });
    this.#last = work;
    return work;
  }

  async #flushOnce(): Promise<Report<string>> {
    const sum = { put: 0, removed: 0, drift: 0 };
    let fresh = false;
    for (let round = 0, reads = 0; round < maxRounds; round++) {
      if (this.#unread && this.#unread.retryAtMs > this.#now()) break;
      try {
        if (this.#disturbed()) {
          if (reads++ >= maxReads) break;
          await this.#read();
          fresh = true;
        }
        const { chains, hooks } = this.#steps();
        if (chains.length + hooks.length === 0) break;
        const outcome = await this.#write(chains, hooks);
        this.#unread = undefined;
        if (outcome.done) {
          this.#learn(chains, hooks, sum);
          continue;
        }
        if (outcome.refusal.passing) throw new Error(outcome.refusal.why);
        if (fresh) await this.#refuse(outcome, chains, hooks, sum);
        else this.#doubted = true;
      } catch (error) {
        this.#unread = this.#failure(this.#unread, messageOf(error));
        this.#doubted = true;
        break;
      }
    }
    return this.#report(sum);
  }

  #now = (): number => this.#options.clock.monotonicMs();

  /** Somebody else changed the table, or it is not known. */
  #disturbed(): boolean {
    return this.#doubted || this.#options.watch.foreign(this.#key) !== this.#foreign;
  }

  async #read(): Promise<void> {
    const { tools, table, ownPrefixes, watch, metrics } = this.#options;
    this.#doubted = false; // doubt raised while it is read must stay
    for (let tries = 0;; tries++) {
      this.#foreign = watch.foreign(this.#key);
      this.counts.reads++;
      metrics.add("felix_iptables_save_calls");
      const options = { maxOutputBytes: maxSaveBytes };
      const { code, stdout, stderr } = await startProgram(tools.save, ["-t", table], options, this.#options).result;
      if (code !== 0) {
        metrics.add("felix_iptables_save_errors");
        throw new Error(`${tools.save}: ${stderr.trim() || `exit code ${code}`}`);
      }
      const { chains, hooked } = parseSaved(stdout, table, ownPrefixes);
      if (watch.foreign(this.#key) !== this.#foreign && tries < 2) continue;
      this.#have = new Map([...chains].map(([name, have]) => [name, this.#shared(name, have)]));
      this.#hooked = hooked;
      break;
    }
    this.#unread = undefined;
    this.#hooksDirty = true;
    this.#dirty = new Set([...this.#have.keys(), ...this.#references.used()]);
  }

  /** The wanted object itself when the chain is as wanted, so that its hashes are not held twice. */
  #shared(name: string, have: HaveChain): HaveChain {
    const want = this.#want.get(name);
    return agrees(have, want) ? want! : have;
  }

  /** What has to change, of what may have to. */
  #steps(): { chains: ChainStep[]; hooks: HookStep[] } {
    const now = this.#now();
    for (const [name, { retryAtMs }] of this.#refused) if (retryAtMs <= now) this.#dirty.add(name);
    const kept = this.#keptByRefused(now);
    const chains: ChainStep[] = [];
    for (const name of this.#dirty) {
      const from = this.#have.get(name), to = this.#target(name, now);
      const stays = to === "as it is" || (to === undefined && (kept.has(name) || this.#waits(name, now)));
      if (!stays && !agrees(from, to)) {
        chains.push({ name, from, to });
        continue;
      }
      this.#dirty.delete(name);
      if (!stays) this.#wished.delete(name); // it holds without a write, as one that nothing leads to
    }
    return { chains, hooks: this.#hookSteps(now) };
  }

  #target(name: string, now: number): Content | "as it is" | undefined {
    if (!this.#references.isUsed(name)) return undefined;
    const want = this.#want.get(name);
    if (want && !this.#waits(name, now)) return want;
    if (this.#have.has(name)) return want ? "as it is" : this.#absent(name);
    return want ? standInOf(name, this.#options.table, want.standIn) : this.#absent(name);
  }

  /** It was refused, and its next try is not yet due. */
  #waits(name: string, now: number): boolean {
    return (this.#refused.get(name)?.retryAtMs ?? 0) > now;
  }

  /** Something leads to a chain that nobody gave. */
  #absent(name: string): Content {
    return standInOf(name, this.#options.table, undefined);
  }

  /** Chains that an older version of a refused chain leads to: they cannot go before it is replaced. */
  #keptByRefused(now: number): Set<string> {
    const kept = new Set<string>();
    const keep = (name: string) => {
      for (const ref of this.#have.get(name)?.refs ?? []) {
        if (kept.has(ref)) continue;
        kept.add(ref);
        keep(ref);
      }
    };
    for (const [name, { retryAtMs }] of this.#refused) if (retryAtMs > now) keep(name);
    return kept;
  }

  #hookSteps(now: number): HookStep[] {
    if (!this.#hooksDirty && !this.#refused.has(hooksKey)) return [];
    if (this.#waits(hooksKey, now)) return [];
    const wanted = Map.groupBy(this.#hooks, (h) => h.chain);
    const steps = [...new Set([...wanted.keys(), ...this.#hooked.keys()])].map((chain) => {
      const have = this.#hooked.get(chain) ?? [];
      return { chain, have, want: wantedHooks(have, wanted.get(chain) ?? []) };
    }).filter(({ have, want }) => !hooksAgree(have, want));
    if (steps.length === 0) this.#hooksDirty = false;
    return steps;
  }

  async #write(chains: ChainStep[], hooks: HookStep[]): Promise<Outcome> {
    const { tools, table, metrics, family } = this.#options;
    const text = restoreText(table, tools.variant, chains, hooks);
    this.counts.writes++;
    this.counts.lines += text.lines;
    metrics.add("felix_iptables_restore_calls");
    metrics.add("felix_iptables_lines_executed", text.lines, { ip_version: String(family), table });
    const result = await this.#restore(text);
    if (result.code === 0) return { done: true };
    this.counts.failures++;
    metrics.add("felix_iptables_restore_errors");
    return { done: false, refusal: refusalOf(result), owners: text.owners };
  }

  async #restore({ text, entries }: RestoreText): Promise<RunResult> {
    const { tools, watch } = this.#options;
    const args = ["--noflush", "--wait", String(lockSeconds)];
    const child = startProgram(tools.restore, args, { stdin: text, timeoutMs: 60_000 }, this.#options);
    watch.begin(this.#key, child.pid);
    let result: RunResult | undefined;
    try {
      return result = await child.result;
    } finally {
      watch.end(this.#key, child.pid, result?.code === 0 ? entries : undefined);
    }
  }

  /** The steps hold now. */
  #learn(chains: ChainStep[], hooks: HookStep[], sum: { put: number; removed: number; drift: number }): void {
    for (const { name, to } of chains) {
      if (to) this.#have.set(name, to);
      else this.#have.delete(name);
      if (to) sum.put++;
      else sum.removed++;
      if (!this.#wished.delete(name) && !this.#refused.has(name)) sum.drift++;
      // It stays dirty until the next round has looked: the wish may have changed while it was written.
      if (!to || to === this.#want.get(name)) this.#settle(name);
    }
    for (const { chain, want } of hooks) this.#hooked.set(chain, [...want]);
    if (hooks.length === 0) return;
    if (!this.#wished.delete(hooksKey)) sum.drift++;
    this.#refused.delete(hooksKey);
  }

  /** Finds out which chains are refused, and why. */
  async #refuse(
    { refusal, owners }: Outcome & { done: false },
    chains: ChainStep[],
    hooks: HookStep[],
    sum: { put: number; removed: number; drift: number },
  ): Promise<void> {
    const blamed = new Set(refusal.lines.map((line) => owners[line - 1]).filter((name) => name !== undefined));
    if (blamed.size > 0) {
      for (const name of blamed) this.#hold(name, refusal.why);
    } else if (chains.length > 0) {
      await this.#isolate(calleesFirst(chains.filter((s) => s.to)), sum);
      // The next round finds what is left: hooks and deletions.
      if (chains.every((s) => !s.to)) this.#holdAll(chains, hooks, refusal.why);
    } else this.#hold(hooksKey, refusal.why);
  }

  /** Deletions and hooks, of which no line is blamed: each chain alone, then the hooks. */
  #holdAll(chains: ChainStep[], hooks: HookStep[], why: string): void {
    for (const { name } of chains) this.#hold(name, why);
    if (hooks.length > 0) this.#hold(hooksKey, why);
  }

  /** Writes the chains in parts, halving a part that is refused; a chain that is refused alone is the one. */
  async #isolate(steps: ChainStep[], sum: { put: number; removed: number; drift: number }): Promise<void> {
    if (steps.length === 0) return;
    const outcome = await this.#write(steps, []);
    if (outcome.done) return this.#learn(steps, [], sum);
    if (outcome.refusal.passing) throw new Error(outcome.refusal.why);
    if (steps.length > 1) {
      const half = steps.length >> 1;
      await this.#isolate(steps.slice(0, half), sum);
      return await this.#isolate(steps.slice(half), sum);
    }
    const [{ name, from }] = steps as [ChainStep];
    this.#hold(name, outcome.refusal.why);
    if (from) return;
    const standIn = { name, from, to: standInOf(name, this.#options.table, this.#want.get(name)?.standIn) };
    if ((await this.#write([standIn], [])).done) this.#learn([standIn], [], sum);
  }

  /** The chain is refused no more, and what only its older version led to may go. */
  #settle(name: string): void {
    if (!this.#refused.delete(name)) return;
    for (const chain of this.#have.keys()) if (!this.#references.isUsed(chain)) this.#dirty.add(chain);
  }

  #hold(name: string, why: string): void {
    this.#refused.set(name, this.#failure(this.#refused.get(name), why));
  }

  #failure(before: Failure | undefined, why: string): Failure {
    const { random, firstRetryMs, maxRetryMs } = this.#options;
    const now = this.#now();
    const times = (before?.times ?? 0) + 1;
    const delay = Math.min(maxRetryMs, firstRetryMs * 2 ** (times - 1)) * (0.5 + random() / 2);
    return { why, sinceMs: before?.sinceMs ?? now, retryAtMs: now + delay, times };
  }

  #report(sum: { put: number; removed: number; drift: number }): Report<string> {
    return { port: this.name, ...sum, failed: this.#refused, unread: this.#unread, retryInMs: this.retryInMs };
  }

  /** In how many milliseconds a flush has something to do; undefined = never by itself. */
  get retryInMs(): number | undefined {
    const waits = (this.#unread ? [this.#unread] : [...this.#refused.values()]).map((f) => f.retryAtMs);
    const open = [...this.#dirty].some((name) => !this.#refused.has(name)) ||
      (this.#hooksDirty && !this.#refused.has(hooksKey));
    if (!this.#unread && (this.#doubted || open)) return 0;
    return waits.length === 0 ? undefined : Math.max(0, Math.min(...waits) - this.#now());
  }

  /**
   * A flush would give other rules to a chain that packets meet now, as far as is known.
   * @param counts tells whether a chain's rules are of interest.
   */
  rewrites(counts: (chain: string) => boolean): boolean {
    const now = this.#now();
    return [...this.#dirty].some((name) => {
      if (!this.#have.has(name) || !counts(name)) return false;
      const to = this.#target(name, now);
      return to !== undefined && to !== "as it is" && !agrees(this.#have.get(name), to);
    });
  }

  /** Nothing is to be done, nothing is in doubt, nothing failed. */
  get inSync(): boolean {
    return this.retryInMs === undefined;
  }
}
