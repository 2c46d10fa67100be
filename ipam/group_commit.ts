import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf, Problem } from "../lib/problem.ts";
import type { Compare, KeyValue, Range, Store } from "../datastore/store.ts";
import { Draft, eventsOf, keyOf, maxOperations, type Moment, type Plan } from "./draft.ts";
import { Newest } from "./newest.ts";
import type { Commit, Extra } from "./request.ts";
import { type Decoded, type Reader, type View, viewOf } from "./view.ts";

/** What a planning function comes to. With `problem` the draft is dropped, unless `keep`. */
export interface Step {
  problem?: Problem;
  keep?: boolean;
}

/** How a wish ended: its last step, and what was written with it. */
export interface Done<S> {
  step: S;
  commit?: Commit;
  /** Set when a compare that the caller added did not hold: the values of its keys. */
  current?: Map<string, KeyValue>;
  /** When it failed while a transaction of it may still be carried out by the server: the keys that one writes. */
  inDoubt?: string[];
}

/** A wish: planned anew for every transaction, so pure. */
export interface Wish<S extends Step> {
  plan(draft: Draft): S;
  /** What to answer when it never came to a transaction. */
  failed(problem: Problem): S;
  deadlineMs: number;
}

/** What the engine needs of the world; see AllocatorParts. */
export interface GroupParts {
  store: Store;
  reader: () => Reader | Promise<Reader>;
  moment: () => Moment;
  clock: Clock;
  random: () => number;
  log: Logger;
}

/** A wish that waits or is under way. */
interface Job {
  plan(draft: Draft): Step;
  finish(
    done: { step?: Step; problem?: Problem; commit?: Commit; current?: Map<string, KeyValue>; thrown?: unknown },
  ): void;
  readonly until: number;
  step: Step | undefined;
  extra: Readonly<Extra>;
  /** Keys that tell whether the last planned transaction was carried out. */
  marks: string[];
  tries: number;
  refusals: number;
  /** The last transaction of it whose outcome we did not hear, with its marks and step. */
  doubt: { plan: Plan; marks: string[]; step: Step | undefined } | undefined;
  underWay: boolean;
  alone: boolean;
}

/** Most wishes of one transaction. */
const maxGroup = 40;
/** Most transactions that conflict before a wish is given up (Calico: datastoreRetries). */
const maxTries = 100;
/** Longest wait for one answer of etcd, however long the wishes may wait: another member may answer the next call. */
const maxCallMs = 2_000;
/** Most times that a refusal is looked at again because the picture behind it was old. */
const maxRefusals = 3;

/**
 * Runs wishes in transactions, one at a time, each with all the wishes that came meanwhile: one write of a block for all.
 * Conflict: the current values come back with it and everything is planned again. No answer: what it wanted to write is read
 * back. A refusal is not believed before etcd has confirmed what it rests on.
 */
export class GroupCommit implements AsyncDisposable {
  readonly #parts: GroupParts;
  readonly #decoded: Decoded = new WeakMap();
  #jobs = new Set<Job>();
  #newest: Newest | undefined;
  #running: Promise<void> | undefined;
  #contention = 0;
  #closed = false;

  constructor(parts: GroupParts) {
    this.#parts = parts;
  }

