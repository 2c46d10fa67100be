import { openEtcd } from "../../datastore/etcd.ts";
import { Mirror } from "../../datastore/mirror.ts";
import type { Store } from "../../datastore/store.ts";
import { systemClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { runOk } from "../../lib/process.ts";
import { startEtcd } from "../lab/etcd.ts";
import { ms, percentile, table } from "./table.ts";

const prefix = "/calico/resources/v3/projectcalico.org/workloadendpoints/";
const deps = { clock: systemClock, log: silentLog };

/** What one start of a mirror took, in a process of its own. */
interface Start {
  readyMs: number;
  rssMiB: number;
  peakMiB: number;
  keys: number;
  requests: number;
}

/**
 * The mirror at 50,000 workload endpoints of 1 KB (or as many as is said): from nothing, from its snapshot file, and after
 * a compaction; each in a process of its own with the V8 flags of the binary. Then how soon a write of somebody else is
 * in a consumer's hands.
 */
export async function bench(args: string[]): Promise<number> {
  if (args[0] === "child") return await child(args[1]!, args[2]!);
  const count = Number(args[0] ?? 50_000);
  await using etcd = await startEtcd();
  await using store = openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 20_000 }, deps);
  await fill(store, count);
  const file = await Deno.makeTempFile({ dir: "/dev/shm", prefix: "bench-mirror-" });
  const rows = [["start", "in sync, ms", "RSS MiB", "peak MiB", "requests"]];
  const run = async (name: string) => {
    const start = await startOnce(etcd.endpoint, file);
    if (start.keys !== count) throw new Error(`${name}: ${start.keys} keys of ${count}`);
    rows.push([name, ms(start.readyMs), `${start.rssMiB}`, `${start.peakMiB}`, `${start.requests}`]);
  };
  try {
    await Deno.remove(file);
    await run("from nothing");
    await run("from its snapshot file");
    await touch(store, 1_000);
    await run("from its file, 1,000 changes later");
    await etcd.compact(await touch(store, 1_000));
    await run("from its file, compacted: list and compare");
  } finally {
    await Deno.remove(file).catch(() => {}); // it was not written yet
  }
  console.log(`${count} endpoints\n\n${table(rows)}\n\n${await latency(store)}`);
  return 0;
}

const endpoint = (i: number): [string, string] => {
  const name = `node--${i % 500}-k8s-pod--${i}-eth0`, namespace = `ns${i % 200}`;
  const labels = { app: `app-${i % 20}`, "projectcalico.org/namespace": namespace };
  const spec = {
    node: `node-${i % 500}`,
    ipNetworks: [`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`],
    pad: "x".repeat(620),
  };
  const value = {
    kind: "WorkloadEndpoint",
    apiVersion: "projectcalico.org/v3",
    metadata: { name, namespace, labels },
    spec,
  };
  return [`${prefix}${namespace}/${name}`, JSON.stringify(value)];
};

async function fill(store: Store, count: number): Promise<void> {
  for (let i = 0; i < count; i += 100) {
    const write = Array.from({ length: Math.min(100, count - i) }, (_, j) => endpoint(i + j));
    await store.txn({ compare: [], write: write.map(([put, value]) => ({ put, value })) });
  }
}

/** Changes the first `count` endpoints, one by one; answers the last revision. */
async function touch(store: Store, count: number): Promise<bigint> {
  let last = 0n;
  for (let i = 0; i < count; i++) {
    const [put, value] = endpoint(i);
    last = (await store.txn({ compare: [], write: [{ put, value }] })).revision;
  }
  return last;
}

async function startOnce(etcdEndpoint: string, file: string): Promise<Start> {
  const script = new URL("run.ts", import.meta.url).pathname;
  const args = ["run", "-A", "--v8-flags=--max-semi-space-size=4", script, "mirror", "child", etcdEndpoint, file];
  return JSON.parse(await runOk(Deno.execPath(), args, { timeoutMs: 120_000 }));
}

/** One start, measured; the file is written at its end. */
async function child(etcdEndpoint: string, snapshotFile: string): Promise<number> {
  const began = performance.now();
  await using store = openEtcd({ endpoints: [etcdEndpoint], deadlineMs: 5_000 }, deps);
  await using mirror = Mirror.start({ store, snapshotFile, ...deps });
  const first = await mirror.changes(new AbortController().signal).next();
  const status = await Deno.readTextFile("/proc/self/status");
  const mib = (field: string) => Math.round(Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)![1]) / 1024);
  const start: Start = {
    readyMs: performance.now() - began,
    rssMiB: mib("VmRSS"),
    peakMiB: mib("VmHWM"),
    keys: first.value?.set.length ?? 0,
    requests: Object.values(store.requests).reduce((a, b) => a + b, 0),
  };
  console.log(JSON.stringify(start));
  return 0;
}

/** Time from the start of a write to the consumer's batch that holds it, 500 times, the consumer idle in between. */
async function latency(store: Store): Promise<string> {
  await using mirror = Mirror.start({ store, ...deps });
  const stop = new AbortController(), times: number[] = [];
  const changes = mirror.changes(stop.signal);
  await changes.next();
  for (let i = 0; i < 500; i++) {
    await systemClock.sleep(12);
    const [put, value] = endpoint(i), began = performance.now();
    await Promise.all([changes.next(), store.txn({ compare: [], write: [{ put, value }] })]);
    times.push(performance.now() - began);
  }
  stop.abort();
  times.sort((a, b) => a - b);
  const [p50, p99] = [percentile(times, 0.5), percentile(times, 0.99)];
  return `somebody's write -> in a consumer's hands: p50 ${ms(p50)} ms, p99 ${ms(p99)} ms (with the write itself)`;
}
