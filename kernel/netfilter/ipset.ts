import { type Metrics, noMetrics } from "../../lib/metrics.ts";
import { messageOf } from "../../lib/problem.ts";
import type { Failure, Report } from "../reconcile.ts";
import type { KernelError } from "../rtnetlink/socket.ts";
import { SetBulk, type StoppedBulk } from "./_set_bulk.ts";
import { SetTurns } from "./_set_turns.ts";
import { startProgram } from "./_spawn.ts";
import { type SetStep, stepsOf } from "./_set_steps.ts";
import type { SetType } from "./set_members.ts";
import {
  destroySet,
  isMissing,
  listHeaders,
  listMembers,
  newestRevision,
  readHeaders,
  sameListing,
  setErrorText,
} from "./set_messages.ts";
import type { IpSetsOptions, SetPhase } from "./set_phases.ts";
import { SetState, type WantedSet } from "./wanted_set.ts";

/** So many changes in a flush go by netlink, 0.02 ms each; more of them through one `ipset restore`, which does not hold up the event loop. */
const netlinkLimit = 500;
/** From so many sets on, a look at the headers costs a millisecond, and check() looks so often at most. */
const manySets = 200;
const manySetsEveryMs = 500;
/** Rounds through `ipset restore`: each but the last found something that the kernel refuses. */
const maxRounds = 40;

const nothingListed: Uint8Array = new Uint8Array();

type Sum = { put: number; removed: number; drift: number };

/**
 * The IP sets of one family. It is no Port of the Reconciler because a set's value has up to a million members: what it
 * keeps is the difference, and a change of one member must not cost a look at all of them.
 *
 * want() and change() remember; flush("make") creates and fills, before the rules that use the sets; flush("break")
 * destroys, after the rules are gone. check() notices what others did, by one listing of headers.
 */
export class IpSets {
  readonly #options: IpSetsOptions & { metrics: Metrics; firstRetryMs: number; maxRetryMs: number };
  readonly #states = new Map<string, SetState>();
  readonly #dirty = new Set<string>();
  readonly #wished = new Set<string>();
  readonly #failed = new Map<string, Failure>();
  /** Of these a part of the changes is left for "break". */
  readonly #held = new Set<string>();
  readonly #revisions = new Map<SetType, number>();
  #doubted = true;
  #busy = false;
  #checkedMs = -Infinity;
  readonly #turns = new SetTurns();
  #headers = nothingListed;
  #unread: Failure | undefined;
  #last: Promise<unknown> = Promise.resolve();
  readonly #queued = new Map<SetPhase | undefined, Promise<Report<string>>>();
  /** What was done since the start. */
  readonly counts = { lists: 0, changes: 0, programs: 0, failures: 0 };

  constructor(options: IpSetsOptions) {
    this.#options = { metrics: noMetrics, firstRetryMs: 100, maxRetryMs: 30_000, ...options };
  }

  /** `ipset ip4`. */
  get name(): string {
    return `ipset ip${this.#options.family}`;
  }

  /** Wants a set, or none of that name. Members are as memberText() takes them. */
  want(name: string, set: WantedSet | undefined): void {
    const state = this.#states.get(name) ?? (set && this.#add(name));
    if (!state || (!set && !state.want)) return;
    if (set && !state.wantAll(set) && state.have && state.bad.size === 0) return;
    if (!set) state.wantNone();
    this.#touch(name);
  }

