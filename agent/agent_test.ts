import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { createLog } from "../lib/log.ts";
import type { Changes } from "../datastore/mirror.ts";
import type { KeyValue } from "../datastore/store.ts";
import { runAgent } from "./agent.ts";
import type { Desired } from "./desired.ts";

const root = "/calico/resources/v3/projectcalico.org";
const endpointKey = `${root}/workloadendpoints/shop/n1-k8s-web-eth0`;
const kv = (key: string, spec: unknown): KeyValue => ({
  key,
  value: JSON.stringify({ apiVersion: "projectcalico.org/v3", kind: kindOf(key), metadata: { name: "x" }, spec }),
  revision: 1n,
  created: 1n,
});
const kindOf = (key: string) => (key.includes("/workloadendpoints/") ? "WorkloadEndpoint" : "ClusterInformation");
const ready = (datastoreReady: boolean) => kv(`${root}/clusterinformations/default`, { datastoreReady });
const endpoint = (...ipNetworks: string[]) =>
  kv(endpointKey, {
    orchestrator: "k8s",
    node: "n1",
    pod: "web",
    endpoint: "eth0",
    interfaceName: "cali1",
    ipNetworks,
  });
const step = (set: KeyValue[], deleted: string[] = []): Changes => ({ set, deleted, revision: 1n, resync: false });

/** Runs the loop over some batches; answers what the dataplane was told, the log's messages and the health. */
async function run(...batches: Changes[]) {
  const applied: Desired[] = [];
  const lines: string[] = [];
  const health = new Health(new FakeClock());
  await runAgent({
    mirror: {
      async *changes() {
        yield* batches;
      },
    },
    dataplane: { apply: (desired) => void applied.push(desired) },
    node: "n1",
    birdRuns: true,
    env: () => undefined,
    log: createLog("agent", { write: (line) => void lines.push(JSON.parse(line).msg), clock: new FakeClock() }),
    health,
    signal: new AbortController().signal,
  });
  const nets = applied.map((d) => [...d.endpoints.values()].flatMap((e) => e.nets.map((n) => n.n & 255n)));
  return { applied, nets, lines, health };
}

Deno.test("each change of this node's network reaches the dataplane", async () => {
  const { nets, health } = await run(
    step([ready(true), endpoint("10.0.0.1/32")]),
    step([endpoint("10.0.0.2/32")]),
    step([], [endpointKey]),
  );
  assert.deepEqual(nets, [[1n], [2n], []]);
  assert.equal(health.ready(), true);
});

Deno.test("changes that do not concern this node's network are not passed on", async () => {
  const other = kv(`${root}/workloadendpoints/shop/n2-k8s-web-eth0`, {});
  assert.equal((await run(step([ready(true)]), step([other]))).applied.length, 1);
});

Deno.test("a cluster that is not ready gets nothing new, keeps everything, and catches up", async () => {
  const { nets, lines, health } = await run(
    step([ready(true), endpoint("10.0.0.1/32")]),
    step([ready(false)]),
    step([endpoint("10.0.0.2/32")]),
    step([], [endpointKey]),
  );
  assert.deepEqual(nets, [[1n]]);
  assert.ok(lines.includes("cluster is not ready, nothing new is programmed"));
  assert.equal(health.ready(), false);
  const again = await run(step([ready(false), endpoint("10.0.0.1/32")]), step([ready(true)]));
  assert.deepEqual(again.nets, [[1n]]);
});

Deno.test("a value that cannot be read leaves the last good one and the others in force", async () => {
  const { nets, lines } = await run(
    step([ready(true), endpoint("10.0.0.1/32")]),
    step([endpoint("rubbish")]),
    step([ready(true)]),
  );
  assert.deepEqual(nets, [[1n], [1n]]);
  assert.ok(lines.includes("value not understood, last good one stays"));
});
