/** Random requests, the same ones to etcd and to `tortie store`: every answer, error and watch event must be equal. */
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import {
  type Compare,
  type DeleteRangeRequest,
  messages as m,
  type PutRequest,
  type RangeRequest,
  type RequestOp,
  type TxnRequest,
  type WatchCreateRequest,
  type WatchResponse,
} from "../../store/messages.ts";
import { type CallStream, EtcdCalls, type Outcome } from "../lab/etcd_calls.ts";
import { startEtcd } from "../lab/etcd.ts";
import { wait } from "../lab/wait.ts";
import type { WatchRequest } from "../../store/messages.ts";

const rounds = Number(Deno.env.get("TORTIE_TEST_ROUNDS") ?? 6), requestsARound = 250;
/** grpc-js' channels end a moment after they are closed. */
const withLateTimer = { sanitizeOps: false, sanitizeResources: false };

const bytes = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));
// No more than 12: Go sorts so few without changing the order of equals.
const keyTexts = ["a", "a\0", "a\xff", "ab", "b", "b/1", "b/2", "c", "\xff", "\xff\xff", "\0"];
const leaseIds = [0n, 7n, 8n, 9n, 77n];
const most = 0x7fff_ffff_ffff_ffffn;

/** A stream of chances that a number begins (mulberry32). */
function chances(seed: number) {
  const next = () => {
    seed = seed + 0x6d2b79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
  const below = (n: number) => Math.floor(next() * n);
  return { below, one: <T>(list: readonly T[]) => list[below(list.length)]!, chance: (p: number) => next() < p };
}

type Chances = ReturnType<typeof chances>;

/** Requests by chance. `revision` is the newest one, so that old, new and future ones are asked for. */
class Requests {
  revision = 1n;
  /**
   * Whether puts may keep a key's value or lease. Such a put behind a delete of all keys from one on ends etcd 3.4 (a panic
   * while it applies the transaction, again at each start), so a request has the one or the other.
   */
  #keeps = true;

  constructor(readonly by: Chances) {}

  key = () => this.by.chance(0.02) ? new Uint8Array(0) : bytes(this.by.one(keyTexts));

  keys() {
    const { by } = this;
    const end = by.one(["", "", "", "\0", "b", "c", "\xff", "b0", "a", "\0\0"]);
    return { key: this.key(), range_end: bytes(end) };
  }

  number = () => this.by.one([0n, 1n, 2n, 3n, -1n, this.revision, this.revision - 1n, this.revision + 1n, most]);
  /** A revision in the past, seldom elsewhere. */
  past = () =>
    this.by.chance(0.6) ? 0n : this.by.chance(0.9) ? BigInt(this.by.below(Number(this.revision) + 2)) : this.number();

  range(): RangeRequest {
    const { by } = this;
    const bound = () => by.chance(0.85) ? 0n : this.number();
    return {
      ...this.keys(),
      limit: by.chance(0.6) ? 0n : BigInt(by.below(6) - 1),
      revision: this.past(),
      sort_order: by.chance(0.6) ? 0 : by.below(3),
      sort_target: by.chance(0.6) ? 0 : by.below(5),
      ...{ serializable: by.chance(0.5), keys_only: by.chance(0.15), count_only: by.chance(0.15) },
      ...{ min_mod_revision: bound(), max_mod_revision: bound() },
      ...{ min_create_revision: bound(), max_create_revision: bound() },
    };
  }

  put(): PutRequest {
    const { by } = this;
    const ignore_value = this.#keeps && by.chance(0.08), ignore_lease = this.#keeps && by.chance(0.08);
    return {
      key: this.key(),
      value: ignore_value && by.chance(0.9) ? new Uint8Array(0) : bytes(by.one(["", "0", "1", "2", "ä\0"])),
      lease: ignore_lease && by.chance(0.9) ? 0n : by.chance(0.7) ? 0n : by.one(leaseIds),
      ...{ prev_kv: by.chance(0.4), ignore_value, ignore_lease },
    };
  }

  delete(): DeleteRangeRequest {
    const keys = this.keys();
    if (this.#keeps && keys.range_end[0] === 0) keys.range_end = bytes("c");
    return { ...keys, prev_kv: this.by.chance(0.4) };
  }

  compare(): Compare {
    const { by } = this;
    const n = by.chance(0.5) ? BigInt(by.below(4)) : this.number();
    return {
      ...{ result: by.below(4), target: by.below(5), ...this.keys() },
      ...{ version: 0n, create_revision: 0n, mod_revision: 0n, lease: 0n, value: new Uint8Array(0) },
      ...by.one([
        { version: n },
        { create_revision: n },
        { mod_revision: n },
        { value: bytes(by.one(["", "0", "1"])) },
        { lease: by.one(leaseIds) },
      ]),
    };
  }

  op(depth: number): RequestOp {
    const { by } = this;
    if (by.chance(0.01)) return {};
    if (depth > 0 && by.chance(0.2)) return { request_txn: this.txn(depth - 1) };
    return by.one([
      () => ({ request_range: this.range() }),
      () => ({ request_put: this.put() }),
      () => ({ request_put: this.put() }),
      () => ({ request_delete_range: this.delete() }),
    ])();
  }

  txn(depth = 2): TxnRequest {
    const { by } = this;
    if (depth === 2) this.#keeps = by.chance(0.5);
    const some = <T>(n: number, make: () => T) => Array.from({ length: by.below(n) }, make);
    if (by.chance(0.01)) return { compare: [], success: Array.from({ length: 129 }, () => this.op(0)), failure: [] };
    return {
      // One compare decides often enough which way it goes; conjunctions mostly fail.
      compare: some(by.chance(0.8) ? 2 : 4, () => this.compare()),
      success: some(4, () => this.op(depth)),
      failure: some(4, () => this.op(depth)),
    };
  }

  watch(): WatchCreateRequest {
    const { by } = this, start_revision = this.#startRevision();
    // etcd 3.4 notes that a watch wants previous values only after it began it: from the past the first may be missing.
    const prev_kv = by.chance(0.5) && (start_revision === 0n || start_revision > this.revision);
    return {
      ...{ ...this.keys(), start_revision, prev_kv },
      ...{ progress_notify: by.chance(0.2), fragment: by.chance(0.3) },
      filters: by.one([[], [], [0], [1], [0, 1]]),
      watch_id: by.chance(0.8) ? 0n : BigInt(1 + by.below(40)),
    };
  }

  /** 0, in the past, or in the future. From below 0 etcd 3.4 tells some of the past; etcd 3.6 and the store refuse it. */
  #startRevision(): bigint {
    const revision = this.past();
    if (revision > 0n || this.by.chance(0.3)) return revision < 0n ? 0n : revision;
    return this.revision + BigInt(this.by.below(5));
  }
}

/** One request to one server. */
type Asked = (calls: EtcdCalls) => Promise<Outcome<unknown>>;

function anyRequest(r: Requests): { name: string; request: unknown; ask: Asked } {
  const { by } = r;
  const make = by.one<() => [string, unknown, Asked]>([
    ...Array(5).fill(() => {
      const request = r.put();
      return ["put", request, (c: EtcdCalls) => c.call("KV/Put", m.putRequest, m.putResponse, request)];
    }),
    ...Array(5).fill(() => {
      const request = r.range();
      return ["range", request, (c: EtcdCalls) => c.call("KV/Range", m.rangeRequest, m.rangeResponse, request)];
    }),
    ...Array(2).fill(() => {
      const request = r.delete();
      return [
        "delete",
        request,
        (c: EtcdCalls) => c.call("KV/DeleteRange", m.deleteRequest, m.deleteResponse, request),
      ];
    }),
    ...Array(8).fill(() => {
      const request = r.txn();
      return ["txn", request, (c: EtcdCalls) => c.call("KV/Txn", m.txnRequest, m.txnResponse, request)];
    }),
    () => {
      const request = { TTL: by.one([60n, 1000n, 9_000_000_001n]), ID: by.one(leaseIds.slice(1)) };
      return ["grant", request, (c) => c.call("Lease/LeaseGrant", m.leaseGrantRequest, m.leaseTerms, request)];
    },
    () => {
      const request = { ID: by.one(leaseIds), keys: true };
      return by.chance(0.5)
        ? ["revoke", request, (c) => c.call("Lease/LeaseRevoke", m.leaseRequest, m.headerOnly, request)]
        : ["ttl", request, (c) => c.call("Lease/LeaseTimeToLive", m.leaseRequest, m.leaseTimeToLive, request)];
    },
  ]);
  const [name, request, ask] = make();
  return { name, request, ask };
}

/** What may differ: the cluster's ids, the term of its leader, and the seconds that a lease has left. */
function comparable(value: unknown): unknown {
  if (value instanceof Uint8Array) return String.fromCharCode(...value);
  if (Array.isArray(value)) return value.map(comparable);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([k, v]) => [k, comparable(v)]);
  const result = Object.fromEntries(entries) as Record<string, unknown>;
  if ("cluster_id" in result) return { revision: result.revision };
  if ("grantedTTL" in result) {
    result.TTL = result.TTL === -1n ? -1n : "left";
    (result.keys as string[]).sort(); // Go's maps have no order
  }
  return result;
}