  /** Wants exactly these sets. */
  wantAll(sets: ReadonlyMap<string, WantedSet>): void {
    for (const [name, { want }] of [...this.#states]) if (want && !sets.has(name)) this.want(name, undefined);
    for (const [name, set] of sets) this.want(name, set);
  }

  /** From now on every wanted set takes at most so many members. */
  limit(maxelem: number): void {
    for (const [name, { want }] of this.#states) {
      if (!want || want.maxelem === maxelem) continue;
      want.maxelem = maxelem;
      this.#touch(name);
    }
  }

  /** Some members more and some less of a set that is wanted. @param closes see WantedSet; as before when not given. */
  change(name: string, add: Iterable<string>, remove: Iterable<string>, closes?: boolean): void {
    const state = this.#states.get(name);
    if (!state?.want) return;
    state.closes = closes ?? state.closes;
    state.change(add, remove);
    this.#touch(name);
  }

  #add(name: string): SetState {
    const state = new SetState(name, this.#options.family);
    this.#states.set(name, state);
    return state;
  }

  #touch(name: string): void {
    this.#failed.delete(name);
    this.#dirty.add(name);
    this.#wished.add(name);
  }

  /** Members of these sets may have changed, or anything: the next flush reads them. */
  doubt(names?: Iterable<string>): void {
    if (names === undefined) this.#doubted = true;
    else for (const name of names) this.#doubtOf(name);
  }

  #doubtOf(name: string): void {
    const state = this.#states.get(name);
    if (!state) return;
    state.unknown = true;
    this.#dirty.add(name);
  }

