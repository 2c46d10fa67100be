import type { Clock } from "../lib/clock.ts";
import { type Cidr, contains, type Family, formatCidr } from "../lib/ip.ts";
import type { Logger } from "../lib/log.ts";
import type { Problem } from "../lib/problem.ts";
import { type BlockOwner, blockOwnerOf, blockPrefix, cidrOfKey, hostPrefix, ownerOf } from "../datastore/keys.ts";
import type { KeyValue, Store } from "../datastore/store.ts";
import { blocksOf, claimAffinity, releaseAffinity, type Released } from "./affinities.ts";
import { planAssign } from "./assign.ts";
import { type Collection, dropAbandoned, forgetHandle, freeCooled, type Leak } from "./collect.ts";
import type { Draft, Moment } from "./draft.ts";
import { type Done, GroupCommit, type Step } from "./group_commit.ts";
import { startOf } from "./pools/blocks.ts";
import { planRelease } from "./release.ts";
import type { AssignOutcome, AssignRequest, Commit, ReleaseOutcome, ReleaseRequest } from "./request.ts";
import { coldReader, type Reader, viewOf } from "./view.ts";

/** What an Allocator needs of the world. */
export interface AllocatorParts {
  store: Store;
  /** The newest picture at hand: the mirror, or a snapshot just read (coldReader()). */
  reader: () => Reader | Promise<Reader>;
  clock: Clock;
  /** In [0, 1); for jitter and for the start block of /32 and /128 pools. */
  random: () => number;
  log: Logger;
  /** Block number at which a node begins in a pool of `count` blocks; default FNV-1 of the node name. */
  startBlock?: (node: string, pool: Cidr, count: bigint) => bigint;
  /** How long a request without a deadline of its own waits. Default 5,000. */
  deadlineMs?: number;
  /** How handles count; default `exact`. `asked` copies Calico's over-counting, to compare with it. */
  counting?: Moment["counting"];
}

/** Which blocks to give up: all of a node, those of a node in a network, or all nodes' in a network (a pool). */
export type AffinityScope = { node: string; within?: Cidr } | { within: Cidr };

/** What became of each block. */
export interface AffinityOutcome {
  blocks: { cidr: Cidr; owner: BlockOwner; result: Released | "failed"; problem?: Problem }[];
  commits: Commit[];
}

/**
 * Gives and takes addresses, each group of waiting requests in one etcd transaction: at most 40, each key once, at most
 * 128 operations. Calls may overlap: those that come while a transaction is under way go into the next one together.
 * A request that fails does not fail its neighbours. With a warm reader an assignment or release costs one etcd request.
 */
export class Allocator implements AsyncDisposable {
  readonly #parts: AllocatorParts;
  readonly #group: GroupCommit;
  /** Blocks that an assignment given up in doubt may still be written to, by its handle. */
  #inDoubt = new Map<string, Cidr[]>();

  constructor(parts: AllocatorParts) {
    this.#parts = parts;
    this.#group = new GroupCommit({ ...parts, moment: () => this.#moment() });
  }

