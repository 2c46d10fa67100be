import { systemClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { openEtcd } from "../../datastore/etcd.ts";
import { prefixRange, type Store } from "../../datastore/store.ts";
import { type LocalApiServer, serveApi } from "../lab/api_server.ts";
import { startEtcd } from "../lab/etcd.ts";
import { freePorts, uniqueSuffix } from "../lab/port.ts";
import { wait } from "../lab/wait.ts";
import { labelToKernel } from "./controllers_kernel.ts";
import { cluster, endpointKey, pod, settings, stored, surroundings, toWrite } from "./controllers_objects.ts";
import { ControllersProcess } from "./controllers_process.ts";
import { cpuOf, memoryOf } from "./process_cost.ts";
import { ms, percentile, table } from "./table.ts";

const calico = "/calico/";

/**
 * All controllers with 10,000 pods, 1,000 policies and 500 namespaces: from nothing, what one change takes to etcd, after a
 * restart; then a label's way into the kernel. Options: `scale`, `kernel`; `samples=100`.
 */
export async function bench(args: string[]): Promise<number> {
  const does = (part: string) => !args.some((a) => a === "scale" || a === "kernel") || args.includes(part);
  const samples = Number(args.find((a) => a.startsWith("samples="))?.slice(8) ?? 100);
  if (does("scale")) await scale(samples);
  if (does("kernel")) {
    const times = await labelToKernel(Math.min(samples, 40));
    console.log(`\na pod's label -> a member of a set in the kernel: ${spread(times)} ms, ${times.length} samples`);
  }
  return 0;
}

const spread = (sorted: number[]): string =>
  `p50 ${ms(percentile(sorted, 0.5))}, p99 ${ms(percentile(sorted, 0.99))}, most ${ms(sorted.at(-1)!)}`;

async function scale(samples: number): Promise<void> {
  const dir = `/dev/shm/kc-bench-${uniqueSuffix()}`;
  try {
    await using etcd = await startEtcd();
    await using api = await serveApi(dir);
    await using store = openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 20_000 }, {
      clock: systemClock,
      log: silentLog,
    });
    const [metricsPort] = freePorts(1) as [number];
    await fill(store, api, metricsPort);
    const env = { ETCD_ENDPOINTS: etcd.endpoint, KUBECONFIG: api.kubeconfig };
    const rows = [["", "in order, s", "CPU, s", "RSS MiB", "peak MiB", "objects written"]];
    const run = async (name: string, writes: number, then?: (it: ControllersProcess) => Promise<void>) => {
      const before = await newest(store);
      await using it = new ControllersProcess(env, metricsPort);
      const took = await it.inOrder(writes), { now, peak } = memoryOf(it.pid);
      const written = await changedSince(store, before);
      rows.push([
        name,
        (took / 1000).toFixed(1),
        (cpuOf(it.pid).own / 1000).toFixed(1),
        `${now}`,
        `${peak}`,
        `${written}`,
      ]);
      await then?.(it);
      await it.end();
    };
    let changes: number[] = [];
    await run("from nothing", toWrite, async () => void (changes = await labelsToEtcd(store, api, samples)));
    await run("after a restart", 0);
    const { pods, policies, namespaces } = cluster;
    console.log(
      `${pods} pods, ${policies} policies, ${namespaces} namespaces; load ${Deno.loadavg()[0]!.toFixed(1)}\n`,
    );
    console.log(`${table(rows)}\n\na pod's label -> etcd: ${spread(changes)} ms, ${changes.length} samples`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function fill(store: Store, api: LocalApiServer, metricsPort: number): Promise<void> {
  for (const object of surroundings()) await api.put(object);
  for (let i = 0; i < cluster.pods; i++) await api.put(pod(i));
  const all = [...stored(), settings(metricsPort)];
  for (let i = 0; i < all.length; i += 100) {
    const write = all.slice(i, i + 100).map(([put, value]) => ({
      put,
      value: JSON.stringify({ apiVersion: "projectcalico.org/v3", ...value }),
    }));
    await store.txn({ compare: [], write });
  }
}

const newest = async (store: Store): Promise<bigint> => (await store.status()).revision;

/** Objects below Calico's prefix that were written after a revision. */
async function changedSince(store: Store, revision: bigint): Promise<number> {
  let count = 0;
  await store.list(prefixRange(calico), (kvs) => count += kvs.filter((kv) => kv.revision > revision).length);
  return count;
}

/** Milliseconds from the change of a pod's label in the API to its endpoint in etcd, one after another; sorted. */
async function labelsToEtcd(store: Store, api: LocalApiServer, samples: number): Promise<number[]> {
  const stop = new AbortController(), seen = new Map<string, number>();
  const watched = (async () => {
    const from = await newest(store) + 1n;
    for await (const { events } of store.watch(prefixRange(calico), from, { signal: stop.signal })) {
      for (const { value } of events) {
        const mark = /"mark":"(\d+)"/.exec(value ?? "")?.[1];
        if (mark) seen.set(mark, performance.now());
      }
    }
  })();
  const times: number[] = [];
  try {
    for (let k = -2; k < samples; k++) {
      const i = (k + 2) * 97 % cluster.pods, mark = `${k + 2}`, began = performance.now();
      await api.put(pod(i, { mark }));
      const at = await wait(`the label at ${endpointKey(i)}`, () => seen.get(mark), { everyMs: 1 });
      if (k >= 0) times.push(at - began);
    }
  } finally {
    stop.abort(new Error("measured"));
    await watched.catch(() => {}); // it ends with the signal
  }
  return times.sort((a, b) => a - b);
}