  /**
   * Looks at the headers of all sets, some 5 us a set, and at the members of a few, in turn. To be called about once a
   * second. @returns sets that others have changed; they are doubted: type, size limit and number of members show at
   * once, a member exchanged for another when its set has its turn. With hundreds of sets it looks twice a second at most.
   * @param headers of listHeaders(): one listing has the sets of both families. @throws Problem "kernel".
   */
  check(headers?: Uint8Array): string[] {
    if (this.#doubted || this.#busy) return [];
    const now = this.#now();
    // So that whoever looks before each write does not pay milliseconds for it.
    if (!headers && this.#states.size > manySets && now - this.#checkedMs < manySetsEveryMs) return [];
    this.#checkedMs = now;
    this.counts.lists++;
    const changed = this.#checkHeaders(headers ?? listHeaders(this.#options.socket));
    if (changed.length === 0) changed.push(...this.#compareSome());
    this.doubt(changed);
    return changed;
  }

  /** Compares members of sets that have waited longest. */
  #compareSome(): string[] {
    const { socket, family } = this.#options;
    const elementsOf = (name: string) => {
      const { want, have } = this.#states.get(name) ?? {};
      return want && !this.#dirty.has(name) ? have?.elements : undefined;
    };
    return [...this.#turns.next(this.#states.keys(), elementsOf)].filter((name) => {
      const state = this.#states.get(name)!;
      const members = listMembers(socket, name, state.want!.type, family);
      return !members || !state.isMadeOf(members);
    });
  }

  #checkHeaders(listing: Uint8Array): string[] {
    if (sameListing(listing, this.#headers)) return [];
    this.#headers = listing;
    const changed: string[] = [];
    const seen = new Set<string>();
    for (const header of readHeaders(listing)) {
      if (!this.#owns(header.name)) continue;
      seen.add(header.name);
      const state = this.#states.get(header.name) ?? this.#add(header.name);
      const { have } = state;
      if (have) have.references = header.references;
      const same = have && have.type === header.type && have.maxelem === header.maxelem &&
        have.elements === header.elements;
      if (same) continue;
      state.have = header;
      changed.push(header.name);
    }
    for (const [name, { have }] of this.#states) if (have && !seen.has(name)) changed.push(name);
    return changed;
  }

  #owns(name: string): boolean {
    return this.#options.owns(name) || this.#isTemporary(name);
  }

  #isTemporary(name: string): boolean {
    const { temporaryPrefix } = this.#options;
    return name.startsWith(temporaryPrefix) && /^\d+$/.test(name.slice(temporaryPrefix.length));
  }

  /** True when the set is in the kernel as wanted, as far as is known. */
  holds(name: string): boolean {
    return !this.#doubted && !this.#dirty.has(name) && !this.#failed.has(name) &&
      this.#states.get(name)?.have !== undefined && this.#states.get(name)?.want !== undefined;
  }

  /** Sets that are not as wanted, and why. */
  get failed(): ReadonlyMap<string, Failure> {
    return this.#failed;
  }

  /** Sets of ours that are in the kernel, as far as is known. */
  get present(): number {
    return [...this.#states.values()].filter((s) => s.have).length;
  }

  /** Sets that are wanted. */
  get size(): number {
    return [...this.#states.values()].filter((s) => s.want).length;
  }

  /** Makes the sets as wanted as far as possible; a phase does half of it. Never rejects. */
  flush(phase?: SetPhase): Promise<Report<string>> {
    const queued = this.#queued.get(phase);
    if (queued) return queued;
    const work = this.#last.then(() => {
      this.#queued.delete(phase);
      return this.#flushOnce(phase);
    });
    this.#queued.set(phase, work);
    this.#last = work.catch(() => {});
    return work;
  }

  async #flushOnce(phase: SetPhase | undefined): Promise<Report<string>> {
    const sum: Sum = { put: 0, removed: 0, drift: 0 };
    if (this.#unread && this.#unread.retryAtMs > this.#now()) return this.#report(sum);
    this.#busy = true;
    try {
      if (this.#doubted) this.#look();
      const due = this.#due();
      const wanted = due.filter((s) => s.want && (phase !== "break" || this.#held.delete(s.name)));
      if (phase === "close") await this.#close(wanted, sum);
      else await this.#make(wanted, sum);
      if (phase === undefined || phase === "break") this.#break(due.filter((s) => !s.want), sum);
      this.#unread = undefined;
    } catch (error) {
      this.#unread = this.#failure(this.#unread, messageOf(error));
      this.#doubted = true;
    } finally {
      this.#busy = false;
    }
    return this.#report(sum);
  }

  #now = (): number => this.#options.clock.monotonicMs();

  /** Sets that need a look, but for those that wait for their next try. */
  #due(): SetState[] {
    const now = this.#now();
    for (const [name, { retryAtMs }] of this.#failed) {
      if (retryAtMs > now) continue;
      this.#states.get(name)?.refused.clear();
      this.#dirty.add(name);
    }
    return [...this.#dirty].filter((name) => !((this.#failed.get(name)?.retryAtMs ?? 0) > now))
      .map((name) => this.#states.get(name)).filter((s) => s !== undefined);
  }

  #look(): void {
    this.counts.lists++;
    this.#doubted = false;
    this.#headers = listHeaders(this.#options.socket);
    for (const state of this.#states.values()) state.found(undefined, undefined);
    for (const header of readHeaders(this.#headers)) {
      if (!this.#owns(header.name)) continue;
      const state = this.#states.get(header.name) ?? this.#add(header.name);
      state.have = header;
      state.unknown = true;
    }
    for (const name of this.#states.keys()) this.#dirty.add(name);
    this.#destroyTemporaries();
  }

  /** Left over by a program that was killed; nothing uses them. */
  #destroyTemporaries(): void {
    const { socket, family } = this.#options;
    const left = [...this.#states.keys()].filter((name) => this.#isTemporary(name));
    socket.batch(left.map((name) => destroySet(name, family))).forEach(({ error }, i) => {
      if (!error || isMissing(error)) this.#forget(left[i]!);
    });
  }

  #forget(name: string): void {
    this.#states.delete(name);
    this.#dirty.delete(name);
    this.#failed.delete(name);
    this.#wished.delete(name);
    this.#held.delete(name);
  }

  /** Of each set that is there only the part that denies more. */
  async #close(states: SetState[], sum: Sum): Promise<void> {
    try {
      for (const state of states) {
        this.#read(state);
        if (state.have?.type !== state.want!.type) continue;
        state.part = state.partThat("denies");
        this.#held.add(state.name);
      }
      await this.#make(states, sum);
    } finally {
      for (const state of states) state.part = "all";
    }
  }

  async #make(states: SetState[], sum: Sum): Promise<void> {
    for (const state of states) this.#read(state);
    const work = states.filter((s) => this.#isToDo(s, sum));
    const size = ({ want, have, adding, removing }: SetState) =>
      have ? adding.size + removing.size : want!.members.size + 1;
    const total = work.reduce((n, s) => n + size(s), 0);
    const byNetlink = (s: SetState) => total <= netlinkLimit && s.plan().do !== "replace";
    this.#netlink(work.filter(byNetlink), sum);
    await this.#inOrder(work.filter((s) => !byNetlink(s)), sum);
  }

  /** Members come before others go, so that one which goes from set to set is always in one; as the steps of #netlink(). */
  async #inOrder(states: SetState[], sum: Sum): Promise<void> {
    const changing = states.filter((s) => s.part === "all" && s.plan().do === "change");
    const open = (of: SetState[], first: number) =>
      of.filter((s) => !s.unknown && s.plan().do !== "nothing").sort((a, b) =>
        first * (Number(b.closes) - Number(a.closes))
      );
    try {
      for (const state of changing) state.part = "add";
      await this.#bulk(open(states, 1), sum);
    } finally {
      for (const state of changing) state.part = "all";
    }
    await this.#bulk(open(changing, -1), sum);
    for (const s of changing) {
      if (!s.unknown && s.plan().do === "nothing" && this.#dirty.has(s.name)) this.#settle(s, sum, true);
    }
  }

  #read(state: SetState): void {
    if (!state.unknown || !state.have) return;
    const { socket, family } = this.#options;
    const type = state.want!.type;
    if (state.have.type !== type) return void (state.unknown = false);
    this.counts.lists++;
    state.found(state.have, listMembers(socket, state.name, type, family));
  }

  #isToDo(state: SetState, sum: Sum): boolean {
    const plan = state.plan();
    if (plan.do === "refuse") this.#fail(state, plan.why);
    else if (plan.do === "nothing") this.#settle(state, sum, false);
    return plan.do !== "refuse" && plan.do !== "nothing";
  }

  /** The set is as far as it can be. */
  #settle(state: SetState, sum: Sum, written: boolean): void {
    if (state.part !== "all") return; // the other part is still to come
    this.#dirty.delete(state.name);
    const asked = this.#wished.delete(state.name);
    if (written) sum.put++;
    if (written && !asked && !this.#failed.has(state.name)) sum.drift++;
    const [refused] = state.refused, [bad] = state.bad;
    if (refused) this.#fail(state, `${state.refused.size} members are refused, ${refused[0]}: ${refused[1]}`);
    else if (bad !== undefined) this.#fail(state, `${state.bad.size} members cannot be held, "${bad}"`, Infinity);
    else this.#failed.delete(state.name);
  }

  #netlink(states: SetState[], sum: Sum): void {
    if (states.length === 0) return;
    this.#headers = nothingListed; // what others did before may show the very listing that this was
    const steps = stepsOf(states, (type) => this.#revision(type));
    const { socket, metrics } = this.#options;
    this.counts.changes += steps.length;
    metrics.add("felix_ipset_lines_executed", steps.length);
    const broken = new Set<SetState>();
    socket.batch(steps.map((s) => s.request)).forEach(({ error }, i) => this.#answered(steps[i]!, error, broken));
    for (const state of states) if (!broken.has(state)) this.#settle(state, sum, true);
  }

  #revision(type: SetType): number {
    const known = this.#revisions.get(type);
    if (known !== undefined) return known;
    const found = newestRevision(this.#options.socket, type, this.#options.family);
    this.#revisions.set(type, found);
    return found;
  }

  #answered(step: SetStep, error: KernelError | undefined, broken: Set<SetState>): void {
    const { state, member } = step;
    if (broken.has(state)) return;
    if (!error) {
      if (step.do === "add") state.added(member!);
      else if (step.do === "remove") state.removed(member!);
      else if (step.do === "destroy") state.have = undefined;
      else state.have = { ...this.#emptyHeader(state) };
    } else if (step.do === "add" && !isMissing(error)) state.refused.set(member!, setErrorText(error));
    else {
      broken.add(state);
      state.unknown = true;
      this.#fail(state, setErrorText(error));
      if (isMissing(error) || step.do === "create") this.#doubted = true;
    }
  }

  #emptyHeader({ name, family, want }: SetState) {
    return { name, family, type: want!.type, maxelem: want!.maxelem, elements: 0, references: 0 };
  }

  /** Through `ipset restore`; what it refuses is left out, and the rest goes on. */
  async #bulk(states: SetState[], sum: Sum): Promise<void> {
    let open = states;
    for (let round = 0; open.length > 0 && round < maxRounds; round++) {
      this.#headers = nothingListed;
      const bulk = new SetBulk(open, this.#options.temporaryPrefix);
      this.#count(bulk.lines);
      const options = { stdin: bulk.text, timeoutMs: 120_000 };
      const { code, stderr } = await startProgram("ipset", ["restore", "-exist"], options, this.#options).result;
      const stopped = code === 0 ? undefined : bulk.stoppedAt(stderr);
      if (code !== 0 && !stopped) throw new Error(`ipset restore: ${stderr.trim() || `exit code ${code}`}`);
      bulk.learn(stopped?.done);
      for (const state of stopped?.done ?? open) {
        // What changed meanwhile is left for the next flush.
        if (state.want && state.plan().do === "nothing") this.#settle(state, sum, true);
        else sum.put++;
      }
      if (!stopped) return;
      this.counts.failures++;
      this.#options.metrics.add("felix_ipset_errors");
      open = this.#afterStop(stopped, sum);
    }
    for (const state of open) this.#fail(state, "too many members are refused");
  }

  #count(lines: number): void {
    this.counts.programs++;
    this.counts.changes += lines;
    this.#options.metrics.add("felix_ipset_calls");
    this.#options.metrics.add("felix_ipset_lines_executed", lines);
  }

  /** A member that is refused is left out, and the rest of its set goes on. @returns the sets that are still to be done. */
  #afterStop({ at, temporary, why, member, rest }: StoppedBulk, sum: Sum): SetState[] {
    const { socket, family } = this.#options;
    // Else what it holds would be taken for part of the next set that is made under its name.
    socket.batch([destroySet(temporary, family)]);
    if (member === undefined) {
      this.#fail(at, why);
      at.unknown = this.#doubted = true;
    } else if (at.plan().do === "replace") {
      at.refused.set(member, why);
      return [at, ...rest];
    } else this.#netlink([at], sum); // answers for each member; those that were added already are no error
    return rest;
  }

  #break(states: SetState[], sum: Sum): void {
    const { socket, family } = this.#options;
    const there = states.filter((s) => s.have);
    for (const { name, have } of states) if (!have) this.#forget(name);
    this.counts.changes += there.length;
    socket.batch(there.map((s) => destroySet(s.name, family))).forEach(({ error }, i) => {
      const state = there[i]!;
      if (error && !isMissing(error)) return this.#fail(state, setErrorText(error));
      if (!this.#wished.has(state.name)) sum.drift++;
      sum.removed++;
      this.#forget(state.name);
    });
  }

  #fail({ name }: SetState, why: string, retryAtMs?: number): void {
    this.counts.failures++;
    this.#failed.set(name, this.#failure(this.#failed.get(name), why, retryAtMs));
  }

  #failure(before: Failure | undefined, why: string, retryAtMs?: number): Failure {
    const { random, firstRetryMs, maxRetryMs } = this.#options;
    const now = this.#now();
    const times = (before?.times ?? 0) + 1;
    const delay = Math.min(maxRetryMs, firstRetryMs * 2 ** (times - 1)) * (0.5 + random() / 2);
    return { why, sinceMs: before?.sinceMs ?? now, retryAtMs: retryAtMs ?? now + delay, times };
  }

  #report(sum: Sum): Report<string> {
    const { family, metrics } = this.#options;
    metrics.set("felix_ipsets_calico", this.size, { ip_version: String(family) });
    return { port: this.name, ...sum, failed: this.#failed, unread: this.#unread, retryInMs: this.retryInMs };
  }

  /** In how many milliseconds a flush has something to do; undefined = never by itself. */
  get retryInMs(): number | undefined {
    if (!this.#unread && (this.#doubted || [...this.#dirty].some((name) => !this.#failed.has(name)))) return 0;
    const waits = (this.#unread ? [this.#unread] : [...this.#failed.values()]).map((f) => f.retryAtMs);
    const next = Math.min(Infinity, ...waits);
    return next === Infinity ? undefined : Math.max(0, next - this.#now());
  }

  /** Nothing is to be done, nothing is in doubt, nothing failed. */
  get inSync(): boolean {
    return this.retryInMs === undefined && this.#failed.size === 0;
  }
}
