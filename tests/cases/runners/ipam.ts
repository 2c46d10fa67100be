import { FakeClock } from "../../../lib/clock.ts";
import { bits, type Cidr, contains, formatCidr, formatIp, parseCidr, parseIp } from "../../../lib/ip.ts";
import { isObject, type Json, parseJson, sameJson, writeJson } from "../../../lib/json64.ts";
import { silentLog } from "../../../lib/log.ts";
import { isProblem } from "../../../lib/problem.ts";
import { MemoryStore } from "../../../datastore/memory.ts";
import { prefixRange } from "../../../datastore/store.ts";
import { Allocator } from "../../../ipam/commit.ts";
import { blockHolding, blocksInOrder, startOf } from "../../../ipam/pools/blocks.ts";
import type { AssignedAddress, AssignOutcome, AssignRequest, ReleaseAddress, Use } from "../../../ipam/request.ts";
import { coldReader } from "../../../ipam/view.ts";
import { judge } from "../../ipam_judge.ts";
import type { Case, CaseRunner, Outcome } from "../case_runner.ts";

/**
 * Runs ipam.json: the pure questions, and scenarios through an Allocator over the memory store with the recorded start
 * blocks. Each scenario runs twice: counting handles as Calico does (`asked`), where all keys must be equal; and as the
 * product does (`exact`), where all but the handles must be equal and the judge must find everything in order.
 */
export const runner: CaseRunner = {
  async run(one) {
    const input = one.input as Input;
    const expect = one.expect as Record<string, Json>;
    if ("keys" in expect) return await runScenario(one, input, expect);
    const got = (input.blockOrder ? { blocks: order(input) } : { block: holder(input) }) as unknown as Json;
    return outcome(compareJson("", expect, got), one, got);
  },
};

async function runScenario(one: Case, input: Input, expect: Record<string, Json>): Promise<Outcome> {
  const asCalico = await scenario(input, "asked");
  const differences = compareScenario(expect, asCalico);
  if (differences.length > 0) return outcome(differences, one, asCalico);
  const exact = await scenario(input, "exact");
  const wanted = { ...expect, keys: withoutHandles(expect.keys as Record<string, Json>) };
  const inOrder = compareScenario(wanted, { ...exact, keys: withoutHandles(exact.keys) });
  return outcome([...inOrder, ...exact.judged].map((d) => `counting exactly: ${d}`), one, exact);
}

const withoutHandles = (keys: Record<string, Json>) =>
  Object.fromEntries(Object.entries(keys).filter(([key]) => !key.startsWith("/calico/ipam/v2/handle/")));

interface Input extends Record<string, unknown> {
  blockOrder?: { pool: string; blockSize: number; first: number; host: string };
  blockFor?: { ip: string; blockSize: number };
  firstBlock?: Record<string, Record<string, number | bigint>>;
  pools?: PoolInput[];
  nodes?: { name: string; labels?: Record<string, string> }[];
  reservations?: { name: string; reservedCIDRs: string[] }[];
  config?: {
    strictAffinity?: boolean;
    autoAllocateBlocks?: boolean;
    maxBlocksPerHost?: number;
    ipCooldownSeconds?: number;
  };
  ops?: Op[];
}
type PoolInput = { name: string; cidr: string } & Record<string, Json>;
interface Op {
  op: string;
  [field: string]: unknown;
}
type OpResult = { op: string } & Record<string, unknown>;
interface Result {
  results: OpResult[];
  keys: Record<string, Json>;
  judged: string[];
}

function order(input: Input): string[] {
  const { pool, blockSize, first, host } = input.blockOrder!;
  const blocks = blocksInOrder(parseCidr(pool), blockSize, startBlock(input)(host, parseCidr(pool), 1n));
  return Array.from({ length: first }, () => blocks.next().value).flatMap((b) => (b ? [formatCidr(b)] : []));
}

const holder = ({ blockFor }: Input) => formatCidr(blockHolding(parseIp(blockFor!.ip), blockFor!.blockSize));

const startBlock = (input: Input) => (node: string, pool: Cidr, count: bigint): bigint => {
  const given = input.firstBlock?.[node]?.[formatCidr(pool)];
  return given === undefined ? startOf(node, count) : BigInt(given);
};

