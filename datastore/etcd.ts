import type { Clock } from "../lib/clock.ts";
import { withDeadline } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { Connection, type UnaryOptions } from "./_connection.ts";
import {
  eventOf,
  keyValueOf,
  rangeRequest,
  readRequest,
  txnRequest,
  watchRequest,
  type WireValue,
} from "./_etcd_requests.ts";
import { keptAlive, leftAlone } from "./_lease.ts";
import { checkTxn, maxTxnOps } from "./_txn_limits.ts";
import type { StoreOptions } from "./options.ts";
import type {
  CallOptions,
  KeyValue,
  Lease,
  Range,
  Snapshot,
  Store,
  Txn,
  TxnResult,
  WatchBatch,
  WatchState,
} from "./store.ts";
import { watchFrom, type WatchMessage, type WatchServer } from "./watch.ts";

/** What the client needs from its process. */
export interface EtcdDeps {
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter and for the member a client begins with; default Math.random. */
  random?: () => number;
}

/**
 * A Store over etcd v3 (3.4 and later). Connects at the first call: an etcd that is away shows there.
 * @throws Problem "bad-input" when a certificate file cannot be read.
 */
export function openEtcd(options: StoreOptions, deps: EtcdDeps): Store {
  return new EtcdStore(options, { random: Math.random, ...deps });
}

interface Header {
  cluster_id: string;
  revision: string;
}

interface RangeAnswer {
  header: Header;
  kvs: WireValue[];
  more: boolean;
}

interface TxnAnswer {
  header: Header;
  succeeded: boolean;
  responses: { response_range: RangeAnswer }[];
}

interface WatchAnswer {
  header: Header;
  created: boolean;
  canceled: boolean;
  cancel_reason: string;
  compact_revision: string;
  fragment: boolean;
  events: { type: string; kv: WireValue }[];
}

/** Everything is said in etcd's own requests; see _connection.ts for members, tokens and deadlines. */
class EtcdStore implements Store {
  readonly #options: StoreOptions;
  readonly #deps: Required<EtcdDeps>;
  readonly #connection: Connection;
  readonly #closed = new AbortController();
  #clusterId: string | undefined;

  constructor(options: StoreOptions, deps: Required<EtcdDeps>) {
    this.#options = options;
    this.#deps = deps;
    this.#connection = new Connection(options, deps);
  }

  get requests(): Readonly<Record<string, number>> {
    return this.#connection.requests;
  }

  async get(key: string, options: CallOptions = {}): Promise<KeyValue | undefined> {
    const { kvs } = await this.#range(rangeRequest(key), options);
    return kvs[0] && keyValueOf(kvs[0]);
  }

  async read(what: (string | Range)[], options: CallOptions = {}): Promise<Snapshot> {
    const values = new Map<string, KeyValue>();
    let revision: bigint | undefined;
    for (let i = 0; i === 0 || i < what.length; i += maxTxnOps) {
      const request = readRequest(what.slice(i, i + maxTxnOps), revision);
      const answer = await this.#txn(request, { ...options, readOnly: true });
      revision ??= BigInt(answer.header.revision);
      takeValues(answer, values);
    }
    return { revision: revision!, values };
  }

  async list(
    range: Range,
    page: (kvs: KeyValue[]) => void,
    options: CallOptions & { at?: bigint; pageSize?: number } = {},
  ): Promise<bigint> {
    const limit = options.pageSize ?? 500;
    const ask = (start: string, at?: bigint) => {
      const asked = this.#range(rangeRequest({ start, end: range.end }, { at, limit }), options);
      asked.catch(() => {}); // awaited below, unless `page` throws
      return asked;
    };
    let at = options.at;
    for (let asked = ask(range.start, at);;) {
      const { header, kvs, more } = await asked;
      at ??= BigInt(header.revision);
      const last = kvs[kvs.length - 1];
      // The server works on the next page while this one is taken.
      if (last && more) asked = ask(last.key.toString("utf8") + "\0", at);
      page(kvs.map(keyValueOf));
      if (!last || !more) return at;
    }
  }

  async txn(txn: Txn, options: CallOptions = {}): Promise<TxnResult> {
    checkTxn(txn);
    const answer = await this.#txn(txnRequest(txn), { ...options, readOnly: false });
    const revision = BigInt(answer.header.revision);
    if (answer.succeeded) return { committed: true, revision };
    return { committed: false, revision, current: takeValues(answer, new Map()) };
  }