const textOf = (request: unknown) => JSON.stringify(comparable(request), (_, v) => typeof v === "bigint" ? `${v}` : v);

/** A watch stream on each of the two servers, and what both told. */
class WatchPair implements Disposable {
  readonly #streams: CallStream<WatchRequest>[];
  readonly told: WatchResponse[][];
  readonly #asked: string[] = [];
  #created = 0;
  #barriers = 0;

  constructor(servers: EtcdCalls[]) {
    this.told = servers.map(() => []);
    this.#streams = servers.map((s, i) => s.watch((answer) => this.told[i]!.push(answer)));
  }

  /** Begins a watch, and waits until both servers have said that it is, or that it is not. */
  async create(create_request: WatchCreateRequest): Promise<void> {
    const wanted = ++this.#created;
    this.#asked.push(textOf(create_request));
    for (const stream of this.#streams) stream.write({ create_request });
    const answered = (told: WatchResponse[]) => told.filter((t) => t.created).length === wanted;
    await wait("both to begin the watch", () => this.told.every(answered), { everyMs: 1 });
  }

  /** Cancels a watch that may not exist, and waits until both have read that. */
  async cancel(watch_id: bigint): Promise<void> {
    for (const stream of this.#streams) stream.write({ cancel_request: { watch_id } });
    await this.#barrier();
  }

  /** Waits until both have read all requests. Ours has then told all events, too; etcd may be late with some. */
  async #barrier(): Promise<void> {
    const wanted = ++this.#barriers;
    for (const stream of this.#streams) stream.write({ progress_request: {} });
    const progress = (told: WatchResponse[]) => told.filter((t) => t.watch_id === -1n && !t.created).length === wanted;
    await wait("both to tell their progress", () => this.told.every(progress), { everyMs: 1 });
  }

  /** All that was said on one server: notices, then events by watch. How events are grouped into messages is not fixed. */
  view(server: number): Record<string, unknown[]> {
    const found: Record<string, unknown[]> = {};
    for (const { watch_id, events, fragment: _, header, ...rest } of this.told[server]!) {
      const of = found[`watch ${watch_id}`] ??= [];
      if (rest.created || rest.canceled) of.push(comparable({ ...rest, revision: header?.revision }));
      of.push(...events.map(comparable));
    }
    return found;
  }

  /** What was asked for under an id; the answers come in the order of the requests. */
  #requestsOf(watch: string): string {
    const created = this.told[1]!.filter((t) => t.created);
    return this.#asked.filter((_, i) => `watch ${created[i]?.watch_id}` === watch).join(" ");
  }

  async compare(what: string): Promise<void> {
    await this.#barrier();
    const same = () => isDeepStrictEqual(this.view(1), this.view(0));
    if (await wait("etcd to tell as much", same, { deadlineMs: 5_000 }).catch(() => false)) return;
    const [theirs, ours] = [this.view(0), this.view(1)];
    for (const watch of new Set([...Object.keys(theirs), ...Object.keys(ours)])) {
      assert.deepEqual(ours[watch], theirs[watch], `${what}, ${watch}: ${this.#requestsOf(watch)}`);
    }
  }

  [Symbol.dispose](): void {
    for (const stream of this.#streams) stream[Symbol.dispose]();
  }
}

/** True when no watch of etcd is behind: a compaction would cancel it, and here none ever is behind. */
async function hasCaughtUp(endpoint: string): Promise<boolean> {
  const metrics = await (await fetch(`${endpoint}/metrics`)).text();
  return /^etcd_debugging_mvcc_slow_watcher_total 0$/m.test(metrics);
}

Deno.test("random requests are answered by tortie store as by etcd, watches too", withLateTimer, async () => {
  const seed = Number(Deno.env.get("TORTIE_TEST_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
  console.log(`TORTIE_TEST_SEED=${seed}`);
  await using etcd = await startEtcd({ server: "etcd" });
  await using store = await startEtcd({ server: "store" });
  const servers = [etcd, store].map((s) => new EtcdCalls(`127.0.0.1:${s.port}`));
  const by = chances(seed), requests = new Requests(by);
  const watches = new WatchPair(servers);
  const counts: Record<string, number> = {};
  const same = async (name: string, request: unknown, ask: Asked) => {
    const [theirs, ours] = (await Promise.all(servers.map(ask))).map(comparable) as [
      Outcome<unknown>,
      Outcome<unknown>,
    ];
    assert.deepEqual(
      ours,
      theirs,
      `${name} ${textOf(request)}`,
    );
    assert.ok("answer" in theirs || theirs.code > 0, `${name} got no answer`);
    const key = "answer" in theirs ? name : `${name}: ${theirs.details}`;
    counts[key] = (counts[key] ?? 0) + 1;
    const revision = ((theirs as { answer?: { header?: { revision: bigint } } }).answer?.header?.revision) ?? 0n;
    if (revision > requests.revision) requests.revision = revision;
  };
  const cancel = async () => {
    await watches.compare("before a cancel"); // else one may tell more than the other before it hears of it
    await watches.cancel(BigInt(by.below(40)));
  };
  try {
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < requestsARound; i++) {
        const { name, request, ask } = anyRequest(requests);
        await same(name, request, ask);
        if (by.chance(0.03)) await watches.create(requests.watch());
        if (by.chance(0.01)) await cancel();
      }
      await watches.compare(`round ${round}`);
      await wait("etcd's watches to have caught up", () => hasCaughtUp(etcd.endpoint));
      const revision = by.chance(0.8) ? BigInt(by.below(Number(requests.revision))) : requests.number();
      const request = { revision, physical: true };
      await same("compact", request, (c) => c.call("KV/Compact", m.compactionRequest, m.headerOnly, request));
      await same("leases", {}, (c) => c.call("Lease/LeaseLeases", m.empty, m.headerOnly, {}));
    }
    console.log(Object.entries(counts).sort().map(([k, n]) => `${n} ${k}`).join(", "));
  } finally {
    watches[Symbol.dispose]();
    for (const s of servers) s[Symbol.dispose]();
  }
});
