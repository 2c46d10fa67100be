import type { Clock } from "../../lib/clock.ts";
import type { Family } from "../../lib/ip.ts";
import type { Health } from "../../lib/health.ts";
import type { Logger } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { messageOf, Problem } from "../../lib/problem.ts";
import { readCounters } from "../../kernel/netfilter/counters.ts";
import { type IptablesOptions, IptablesTable, type Tools } from "../../kernel/netfilter/iptables.ts";
import type { Hook } from "../../kernel/netfilter/chain.ts";
import { IpSets } from "../../kernel/netfilter/ipset.ts";
import { refusesNflog } from "../../kernel/netfilter/nflog_probe.ts";
import type { TableWatch } from "../../kernel/netfilter/table_watch.ts";
import { listHeaders, NETLINK_NETFILTER } from "../../kernel/netfilter/set_messages.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import type { Report } from "../../kernel/reconcile.ts";
import type { KernelCounts } from "../netfilter/decision_counts.ts";
import { chainLines } from "../netfilter/iptables_text.ts";
import type { Chain, NetfilterSettings, Table } from "../netfilter/model.ts";
import {
  chainName,
  chainPrefixes,
  isOwnSet,
  listsInterfaces,
  ownPrefixes,
  temporarySetPrefix,
} from "../netfilter/names.ts";
import type { ProgramChange } from "../netfilter/program.ts";
import { hooks } from "../netfilter/static_chains.ts";
import { Waiters } from "./_waiters.ts";
import { Pulse } from "../../lib/pulse.ts";
import { Wake } from "../../lib/wake.ts";

/** What a Filter works with. */
export interface FilterOptions {
  /** Programs for each family that this host filters; none for a family that it does not. */
  tools: Partial<Record<Family, Tools>>;
  watch: TableWatch;
  /** Tables to write; others are not touched. Default tableNames. */
  tables?: readonly Table[];
  /** Of netfilter, for the sets; closed with the filter. Default: one of the calling thread's namespace. */
  socket?: RtSocket;
  clock: Clock;
  /** 0..1 source of jitter. */
  random: () => number;
  log: Logger;
  /** Part "policy" reports here. */
  health: Health;
  metrics: Metrics;
}

/** What the kernel's own chains and sets depend on. */
export interface FilterRules {
  settings: NetfilterSettings[];
  /** Our rules go to the end of the kernel's chains, not to their top. */
  append: boolean;
  maxSetSize: number;
  /** Between two looks at all tables, and all sets; undefined or 0 = changes are noticed when they happen. */
  refreshMs?: number;
  setRefreshMs?: number;
}

/** What `ctl node status` shows of policy in the kernel. */
export interface FilterStatus {
  inSync: boolean;
  /** What is not in force and why: "iptables ip4 filter: cali-pi-…". */
  failed: { where: string; key: string; why: string }[];
  chains: number;
  rules: number;
  sets: number;
}

/** The tables that have chains of ours. */
export const tableNames: readonly Table[] = ["raw", "mangle", "nat", "filter"];
/** The one beside them that has some where `TortieFlushGuard` asks for it. */
export const guardTable: Table = "security";
/** Between two looks for changes of others in the sets, and a sign of life. */
const heartbeatMs = 1_000;
/** A flush may wait for others' lock on the tables, and write many; as long as Felix's main loop may be silent. */
const deadAfterMs = 90_000;
/** Wait before the watch is followed anew after an error. */
const followAgainMs = 1_000;
/** So that what others did to a set is put right within a second. */
const checkEveryMs = 700;
/** Sets that a look may hold, 5 us each: with more of them the looks come at longer intervals. */
const setsACheck = 500;

/**
 * Keeps chains and sets in the kernel as the FilterProgram says: sets before the rules that look into them, rules in one
 * transaction a table, sets that are not needed any more last. What others change is put right within a second. Closing
 * leaves everything in force.
 */