  watch(
    range: Range,
    from: bigint,
    options: { signal: AbortSignal; onState?: (s: WatchState) => void },
  ): AsyncGenerator<WatchBatch> {
    return watchFrom(this.#watchServer(), range, from, {
      onState: options.onState,
      signal: AbortSignal.any([options.signal, this.#closed.signal]),
      clock: this.#deps.clock,
      random: this.#deps.random,
      deadlineMs: this.#options.deadlineMs,
    });
  }

  async lease(ttlS: number, options: CallOptions & { unattended?: boolean } = {}): Promise<Lease> {
    const lease = (method: string, request: unknown, more: CallOptions = {}) =>
      this.#connection.unary<{ ID: string; TTL: string }>("Lease", method, request, { readOnly: false, ...more });
    const { ID, TTL } = await lease("leaseGrant", { TTL: String(ttlS) }, options);
    if (options.unattended) return leftAlone(ID);
    return keptAlive({
      id: ID,
      ttlS: Number(TTL),
      renew: (signal) => this.#renewLease(ID, signal),
      revoke: async () => void await lease("leaseRevoke", { ID }),
    }, { ...this.#deps, signal: this.#closed.signal });
  }

  async status(options: CallOptions = {}): Promise<{ clusterId: string; revision: bigint; version: string }> {
    // A member's own status tells its own revision; a range is answered for the whole cluster. Any user of ours may read
    // this key, which does not exist.
    const [{ header }, { version }] = await Promise.all([
      this.#range({ ...rangeRequest("/calico/"), limit: 1 }, options),
      this.#connection.unary<{ version: string }>("Maintenance", "status", {}, { ...options, readOnly: true }),
    ]);
    return { clusterId: header.cluster_id, revision: BigInt(header.revision), version };
  }

  /** Ends the watches and the keeping alive of leases, and closes the connections. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closed.abort(new Error("the store is closed"));
    this.#connection[Symbol.dispose]();
    return Promise.resolve();
  }

  async #range(request: unknown, options: CallOptions): Promise<RangeAnswer> {
    const answer = await this.#connection.unary<RangeAnswer>("KV", "range", request, { ...options, readOnly: true });
    this.#clusterId = answer.header.cluster_id;
    return answer;
  }

  async #txn(request: unknown, options: UnaryOptions): Promise<TxnAnswer> {
    const answer = await this.#connection.unary<TxnAnswer>("KV", "txn", request, options);
    this.#clusterId = answer.header.cluster_id;
    return answer;
  }

  /** One renewal on a stream of its own: TTL in seconds, 0 when the lease is gone. */
  async #renewLease(id: string, signal: AbortSignal): Promise<number> {
    using stream = await this.#connection.stream<unknown, { TTL: string }>("Lease", "leaseKeepAlive", signal);
    stream.write({ ID: id });
    const ms = this.#options.deadlineMs;
    const late = () => {
      stream.silent();
      return new Problem({ code: "unavailable", what: `etcd did not renew a lease within ${ms} ms`, where: id });
    };
    return Number((await withDeadline(ms, () => stream.next(), late, this.#deps.clock)).TTL);
  }

  #watchServer(): WatchServer {
    return {
      clusterId: () => this.#clusterId,
      open: async (range, from, signal) => {
        const stream = await this.#connection.stream<unknown, WatchAnswer>("Watch", "watch", signal);
        stream.write(watchRequest(range, from));
        return {
          next: async () => watchMessage(await stream.next()),
          silent: () => stream.silent(),
          [Symbol.dispose]: () => stream[Symbol.dispose](),
        };
      },
      lookBack: async (key, at, signal) => {
        const { header, kvs } = await this.#range(rangeRequest(key, { at }), { signal });
        return { clusterId: header.cluster_id, value: kvs[0] && keyValueOf(kvs[0]) };
      },
      forgetToken: () => this.#connection.forgetToken(),
    };
  }
}

function takeValues(answer: TxnAnswer, into: Map<string, KeyValue>): Map<string, KeyValue> {
  for (const { response_range } of answer.responses) {
    for (const kv of response_range.kvs) {
      const value = keyValueOf(kv);
      into.set(value.key, value);
    }
  }
  return into;
}

function watchMessage(answer: WatchAnswer): WatchMessage {
  return {
    clusterId: answer.header.cluster_id,
    headerRevision: BigInt(answer.header.revision),
    created: answer.created,
    canceled: answer.canceled,
    cancelReason: answer.cancel_reason,
    compactRevision: BigInt(answer.compact_revision),
    fragment: answer.fragment,
    events: answer.events.map(eventOf),
  };
}