async function scenario(input: Input, counting: "asked" | "exact"): Promise<Result> {
  await using world = new World(input, counting);
  await world.prepare();
  const results: OpResult[] = [];
  for (const op of input.ops ?? []) results.push({ op: op.op, ...await world.repeat(op) });
  const keys = [...world.store.contents()].filter(([key]) => key.startsWith("/calico/ipam/"));
  const judged = judge(world.store.contents(), { nowMs: world.clock.now() });
  return { results, keys: Object.fromEntries(keys.map(([key, value]) => [key, shown(parseJson(value))])), judged };
}

const resources = "/calico/resources/v3/projectcalico.org/";

class World implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly store = new MemoryStore({ clock: this.clock });
  readonly #allocator: Allocator;

  constructor(private readonly input: Input, counting: "asked" | "exact") {
    this.#allocator = new Allocator({
      store: this.store,
      reader: () => coldReader(this.store),
      clock: this.clock,
      random: () => 0.5,
      log: silentLog,
      startBlock: startBlock(input),
      counting,
    });
  }

  async prepare(): Promise<void> {
    await this.#put(`${resources}clusterinformations/default`, { spec: { datastoreReady: true } });
    for (const pool of this.input.pools ?? []) await this.#putPool(pool);
    for (const node of this.input.nodes ?? []) await this.#putNode(node);
    for (const { name, ...spec } of this.input.reservations ?? []) {
      await this.#put(`${resources}ipreservations/${name}`, { metadata: { name }, spec });
    }
    const { config } = this.input;
    if (!config) return;
    const stored = {
      strict_affinity: config.strictAffinity || undefined,
      auto_allocate_blocks: config.autoAllocateBlocks || undefined,
      maxBlocksPerHost: config.maxBlocksPerHost || undefined,
      ipCooldownSeconds: config.ipCooldownSeconds || undefined,
    };
    await this.#put("/calico/ipam/v2/config", stored);
  }

  /** Runs an op as often as it says; %d in its handle counts. The last result is kept. */
  async repeat(op: Op): Promise<Record<string, unknown>> {
    let result: Record<string, unknown> = {};
    for (let i = 0; i < Number(op.repeat ?? 1); i++) {
      const handle = typeof op.handle === "string" ? op.handle.replaceAll("%d", String(i)) : undefined;
      result = await this.#run({ ...op, ...(handle !== undefined && { handle }) });
    }
    return result;
  }

  async #run(op: Op): Promise<Record<string, unknown>> {
    switch (op.op) {
      case "autoAssign":
        return this.#autoAssign(op);
      case "assignIP":
        return this.#assignIp(op);
      case "releaseByHandle":
        return this.#releaseByHandle(op);
      case "releaseIPs":
        return this.#releaseIps(op);
      case "claimAffinity":
        return this.#claim(op);
      case "releaseAffinity":
        return this.#give({ node: op.host as string, within: parseCidr(op.cidr as string) }, op.mustBeEmpty === true);
      case "releaseHostAffinities":
        return this.#give({ node: op.host as string }, op.mustBeEmpty === true);
      case "put":
        return this.#put(op.key as string, op.value as Json);
      case "putNode":
        return this.#putNode(op.node as { name: string });
      case "ageBlock":
        return this.#age(op.key as string);
      case "sleep":
        await this.clock.advance(Number(op.seconds) * 1000);
        return {};
      case "deletePool":
        return this.#deletePool((op.pool as PoolInput).name);
      default:
        throw new Error(`no such op: ${op.op}`);
    }
  }

  async #autoAssign(op: Op): Promise<Record<string, unknown>> {
    const reserved = op.reserveStartEnd as [number, number] | undefined;
    const families = { 4: Number(op.num4 ?? 0), 6: Number(op.num6 ?? 0) };
    const request: AssignRequest = {
      ...common(op),
      families,
      pools: { 4: op.ipv4Pools as string[], 6: op.ipv6Pools as string[] },
      namespace: (op.namespace as { labels?: Record<string, string> } | undefined)?.labels,
      maxBlocks: op.maxBlocksPerHost as number | undefined,
      maxPerHandle: op.maxAllocToHandlePerIPVersion as number | undefined,
      hostReserved: reserved &&
        { start: reserved[0], end: reserved[1], handle: "windows-reserved-ipam-handle", note: "windows host rsvd" },
      partial: true,
    };
    const [outcome] = await this.#allocator.assign([request]);
    const { problem } = outcome!;
    return {
      ...(families[4] && shownFamily(outcome!, 4)),
      ...(families[6] && shownFamily(outcome!, 6)),
      ...(problem && { error: problem.what }),
    };
  }

  async #assignIp(op: Op): Promise<Record<string, unknown>> {
    const request = { ...common(op), address: [parseIp(op.ip as string)] };
    const [outcome] = await this.#allocator.assign([request]);
    return outcome!.problem ? { error: outcome!.problem.what } : {};
  }

  async #releaseByHandle(op: Op): Promise<Record<string, unknown>> {
    const [outcome] = await this.#allocator.release([{ handle: op.handle as string }]);
    if (outcome!.missing) return { error: "the handle does not exist" };
    return outcome!.problem ? { error: outcome!.problem.what } : {};
  }

  /** One request a block: in Calico a mismatch fails all addresses of its block and no other. */
  async #releaseIps(op: Op): Promise<Record<string, unknown>> {
    const addresses = (op.ips as { address: string; handle?: string; sequenceNumber?: number | bigint }[]).map((a) => ({
      ip: parseIp(a.address),
      handle: a.handle || undefined,
      sequenceNumber: a.sequenceNumber === undefined ? undefined : BigInt(a.sequenceNumber),
    }));
    const groups = new Map<string, ReleaseAddress[]>();
    for (const a of addresses) {
      const block = this.#blocks().find((b) => contains(b, a.ip));
      const name = block ? formatCidr(block) : "none";
      groups.set(name, [...(groups.get(name) ?? []), a]);
    }
    const outcomes = await this.#allocator.release([...groups.values()].map((addresses) => ({ addresses })));
    const problem = outcomes.find((o) => o.problem)?.problem;
    const notAllocated = outcomes.flatMap((o) => o.unallocated).map(formatIp);
    return { notAllocated, ...(problem && { error: problem.what }) };
  }

  async #claim(op: Op): Promise<Record<string, unknown>> {
    try {
      const { claimed, failed } = await this.#allocator.claimAffinities(
        op.host as string,
        parseCidr(op.cidr as string),
      );
      return { claimed: claimed.map(formatCidr), failed: failed.map(formatCidr) };
    } catch (error) {
      if (!isProblem(error)) throw error;
      return { error: error.what };
    }
  }

  async #give(
    scope: { node: string; within?: Cidr } | { within: Cidr },
    mustBeEmpty: boolean,
  ): Promise<Record<string, unknown>> {
    const { blocks } = await this.#allocator.releaseAffinities(scope, mustBeEmpty);
    const kept = blocks.find((b) => b.result === "not empty");
    return kept ? { error: `block '${formatCidr(kept.cidr)}' is not empty` } : {};
  }

  async #deletePool(name: string): Promise<Record<string, unknown>> {
    const pool = this.input.pools!.find((p) => p.name === name)!;
    await this.#putPool({ ...pool, disabled: true });
    await this.#allocator.releaseAffinities({ within: parseCidr(pool.cidr) }, false);
    await this.store.txn({ compare: [], write: [{ delete: `${resources}ippools/${name}` }] });
    return {};
  }

  async #age(key: string): Promise<Record<string, unknown>> {
    const block = parseJson((await this.store.get(key))!.value) as Record<string, Json>;
    return this.#put(key, { ...block, affinity_claim_time: "2020-01-01T00:00:00Z" });
  }

  #blocks(): Cidr[] {
    const { start, end } = prefixRange("/calico/ipam/v2/assignment/");
    return [...this.store.contents()].filter(([key]) => key >= start && key < end)
      .map(([, value]) => parseCidr((parseJson(value) as { cidr: string }).cidr));
  }

  #putPool = ({ name, ...spec }: PoolInput) => this.#put(`${resources}ippools/${name}`, { metadata: { name }, spec });
  #putNode = ({ name, labels }: { name: string; labels?: Record<string, string> }) =>
    this.#put(`${resources}nodes/${name}`, { metadata: { name, ...(labels && { labels }) }, spec: {} });

  async #put(key: string, value: unknown): Promise<Record<string, unknown>> {
    await this.store.txn({ compare: [], write: [{ put: key, value: writeJson(value) }] });
    return {};
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#allocator[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
  }
}