export class Filter implements AsyncDisposable {
  readonly #options: FilterOptions;
  readonly #socket: RtSocket;
  readonly #tableNames: readonly Table[];
  readonly #tables = new Map<string, IptablesTable>();
  readonly #sets = new Map<Family, IpSets>();
  readonly #waiters: Waiters;
  readonly #stop = new AbortController();
  readonly #tasks: Promise<void>[];
  readonly #first = Promise.withResolvers<void>();
  readonly #changed = new Pulse();
  readonly #startedMs: number;
  #maxSetSize: number | undefined;
  #refreshedAtMs: number;
  #setsRefreshedAtMs: number;
  readonly #wake: Wake;
  /** What the kernel's own chains were last wanted for. */
  #rules: FilterRules | undefined;
  #synced = false;
  /** What was asked for since the last flush began. */
  #asked: (() => void)[] = [];
  /** Calls of apply(), and how many of them each family's last flush had seen. */
  #applied = 0;
  readonly #flushed = new Map<Family, number>();
  /** What fails, and how often it was tried: what only waits for its next try is nothing new. */
  #tried = "";
  #retryInMs = heartbeatMs;
  #checkAtMs = 0;

  private constructor(options: FilterOptions) {
    this.#options = options;
    this.#socket = options.socket ?? RtSocket.open(undefined, NETLINK_NETFILTER);
    this.#wake = new Wake(options.clock);
    this.#tableNames = options.tables ?? tableNames;
    const { tools, watch, clock, random, metrics } = options;
    for (const [key, programs] of Object.entries(tools)) {
      const family = Number(key) as Family;
      for (const table of this.#tableNames) {
        const parts: IptablesOptions = { family, table, tools: programs, ownPrefixes, watch, clock, random, metrics };
        this.#tables.set(`${family} ${table}`, new IptablesTable(parts));
      }
      const owns = (name: string) => isOwnSet(name, family);
      const temporaryPrefix = temporarySetPrefix(family);
      this.#sets.set(
        family,
        new IpSets({ family, socket: this.#socket, owns, temporaryPrefix, clock, random, metrics }),
      );
    }
    this.#waiters = new Waiters(clock, () => this.#wake.call());
    this.#startedMs = this.#refreshedAtMs = this.#setsRefreshedAtMs = clock.monotonicMs();
    metrics.onCollect(() => this.#collect());
    options.health.register("policy", deadAfterMs);
    this.#tasks = [this.#run(), this.#follow()];
  }

  /** Opens its sockets. Touches nothing before the first apply(). @throws Problem "kernel". */
  static start(options: FilterOptions): Filter {
    return new Filter(options);
  }

  /** Resolves when the kernel has, for the first time, all that was asked for. */
  get ready(): Promise<void> {
    return this.#first.promise;
  }

  /** From now on this must hold, too. Changes that come together are written together. The same `rules` cost nothing. */
  apply(change: ProgramChange, rules: FilterRules): void {
    // A flush that is under way has written its sets already: rules on new sets must not slip into it.
    this.#asked.push(() => this.#want(change, rules));
    this.#applied++;
    this.#wake.call();
  }

  #want(change: ProgramChange, rules: FilterRules): void {
    const maxelem = rules.maxSetSize;
    if (maxelem !== this.#maxSetSize) { for (const sets of this.#sets.values()) sets.limit(maxelem); }
    this.#maxSetSize = maxelem;
    for (const { family, name, type, members, closes } of change.setsPut) {
      this.#sets.get(family)?.want(name, { type, maxelem, members, closes });
    }
    for (const { family, name, add, remove, closes } of change.setsChanged) {
      this.#sets.get(family)?.change(name, add, remove, closes);
    }
    for (const { family, name } of change.setsRemoved) this.#sets.get(family)?.want(name, undefined);
    for (const { family, table, put, remove } of change.tables) {
      const kernel = this.#tables.get(`${family} ${table}`);
      for (const chain of put) {
        const lines = chainLines(chain, { family, randomFully: true });
        kernel?.want(chain.name, { name: chain.name, ...lines, standIn: standInOf(chain, table) });
      }
      for (const name of remove) kernel?.want(name, undefined);
    }
    if (rules !== this.#rules) this.#wantHooks(rules);
    this.#rules = rules;
  }

  /**
   * Resolves when the chains of a workload's interface are in the kernel.
   * @param families those of the workload's addresses: in the others its packets meet the drop for unknown interfaces until
   * its chains are there, too. @param isSeen true once what is waited for was handed to apply().
   * @throws Problem "not-ready" when `deadlineMs` (default 10,000) passes first, with what is missing.
   */
  enforced(
    interfaceName: string,
    families: readonly Family[],
    isSeen: () => boolean,
    deadlineMs = 10_000,
  ): Promise<void> {
    const ours = families.filter((f) => this.#sets.has(f));
    let since: number | undefined;
    return this.#waiters.add(interfaceName, deadlineMs, () => {
      if (!isSeen()) return "policy of the endpoint is not calculated yet";
      since ??= this.#applied;
      const isWritten = this.#hasFlushed(since, ours);
      return isWritten ? this.#missing(interfaceName, ours) : "policy of the endpoint is not written yet";
    });
  }

  /**
   * Resolves when all that was handed to apply() has been written, or refused.
   * @throws Problem "not-ready" after `deadlineMs`.
   */
  written(deadlineMs = 30_000): Promise<void> {
    const since = this.#applied;
    return this.#waiters.add(
      "policy",
      deadlineMs,
      () => (this.#hasFlushed(since) ? undefined : "policy is not written yet"),
    );
  }

  /** What of a workload's chains is not in the kernel; undefined = all is there. */
  lacking(interfaceName: string): string | undefined {
    return this.#missing(interfaceName, [...this.#sets.keys()]);
  }

  /** What our lines have counted; one program a family is run. @throws Problem "kernel". */
  async counters(): Promise<KernelCounts> {
    const read = Object.entries(this.#options.tools).map(async ([family, tools]) =>
      [Number(family) as Family, await readCounters(tools)] as const
    );
    return new Map(await Promise.all(read));
  }

  /** Why the kernel would not take rules with NFLOG; undefined = it takes them. Nothing of ours is touched. */
  async refusesNflog(): Promise<string | undefined> {
    const answers = await Promise.all(Object.values(this.#options.tools).map(refusesNflog));
    return answers.find((why) => why !== undefined);
  }

  /** Yields when something was written, or failed. */
  changes(signal: AbortSignal): AsyncGenerator<void> {
    return this.#changed.beats(signal);
  }

  /** What is not in force and why. */
  failures(): FilterStatus["failed"] {
    return [...this.#tables.values(), ...this.#sets.values()].flatMap((part) =>
      [...part.failed].map(([key, { why }]) => ({ where: `${part.name}: ${key}`, key, why }))
    );
  }

  /** What is in force; walks all chains. */
  status(): FilterStatus {
    const failed = this.failures();
    const sizes = [...this.#tables.values()].map((t) => t.size);
    return {
      inSync: this.#synced && failed.length === 0 && [...this.#tables.values()].every((t) => t.inSync),
      failed,
      chains: sizes.reduce((n, s) => n + s.chains, 0),
      rules: sizes.reduce((n, s) => n + s.rules, 0),
      sets: [...this.#sets.values()].reduce((n, s) => n + s.size, 0),
    };
  }

  /** Stops looking. What is programmed stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("filter is closed"));
    this.#wake.call();
    await Promise.all(this.#tasks);
    this.#waiters.rejectAll(new Problem({ code: "not-ready", what: "the agent is stopping" }));
    this.#socket[Symbol.dispose]();
  }

  #wantHooks({ settings, append }: FilterRules): void {
    for (const s of settings) {
      for (const table of this.#tableNames) {
        this.#tables.get(`${s.family} ${table}`)?.wantHooks(hooks(table, s, append).map((h) => hookOf(h, s.family)));
      }
    }
  }

  #hasFlushed(since: number, families: Iterable<Family> = this.#sets.keys()): boolean {
    return [...families].every((f) => (this.#flushed.get(f) ?? 0) >= since);
  }

  #missing(interfaceName: string, families: readonly Family[]): string | undefined {
    const { to, from } = chainPrefixes.workload;
    for (const family of families) {
      const filter = this.#tables.get(`${family} filter`)!;
      for (const name of [chainName(to, interfaceName), chainName(from, interfaceName)]) {
        if (!filter.holds(name)) return `chain ${name} is not in the kernel (IPv${family})`;
      }
    }
    return undefined;
  }

  /** What happens while nobody follows is found by the tables' own look at the watch, whenever the loop comes round. */
  async #follow(): Promise<void> {
    const { watch, clock, log } = this.#options, { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        for await (const _tables of watch.changes(signal)) this.#wake.call();
      } catch (error) {
        if (!signal.aborted) log.error("changes of tables are not followed", { why: messageOf(error) });
      }
      await clock.sleep(followAgainMs, signal).catch(() => {}); // aborted: the loop's condition ends it
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const untilCheck = this.#rules ? this.#checkAtMs - this.#options.clock.monotonicMs() : Infinity;
      await this.#wake.sleep(Math.max(0, Math.min(this.#retryInMs, untilCheck)), signal);
      if (signal.aborted) return;
      try {
        for (const take of this.#asked.splice(0)) take();
        if (this.#rules) await this.#flush(this.#applied);
        this.#waiters.settle();
      } catch (error) {
        this.#options.log.error("policy was not brought into the kernel", { why: messageOf(error) });
        this.#options.health.report("policy", false, messageOf(error));
      }
    }
  }

  #collect(): void {
    const { metrics } = this.#options;
    for (const [key, table] of this.#tables) {
      const [ip_version, name] = key.split(" ") as [string, string];
      const { chains, rules } = table.size;
      metrics.set("felix_iptables_chains", chains, { ip_version, table: name });
      metrics.set("felix_iptables_rules", rules, { ip_version, table: name });
    }
    metrics.set("felix_ipsets_total", [...this.#sets.values()].reduce((n, s) => n + s.present, 0));
    for (const part of [...this.#tables.values(), ...this.#sets.values()]) {
      metrics.set("tortie_not_in_sync", part.failed.size, { port: part.name });
    }
  }

  async #flush(applied: number): Promise<void> {
    const began = this.#options.clock.monotonicMs();
    const sets = [...this.#sets.values()], tables = [...this.#tables.values()];
    this.#checkSets(sets);
    this.#refresh(sets, tables);
    const families = [...this.#sets.keys()];
    const reports = (await Promise.all(families.map((family) => this.#flushFamily(family, applied)))).flat();
    const waits = reports.flatMap((r) => r.retryInMs ?? []);
    this.#retryInMs = Math.min(heartbeatMs, ...waits.map((ms) => Math.max(ms, 20)));
    this.#report(reports);
    const tried = reports.flatMap(({ port, failed }) =>
      [...failed].map(([key, { times }]) => `${port} ${key} ${times}`)
    );
    const isOther = tried.join("\n") !== this.#tried;
    this.#tried = tried.join("\n");
    if (!isOther && !reports.some((r) => r.put + r.removed > 0)) return;
    const { clock, metrics } = this.#options;
    metrics.observe("felix_int_dataplane_apply_time_seconds", (clock.monotonicMs() - began) / 1000);
    if (reports.some((r) => r.failed.size > 0)) metrics.add("felix_int_dataplane_failures");
    this.#changed.beat();
  }

  /** Looks at everything where somebody asks for that. */
  #refresh(sets: IpSets[], tables: IptablesTable[]): void {
    const now = this.#options.clock.monotonicMs();
    const { refreshMs, setRefreshMs } = this.#rules ?? {};
    const isDue = (at: number, periodMs: number | undefined) =>
      periodMs !== undefined && periodMs > 0 && now >= at + periodMs;
    if (isDue(this.#refreshedAtMs, refreshMs)) {
      this.#refreshedAtMs = now;
      for (const table of tables) table.doubt();
    }
    if (isDue(this.#setsRefreshedAtMs, setRefreshMs)) {
      this.#setsRefreshedAtMs = now;
      for (const one of sets) one.doubt();
    }
  }

  /** The kernel tells of no change of a set. A look before each write would cost more than most writes. */
  #checkSets(sets: IpSets[]): void {
    const now = this.#options.clock.monotonicMs();
    if (now < this.#checkAtMs) return;
    const count = sets.reduce((n, s) => n + s.size, 0);
    this.#checkAtMs = now + checkEveryMs * Math.max(1, count / setsACheck);
    try {
      const headers = listHeaders(this.#socket);
      for (const one of sets) one.check(headers);
    } catch {
      for (const one of sets) one.doubt(); // their flush says what cannot be read, and the tables have their turn
    }
  }

  /** A family's packets meet its own tables and sets only, so who waits for it need not wait for the other. */
  async #flushFamily(family: Family, applied: number): Promise<Report<string>[]> {
    const sets = this.#sets.get(family)!;
    const tables = this.#tableNames.map((name) => this.#tables.get(`${family} ${name}`)!);
    await Promise.all(tables.map((t) => t.look()));
    // While rules change, sets allow nothing that they did not allow before: not to the old rules, not to the new ones.
    const made = await sets.flush(
      tables.some((t) => t.rewrites((chain) => !listsInterfaces(chain))) ? "close" : "make",
    );
    // A chain that was refused for want of a set may be taken now.
    if (made.put > 0) { for (const table of tables) table.retry(); }
    const written = await Promise.all(tables.map((t) => t.flush()));
    const broken = await sets.flush("break");
    this.#flushed.set(family, applied);
    this.#waiters.settle();
    return [made, ...written, broken];
  }

  #report(reports: Report<string>[]): void {
    const { log, health } = this.#options;
    const unread = reports.filter((r) => r.unread !== undefined);
    for (const { port, drift, failed, unread } of reports) {
      if (drift > 0 && this.#synced) log.info("drift repaired", { port, entries: drift });
      for (const [key, { why, times }] of failed) {
        log[times > 1 ? "warn" : "debug"]("policy is not in the kernel as wanted", { port, key, why });
      }
      if (unread) log.warn("the kernel's policy cannot be read", { port, why: unread.why });
    }
    if (!this.#synced && unread.length === 0) {
      this.#synced = true;
      const { chains, rules, sets } = this.status();
      log.info("policy is in force", { chains, rules, sets });
      const sinceStartS = (this.#options.clock.monotonicMs() - this.#startedMs) / 1000;
      this.#options.metrics.set("felix_int_dataplane_initial_resync_time_seconds", sinceStartS);
      this.#first.resolve();
    }
    health.report("policy", this.#synced, "policy is not in the kernel yet");
  }
}

/**
 * What stands in for a host endpoint's chain that the kernel refuses: a host stays reachable by its failsafe ports.
 * undefined = the chain has none, and everything is dropped.
 */
function standInOf({ rules }: Chain, table: Table): string[] | undefined {
  if (table === guardTable) return []; // a guard that the kernel refuses guards nothing, and cuts nothing
  for (const { action } of rules) {
    if (action?.is !== "jump" || !action.chain.startsWith("cali-failsafe-")) continue;
    const replies = "--match conntrack --ctstate RELATED,ESTABLISHED --jump ACCEPT";
    return [...(table === "raw" ? [] : [replies]), `--jump ${action.chain}`, "--jump DROP"];
  }
  return undefined;
}

/** A hook as text. Felix hashes appended rules under a name of their own, so that they differ from inserted ones. */
function hookOf(hook: ReturnType<typeof hooks>[number], family: Family): Hook {
  const hashedAs = hook.append ? `${hook.chain}*appends*` : hook.chain;
  const { lines, hashes } = chainLines({ name: hashedAs, rules: hook.rules }, { family, randomFully: true });
  const plain = lines.map((line) => line.replace(`-A ${hashedAs} `, `-A ${hook.chain} `));
  return { chain: hook.chain, append: hook.append, lines: plain, hashes };
}
