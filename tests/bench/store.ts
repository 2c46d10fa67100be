import { messages as m } from "../../store/messages.ts";
import { EtcdCalls, type Outcome } from "../lab/etcd_calls.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { ms, percentile, table } from "./table.ts";

/** What one server did. */
interface Figures {
  name: string;
  /** Operations a second. */
  perSecond: Record<string, number>;
  /** Milliseconds from the put's call to the event. */
  watchMs: number[];
}

const bytes = (text: string) => new TextEncoder().encode(text);
const nothing = new Uint8Array(0);
const value = bytes("x".repeat(500));

/**
 * `tortie store` beside etcd: 500-byte values on a disk (not tmpfs: the fsync counts), the same client for both, one call
 * at a time and many at once. Argument: how many operations, default 2000.
 */
export async function bench(args: string[]): Promise<number> {
  const count = Number(args[0] ?? 2_000);
  const dir = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "bench-store-" });
  try {
    const figures: Figures[] = [];
    for (const server of ["etcd", "store"] as const) {
      await using etcd = await startEtcd({ server, dataDir: `${dir}/${server}` });
      figures.push(await measure(server, etcd, count));
    }
    print(figures, count);
    return 0;
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function measure(name: string, etcd: Etcd, count: number): Promise<Figures> {
  using calls = new EtcdCalls(`127.0.0.1:${etcd.port}`);
  const key = (i: number) => bytes(`/bench/${String(i).padStart(8, "0")}`);
  const put = (i: number) => must(calls.call("KV/Put", m.putRequest, m.putResponse, putOf(key(i))));
  const get = (i: number) =>
    must(calls.call("KV/Range", m.rangeRequest, m.rangeResponse, rangeOf(key(i), nothing, 0n)));
  const page = () =>
    must(calls.call("KV/Range", m.rangeRequest, m.rangeResponse, rangeOf(key(0), bytes("/bench0"), 500n)));
  const compareAndPut = (i: number) => {
    const compare = [{ result: 1, target: 1, key: key(i), version: 0n, create_revision: 0n, ...noTarget }];
    const request = { compare, success: [{ request_put: putOf(key(i)) }], failure: [] };
    return must(calls.call("KV/Txn", m.txnRequest, m.txnResponse, request));
  };
  await put(0);
  const perSecond = {
    "put, one at a time": await rate(count / 4, 1, put),
    "put, 64 at once": await rate(count, 64, put),
    "compare and put, 64 at once": await rate(count, 64, compareAndPut),
    "get, one at a time": await rate(count / 4, 1, get),
    "get, 64 at once": await rate(count, 64, get),
    "page of 500 values": await rate(count / 20, 1, page),
  };
  return { name, perSecond, watchMs: await watchLatency(calls, put) };
}

const noTarget = { mod_revision: 0n, value: nothing, lease: 0n, range_end: nothing };
const putOf = (key: Uint8Array) => ({
  ...{ key, value, lease: 0n },
  ...{ prev_kv: false, ignore_value: false, ignore_lease: false },
});
const rangeOf = (key: Uint8Array, range_end: Uint8Array, limit: bigint) => ({
  ...{ key, range_end, limit, revision: 0n, sort_order: 0, sort_target: 0 },
  ...{ serializable: false, keys_only: false, count_only: false },
  ...{ min_mod_revision: 0n, max_mod_revision: 0n, min_create_revision: 0n, max_create_revision: 0n },
});

async function must<T>(outcome: Promise<Outcome<T>>): Promise<T> {
  const result = await outcome;
  if ("answer" in result) return result.answer;
  throw new Error(`gRPC status ${result.code}: ${result.details}`);
}

/** Runs `count` operations, `width` of them at a time. @returns operations a second. */
async function rate(count: number, width: number, work: (i: number) => Promise<unknown>): Promise<number> {
  let next = 0;
  const start = performance.now();
  const worker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: width }, worker));
  return count / ((performance.now() - start) / 1000);
}

/** A put and its event, 100 times. */
async function watchLatency(calls: EtcdCalls, put: (i: number) => Promise<unknown>): Promise<number[]> {
  let told = Promise.withResolvers<void>();
  using stream = calls.watch(() => told.resolve());
  const create_request = {
    ...{ key: bytes("/bench/"), range_end: bytes("/bench0"), start_revision: 0n, watch_id: 0n },
    ...{ progress_notify: false, filters: [], prev_kv: false, fragment: false },
  };
  stream.write({ create_request });
  await told.promise;
  const found: number[] = [];
  for (let i = 0; i < 100; i++) {
    told = Promise.withResolvers();
    const start = performance.now();
    await Promise.all([put(i), told.promise]);
    found.push(performance.now() - start);
  }
  return found.sort((a, b) => a - b);
}

function print([etcd, store]: Figures[], count: number): void {
  const rows = [["operations a second", "etcd", "tortie store", "ratio"]];
  for (const [name, theirs] of Object.entries(etcd!.perSecond)) {
    const ours = store!.perSecond[name]!;
    rows.push([name, theirs.toFixed(0), ours.toFixed(0), (ours / theirs).toFixed(2)]);
  }
  const latency = (f: Figures) => `${ms(percentile(f.watchMs, 0.5))} / ${ms(percentile(f.watchMs, 0.99))}`;
  rows.push(["put to event, p50 / p99 ms", latency(etcd!), latency(store!), ""]);
  console.log(`${count} operations, values of 500 bytes, data on /var/tmp\n\n${table(rows)}`);
}