const common = (op: Op) => ({
  handle: op.handle as string | undefined,
  attributes: (op.attrs ?? {}) as Record<string, string>,
  node: op.host as string,
  use: (op.use ?? "Workload") as Use,
});

/** The answer for an IP version; absent when it failed before any address was looked for. */
function shownFamily(outcome: AssignOutcome, v: 4 | 6): Record<string, unknown> {
  const mask = (a: AssignedAddress) => (a.reused ? bits(v) : a.block.len);
  const ips = outcome.addresses.filter((a) => a.ip.v === v).map((a) => `${formatIp(a.ip)}/${mask(a)}`);
  const partial = outcome.shortages.find((s) => s.family === v)?.message;
  if (ips.length === 0 && partial === undefined) return {};
  return { [`v${v}`]: { ips, ...(partial !== undefined && { partial }) } };
}

/** A stored value as the case files show it: varying parts replaced. */
function shown(value: Json): Json {
  if (!isObject(value) || value.sequenceNumber === undefined) return value;
  const own = BigInt(value.sequenceNumber as number | bigint);
  const offsets = Object.entries((value.sequenceNumberForAllocation ?? {}) as Record<string, number | bigint>)
    .map(([ordinal, n]) => [ordinal, Number(BigInt(n) - own)]);
  const attributes = (value.attributes as Record<string, Json>[] | null)
    ?.map((a) => (a.releasedAt === undefined ? a : { ...a, releasedAt: "<time>" })) ?? null;
  return {
    ...value,
    attributes,
    ...(value.affinity_claim_time !== undefined && { affinity_claim_time: "<time>" }),
    sequenceNumber: "<S>",
    sequenceNumberForAllocation: Object.fromEntries(offsets),
  };
}