  /** Outcomes in the order of `requests`; never rejects for an expected failure (see AssignOutcome.problem). */
  assign(requests: AssignRequest[]): Promise<AssignOutcome[]> {
    return Promise.all(requests.map((r) => this.#assignOne(r)));
  }

  /** Outcomes in the order of `requests`. */
  release(requests: ReleaseRequest[]): Promise<ReleaseOutcome[]> {
    return Promise.all(requests.map((r) => this.#releaseOne(r)));
  }

  /**
   * Gives up blocks: empty ones are deleted, others stay without owner. Reads etcd afresh to know which there are.
   * @param mustBeEmpty leaves blocks with addresses in use as they are.
   * @throws Problem "unavailable" when etcd cannot be read.
   */
  async releaseAffinities(scope: AffinityScope, mustBeEmpty: boolean): Promise<AffinityOutcome> {
    const owned = ownedIn(await coldReader(this.#parts.store), scope);
    const give = (draft: Draft, owner: BlockOwner, cidr: Cidr) => releaseAffinity(draft, owner, cidr, mustBeEmpty);
    const done = await Promise.all(owned.map(({ owner, cidr }) => this.#simple((draft) => give(draft, owner, cidr))));
    const blocks = owned.map((o, i) => {
      const { value, problem } = done[i]!.step;
      return { ...o, result: value ?? "failed" as const, ...(problem && { problem }) };
    });
    return { blocks, commits: commitsOf(done) };
  }

  /**
   * Makes all blocks of a network the node's, as far as nobody else has them.
   * @throws Problem "bad-input" when the network lies in no enabled pool or is smaller than a block.
   */
  async claimAffinities(node: string, within: Cidr): Promise<{ claimed: Cidr[]; failed: Cidr[]; commits: Commit[] }> {
    const view = viewOf(await coldReader(this.#parts.store));
    const owner = ownerOf(node, "Workload");
    const blocks = blocksOf(within, view.pools(), formatCidr(within));
    const done = await Promise.all(blocks.map((cidr) => this.#simple((draft) => claimAffinity(draft, owner, cidr))));
    const claimed = blocks.filter((_, i) => done[i]!.step.value === true);
    const failed = blocks.filter((_, i) => done[i]!.step.value !== true);
    return { claimed, failed, commits: commitsOf(done) };
  }

  /**
   * Does what collect() found. Every item is looked at again in its own transaction; what changed meanwhile stays.
   * @returns the leaks that were released, and how many other things went.
   */
  async clean(found: Collection, node: string): Promise<{ released: Leak[]; tidied: number; commits: Commit[] }> {
    const perHandle = Map.groupBy(found.leaks, (l) => l.handle);
    const requests = [...perHandle.values()].map((leaks): ReleaseRequest => ({
      addresses: leaks.map(({ ip, handle, sequenceNumber }) => ({ ip, handle, sequenceNumber })),
    }));
    const owner = ownerOf(node, "Workload");
    const [outcomes, done] = await Promise.all([
      this.release(requests),
      Promise.all([
        ...found.handles.map((id) => this.#simple((draft) => forgetHandle(draft, id))),
        ...found.spare.map((cidr) => this.#simple((draft) => releaseAffinity(draft, owner, cidr, true) === "released")),
        ...found.abandoned.map((cidr) => this.#simple((draft) => dropAbandoned(draft, cidr))),
        ...found.cooled.map((cidr) => this.#simple((draft) => freeCooled(draft, cidr))),
      ]),
    ]);
    const released = [...perHandle.values()].filter((_, i) => outcomes[i]!.released.length > 0).flat();
    const tidied = done.filter((d) => d.step.value).length;
    return { released, tidied, commits: commitsOf([...outcomes, ...done]) };
  }

  /** Waits for what is under way; later calls are refused. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#group[Symbol.asyncDispose]();
  }

  async #assignOne(request: AssignRequest): Promise<AssignOutcome> {
    const plan = (draft: Draft) => {
      const step = planAssign(draft, request);
      return { ...step, keep: request.partial === true && step.addresses.length > 0 };
    };
    const failed = (problem: Problem) => ({ addresses: [], shortages: [], problem, keep: false });
    const done = await this.#group.submit({ plan, failed, deadlineMs: this.#deadline(request) });
    if (request.handle !== undefined) this.#remember(request.handle, done.inDoubt);
    const { keep: _, ...outcome } = done.step;
    return { ...outcome, ...tail(done) };
  }

  async #releaseOne(request: ReleaseRequest): Promise<ReleaseOutcome> {
    const handle = "handle" in request ? request.handle : undefined;
    const plan = (draft: Draft) => {
      const step = planRelease(draft, request);
      if (handle !== undefined && !step.problem) this.#bar(draft, handle);
      return step;
    };
    const failed = (problem: Problem) => ({ released: [], missing: false, unallocated: [], problem });
    const done = await this.#group.submit({ plan, failed, deadlineMs: this.#deadline(request) });
    if (handle !== undefined && !done.step.problem) this.#inDoubt.delete(handle);
    return { ...done.step, ...tail(done) };
  }

  #simple<T>(plan: (draft: Draft) => T): Promise<Done<Step & { value?: T }>> {
    return this.#group.submit<Step & { value?: T }>({
      plan: (draft) => ({ value: plan(draft) }),
      failed: (problem) => ({ problem }),
      deadlineMs: this.#deadline({}),
    });
  }

  /** An assignment was given up, but etcd may still carry it out: notes which blocks it would write. */
  #remember(handle: string, keys: string[] | undefined): void {
    const blocks = (keys ?? []).filter((key) => key.startsWith(blockPrefix)).flatMap((key) => cidrOfKey(key) ?? []);
    if (blocks.length === 0) return;
    this.#inDoubt.set(handle, blocks);
    if (this.#inDoubt.size > 1000) this.#inDoubt.delete(this.#inDoubt.keys().next().value!);
  }

  /**
   * Writes those blocks again, unchanged but for the sequence number, so that the late assignment fails by its compares and
   * does not come after the release of its handle.
   */
  #bar(draft: Draft, handle: string): void {
    for (const cidr of this.#inDoubt.get(handle) ?? []) {
      const block = draft.block(cidr);
      if (block) draft.setBlock(cidr, block);
    }
  }

  #deadline = (request: { deadlineMs?: number }): number => request.deadlineMs ?? this.#parts.deadlineMs ?? 5_000;

  #moment(): Moment {
    const { clock, random, startBlock, counting } = this.#parts;
    const nowMs = clock.now();
    return {
      nowMs,
      sequence: BigInt(nowMs) * 1_000_000n + BigInt(Math.floor(random() * 1_000_000)),
      random,
      startBlock: startBlock ?? ((node, _pool, count) => startOf(node, count)),
      counting: counting ?? "exact",
    };
  }
}

/** The affinities in scope, and blocks that name an owner without an affinity. */
function ownedIn(reader: Reader, scope: AffinityScope): { owner: BlockOwner; cidr: Cidr }[] {
  const view = viewOf(reader);
  const affinities = reader.list(hostPrefix).flatMap((kv) => {
    const node = /^(.*)\/ipv[46]\/block\/[^/]+$/.exec(kv.key.slice(hostPrefix.length))?.[1];
    const cidr = cidrOfKey(kv.key);
    return node !== undefined && cidr ? [{ owner: ownerOf(node), cidr }] : [];
  });
  const blocks = ([4, 6] as Family[]).flatMap((v) => view.blocks(v)).flatMap(({ value: { affinity, cidr } }) => {
    const owner = blockOwnerOf(affinity);
    return owner?.startsWith("host:") ? [{ owner, cidr }] : [];
  });
  const all = new Map([...affinities, ...blocks].map((o) => [`${o.owner} ${formatCidr(o.cidr)}`, o]));
  return [...all.values()].filter(({ owner, cidr }) =>
    (!("node" in scope) || owner === `host:${scope.node}`) && (!scope.within || contains(scope.within, cidr))
  );
}

const tail = (done: { commit?: Commit; current?: Map<string, KeyValue> }) => ({
  ...(done.commit && { commit: done.commit }),
  ...(done.current && { current: done.current }),
});

const commitsOf = (done: { commit?: Commit }[]): Commit[] => [...new Set(done.flatMap((d) => d.commit ?? []))];
