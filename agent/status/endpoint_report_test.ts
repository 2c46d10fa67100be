import assert from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { EndpointReport } from "./endpoint_report.ts";

const root = "/calico/felix/v2/no-region/host/n1/workload";
const up = '{"status":"up"}', down = '{"status":"down"}';
const web = `${root}/k8s/shop%2fweb/endpoint/eth0`, db = `${root}/k8s/shop%2fdb/endpoint/eth0`;
const host = "/calico/felix/v1/host/n1/endpoint/eth";

async function started(before: Record<string, string> = {}) {
  const clock = new FakeClock(), store = new MemoryStore({ clock });
  const write = Object.entries(before).map(([put, value]) => ({ put, value }));
  if (write.length > 0) await store.txn({ compare: [], write });
  const options = { store, node: "n1", region: "", clock, random: () => 0.5, log: silentLog };
  return { clock, store, report: new EndpointReport(options) };
}

Deno.test("states are told, changed and deleted; what an earlier process left goes; others' keys stay", async () => {
  const others = { "/calico/felix/v2/no-region/host/n10/workload/a/b/endpoint/c": up };
  const { clock, store, report } = await started({ [db]: up, [`${host}-old`]: up, ...others });
  await using _ = store;
  report.want(new Map([[web, up], [host, "x"]]));
  await report.step(1_000);
  assert.deepEqual(Object.fromEntries(store.contents()), { [web]: up, [host]: "x", ...others });
  report.want(new Map([[web, down]]));
  assert.equal(await report.step(1_000), 1_000);
  assert.equal(store.contents().get(web), up, "not before the delay is over");
  await clock.advance(1_000);
  await report.step(1_000);
  assert.deepEqual(Object.fromEntries(store.contents()), { [web]: down, ...others });
  const { txn } = store.requests;
  assert.ok(await report.step(1_000) > 100_000);
  assert.equal(store.requests.txn, txn, "nothing changed, nothing is written");
});

Deno.test("what others change is put right at the next look", async () => {
  const { clock, store, report } = await started();
  await using _ = store;
  report.want(new Map([[web, up]]));
  const waitMs = await report.step(1_000);
  await store.txn({ compare: [], write: [{ put: web, value: "other" }, { put: db, value: up }] });
  await clock.advance(waitMs);
  await report.step(1_000);
  assert.deepEqual(Object.fromEntries(store.contents()), { [web]: up });
});

Deno.test("after a write of unknown outcome the datastore is looked at", async () => {
  const { clock, store, report } = await started();
  await using _ = store;
  report.want(new Map([[web, up]]));
  store.loseNextAnswer();
  assert.equal(await report.step(100), 1_000);
  report.want(new Map());
  await clock.advance(1_000);
  await report.step(100);
  assert.equal(store.contents().size, 0);
  assert.equal(await report.step(100), Infinity);
});

Deno.test("thousands of endpoints are told in few writes", async () => {
  const { clock, store, report } = await started();
  await using _ = store;
  report.want(new Map(Array.from({ length: 1_000 }, (_, i) => [`${root}/k8s/a%2f${i}/endpoint/eth0`, up])));
  for (let waitMs = await report.step(100); waitMs < 1_000; waitMs = await report.step(100)) {
    await clock.advance(waitMs);
  }
  assert.equal(store.contents().size, 1_000);
  assert.ok(store.requests.txn! <= 11, "ten writes and a look");
});