/** Errors are compared by presence, sequence offsets by sign and bound, everything else exactly. */
function compareScenario(expect: Record<string, Json>, got: Result): string[] {
  const wanted = (expect.results as Record<string, Json>[]).map(withoutTexts);
  const differences = compareJson("results", wanted, got.results.map((r) => withoutTexts(r as Record<string, Json>)));
  const keys = expect.keys as Record<string, Json>;
  for (const key of new Set([...Object.keys(keys), ...Object.keys(got.keys)])) {
    differences.push(...compareStored(key, keys[key], got.keys[key]));
  }
  return differences;
}

function withoutTexts({ error, errorType: _, ...rest }: Record<string, Json>): Json {
  return { ...rest, failed: rest.op === "claimAffinity" ? rest.failed ?? null : error !== undefined };
}

function compareStored(key: string, expect: Json | undefined, got: Json | undefined): string[] {
  if (!isObject(expect) || !isObject(got) || !isObject(expect.sequenceNumberForAllocation)) {
    return compareJson(key, expect, got);
  }
  const { sequenceNumberForAllocation: wanted, ...rest } = expect;
  const { sequenceNumberForAllocation: have, ...gotRest } = got;
  return [...compareJson(key, rest, gotRest), ...compareOffsets(`${key} sequences`, wanted, have)];
}

/** A merged write may leave a smaller distance: 0 >= got >= expected, for the same ordinals, in the same order. */
function compareOffsets(where: string, expect: Record<string, Json>, got: Json | undefined): string[] {
  const have = (got ?? {}) as Record<string, number>;
  const ordinals = Object.keys(expect);
  const inBounds = ordinals.every((o) => have[o]! <= 0 && have[o]! >= (expect[o] as number));
  const inOrder = ordinals.every((a) => ordinals.every((b) => !(expect[a]! < expect[b]!) || have[a]! <= have[b]!));
  const same = Object.keys(have).length === ordinals.length && inBounds && inOrder;
  return same ? [] : compareJson(where, expect, got);
}

const compareJson = (where: string, expect: Json | undefined, got: Json | undefined): string[] =>
  sameJson(expect, got) ? [] : [`${where}\n  expected ${writeJson(expect)}\n  got      ${writeJson(got)}`];

function outcome(differences: string[], one: Case, got: unknown): Outcome {
  if (differences.length === 0) return { is: "passed" };
  return {
    is: "failed",
    difference: `${differences.join("\n")}\nin full: expected ${writeJson(one.expect)}\n got ${writeJson(got)}`,
  };
}