  /** Resolves when the wish is done or given up; rejects only when its plan() throws. */
  submit<S extends Step>(wish: Wish<S>): Promise<Done<S>> {
    const { promise, resolve, reject } = Promise.withResolvers<Done<S>>();
    if (this.#closed) {
      resolve({ step: wish.failed(unavailable("address management is shutting down")) });
      return promise;
    }
    const timer = new AbortController();
    const job: Job = {
      plan: (draft) => wish.plan(draft),
      until: this.#parts.clock.monotonicMs() + wish.deadlineMs,
      step: undefined,
      extra: { compare: [], write: [] },
      marks: [],
      tries: 0,
      refusals: 0,
      doubt: undefined,
      underWay: false,
      alone: false,
      finish: ({ step, problem, commit, current, thrown }) => {
        if (!this.#jobs.delete(job)) return;
        timer.abort(new Error("wish is done"));
        if (thrown !== undefined) reject(thrown);
        else if (problem) resolve({ step: wish.failed(problem), current, inDoubt: job.doubt?.plan.write.map(keyOf) });
        else resolve({ step: step as S, commit });
      },
    };
    this.#jobs.add(job);
    this.#giveUpLate(job, wish.deadlineMs, timer.signal);
    this.#running ??= this.#run();
    return promise;
  }

  /** The newest view there is. @throws Problem "unavailable" when the reader cannot read. */
  async view(): Promise<View> {
    const reader = await this.#parts.reader();
    if (this.#newest) this.#newest.update(reader);
    else this.#newest = new Newest(reader);
    return viewOf(this.#newest, this.#decoded);
  }

  /** Waits for what is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // so that wishes of one moment go together
    try {
      while (this.#jobs.size > 0) await this.#round();
    } catch (error) {
      for (const job of [...this.#jobs]) job.finish({ thrown: error });
    } finally {
      this.#running = undefined; // in the same step as the last look at #jobs
    }
  }

  async #round(): Promise<void> {
    this.#dropLate();
    const view = await this.#viewOrNothing();
    if (!view) return;
    const draft = new Draft(view, this.#parts.moment());
    const { group, refused } = this.#gather(draft);
    const plan = draft.plan(); // before anything else is learned: compares and contents must be of one moment
    if (refused.length > 0) await this.#confirm(refused);
    if (group.length > 0) await this.#commit(plan, group);
    if (this.#contention > 1) await this.#wait(2 ** Math.min(this.#contention, 6));
  }

  /** Reads again only for new wishes, or now and then: after a conflict we were told the values that matter. */
  async #viewOrNothing(): Promise<View | undefined> {
    const isDue = [...this.#jobs].some((j) => j.tries % 8 === 0 && j.refusals === 0);
    if (this.#newest && !isDue) return viewOf(this.#newest, this.#decoded);
    try {
      return await this.view();
    } catch (error) {
      if (!isProblem(error, "unavailable")) {
        for (const job of [...this.#jobs]) {
          isProblem(error) ? job.finish({ problem: error }) : job.finish({ thrown: error });
        }
        return undefined;
      }
      await this.#wait(100);
      return undefined;
    }
  }

  /** As many wishes, in order, as one transaction takes; and the refusals that no other wish of the group is to blame for. */
  #gather(draft: Draft): { group: Job[]; refused: { job: Job; step: Step; plan: Plan }[] } {
    const group: Job[] = [];
    const refused: { job: Job; step: Step; plan: Plan }[] = [];
    for (const job of [...this.#jobs]) {
      if (group.length >= maxGroup || (group.length > 0 && (job.alone || group[0]!.alone))) break;
      if (this.#happened(job)) {
        this.#done(job);
        continue;
      }
      const child = draft.child();
      const step = this.#planOne(job, child);
      if (!step) continue;
      if (step.problem && !step.keep) {
        if (group.length === 0) refused.push({ job, step, plan: child.plan() });
      } else if (draft.fits(child)) {
        draft.merge(child);
        job.step = step;
        job.extra = child.extra;
        job.marks = child.marks;
        group.push(job);
      } else if (group.length > 0) break;
      else job.finish({ problem: tooLarge() });
    }
    return { group, refused };
  }

  #planOne(job: Job, draft: Draft): Step | undefined {
    try {
      return job.plan(draft);
    } catch (error) {
      job.finish({ thrown: error });
      return undefined;
    }
  }

  /** Asks etcd whether what the refusals rest on still holds; those that rest on nothing stored are final. */
  async #confirm(refused: { job: Job; step: Step; plan: Plan }[]): Promise<void> {
    const asking: typeof refused = [];
    const compare = new Map<string, Compare>();
    const asked = new Map<string, string | Range>();
    for (const one of refused) {
      if (one.plan.compare.length === 0 || one.job.refusals++ >= maxRefusals) one.job.finish({ step: one.step });
      else if (compare.size + one.plan.compare.length <= maxOperations || asking.length === 0) {
        for (const c of one.plan.compare) compare.set(nameOf(c), c);
        for (const what of one.plan.onConflict) asked.set(typeof what === "string" ? what : what.start, what);
        asking.push(one);
      }
    }
    if (asking.length === 0) return;
    const onConflict = [...asked.values()];
    try {
      const options = { deadlineMs: this.#left(asking.map((a) => a.job)) };
      const result = await this.#parts.store.txn({ compare: [...compare.values()], write: [], onConflict }, options);
      if (!result.committed) this.#newest!.told(onConflict, result.current, result.revision);
      else for (const { job, step } of asking) job.finish({ step });
    } catch (error) {
      if (isProblem(error, "unavailable")) return void await this.#wait(100);
      for (const { job } of asking) isProblem(error) ? job.finish({ problem: error }) : job.finish({ thrown: error });
    }
  }

  async #commit(plan: Plan, group: Job[]): Promise<void> {
    for (const job of group) job.underWay = true;
    try {
      const { compare, write, onConflict } = plan;
      const result = await this.#parts.store.txn({ compare, write, onConflict }, { deadlineMs: this.#left(group) });
      if (result.committed) this.#committed(plan, group, result.revision);
      else this.#conflicted(plan, group, result.current, result.revision);
    } catch (error) {
      if (isProblem(error, "unavailable")) await this.#inDoubt(plan, group);
      else this.#isolate(group, error);
    } finally {
      for (const job of group) job.underWay = false;
    }
  }

  #committed(plan: Plan, group: Job[], revision: bigint): void {
    const events = eventsOf(plan, revision);
    const prefixes = plan.compare.flatMap((c) => ("range" in c ? [c.range.start] : []));
    this.#newest!.wrote(events, revision, prefixes);
    this.#contention = 0;
    const commit = events.length > 0 ? { revision, events } : undefined;
    for (const job of group) job.finish({ step: job.step, commit });
  }

  /** Whoever's own compare failed is out; one that had in truth succeeded before is done; the others try again. */
  #conflicted(plan: Plan, group: Job[], current: Map<string, KeyValue>, revision: bigint): void {
    this.#newest!.told(plan.onConflict, current, revision);
    this.#contention++;
    for (const job of group) {
      job.tries++;
      const isAsWanted = job.extra.compare.every((c) => holds(c, current));
      if (this.#happened(job) || (!isAsWanted && this.#isGone(job))) this.#done(job);
      else if (!isAsWanted) job.finish({ problem: notAsWanted(job.extra.compare), current });
      else if (job.tries >= maxTries) job.finish({ problem: contended() });
    }
  }

  /** No answer: looks whether it was carried out. Not (yet) so: its wishes are planned again, which also bars a late success. */
  async #inDoubt(plan: Plan, group: Job[]): Promise<void> {
    const keys = plan.write.map(keyOf);
    for (const job of group) {
      job.underWay = false;
      job.tries++;
      if (keys.length > 0) job.doubt = { plan, marks: job.marks, step: job.step };
    }
    this.#dropLate();
    const waiting = () => group.filter((job) => this.#jobs.has(job));
    while (keys.length > 0 && waiting().length > 0) {
      try {
        const snapshot = await this.#parts.store.read(keys, { deadlineMs: this.#left(waiting()) });
        this.#newest!.told(keys, snapshot.values, snapshot.revision);
        for (const job of waiting()) if (this.#happened(job)) this.#done(job);
        return;
      } catch (error) {
        if (!isProblem(error, "unavailable")) return this.#isolate(waiting(), error);
        await this.#wait(100);
        this.#dropLate();
      }
    }
  }

  /** True when the wish's last unheard transaction was carried out: all its marks stand as it wrote them. */
  #happened({ doubt }: Job): boolean {
    if (!doubt || doubt.marks.length === 0) return false;
    const written = new Map(doubt.plan.write.map((w) => [keyOf(w), "put" in w ? w.value : undefined]));
    return doubt.marks.every((key) => {
      const kv = this.#newest!.get(key);
      return kv !== undefined && kv.value === written.get(key) && kv.revision > doubt.plan.before.get(key)!.revision;
    });
  }

  /** True when the caller's own writes are all deletes, in doubt, and what they delete is gone: by us, or as good as. */
  #isGone({ doubt, extra }: Job): boolean {
    const gone = extra.write.every((w) => "delete" in w && this.#newest!.get(w.delete) === undefined);
    return doubt !== undefined && extra.write.length > 0 && gone;
  }

  /** Finishes a wish whose transaction was carried out unheard: tells of what still is as it was written. */
  #done(job: Job): void {
    const { plan, step } = job.doubt!;
    const kvs = plan.write.flatMap((w) => ("put" in w ? this.#newest!.get(w.put) ?? [] : []));
    const standing = kvs.filter((kv) => plan.write.some((w) => "put" in w && w.put === kv.key && w.value === kv.value));
    const revision = standing[0]?.revision ?? this.#newest!.revision;
    const events = eventsOf(plan, revision).filter((e) => this.#newest!.get(e.key)?.value === e.value);
    job.finish({ step, commit: { revision, events } });
  }

  /** A transaction that etcd refused as such: each wish on its own, so that only the culprit fails. */
  #isolate(group: Job[], error: unknown): void {
    if (group.length > 1) { for (const job of group) job.alone = true; }
    else for (const job of group) isProblem(error) ? job.finish({ problem: error }) : job.finish({ thrown: error });
    if (group.length > 1) this.#parts.log.warn("transaction refused, trying its parts", { why: messageOf(error) });
  }

  /** Ends a wish at its deadline, unless its transaction is under way: that one has the same deadline. */
  #giveUpLate(job: Job, ms: number, signal: AbortSignal): void {
    const late = () => {
      if (!job.underWay) job.finish({ problem: unavailable("etcd did not answer in time") });
    };
    this.#parts.clock.sleep(ms, signal).then(late, () => {});
  }

  #dropLate(): void {
    const now = this.#parts.clock.monotonicMs();
    const late = [...this.#jobs].filter((job) => !job.underWay && now >= job.until);
    for (const job of late) job.finish({ problem: unavailable("etcd did not answer in time") });
  }

  /** Milliseconds until the first of the wishes gives up, but no longer than one call may take. */
  #left(jobs: Job[]): number {
    const now = this.#parts.clock.monotonicMs();
    return Math.max(20, Math.min(maxCallMs, ...jobs.map((j) => j.until - now)));
  }

  #wait(mostMs: number): Promise<void> {
    return this.#parts.clock.sleep(Math.ceil((0.5 + this.#parts.random() / 2) * mostMs));
  }
}

function holds(c: Compare, current: Map<string, KeyValue>): boolean {
  if ("key" in c) return (current.get(c.key)?.revision ?? 0n) === c.revision;
  const { start, end } = c.range;
  return [...current.values()].every((kv) => kv.key < start || kv.key >= end || kv.revision <= c.unchangedSince);
}

const nameOf = (c: Compare) => ("key" in c ? `${c.key} ${c.revision}` : `${c.range.start} ${c.unchangedSince}`);
const unavailable = (what: string) => new Problem({ code: "unavailable", what, todo: "Try again." });
const contended = () =>
  new Problem({
    code: "unavailable",
    what: `gave up after ${maxTries} conflicts with other writers`,
    todo: "Try again.",
  });
const tooLarge = () =>
  new Problem({
    code: "bad-input",
    what: "the request does not fit into one transaction",
    todo: "Ask for fewer addresses.",
  });
const notAsWanted = (extra: readonly Compare[]) =>
  new Problem({
    code: "conflict",
    what: "what goes with the addresses was changed by somebody else",
    where: extra.map((c) => ("key" in c ? c.key : c.range.start)).join(", "),
    todo: "Look at it again and repeat.",
  });
