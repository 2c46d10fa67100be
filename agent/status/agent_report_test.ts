import assert from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { MemoryStore } from "../../datastore/memory.ts";
import { AgentReport } from "./agent_report.ts";

const status = "/calico/felix/v2/no-region/host/n1/status";
const last = "/calico/felix/v2/no-region/host/n1/last_reported_status";
const settings = { intervalMs: 30_000, ttlMs: 90_000, region: "" };

function started() {
  const clock = new FakeClock(Date.UTC(2026, 7, 22, 13, 33, 10, 500));
  const store = new MemoryStore({ clock });
  return { clock, store, report: new AgentReport({ store, node: "n1", clock, log: silentLog }) };
}

Deno.test("the agent's status is told after ten seconds and then every interval, as Felix writes it", async () => {
  const { clock, store, report } = started();
  await using _ = store;
  assert.equal(await report.step(settings), 10_000);
  assert.equal(store.contents().size, 0);
  await clock.advance(10_000);
  assert.equal(await report.step(settings), 30_000);
  const first = '{"time":"2026-08-22T13:33:20Z","uptime":10,"first_update":true}';
  assert.deepEqual([...store.contents()], [[last, first], [status, first]]);
  await clock.advance(30_500);
  await report.step(settings);
  const second = '{"time":"2026-08-22T13:33:51Z","uptime":40.5,"first_update":false}';
  assert.deepEqual([...store.contents()], [[last, second], [status, second]]);
  assert.equal(store.requests.leaseGrant, 1, "one lease for all reports");
});

Deno.test("when the agent is gone the status goes after its time to live, and the last report stays", async () => {
  const { clock, store, report } = started();
  await using _ = store;
  await report.step({ ...settings, intervalMs: 1_000 });
  await clock.advance(1_000);
  await report.step({ ...settings, intervalMs: 1_000 });
  assert.deepEqual([...store.contents().keys()], [last, status]);
  store.pause();
  await clock.advance(200_000);
  store.resume();
  assert.deepEqual([...store.contents().keys()], [last]);
});

Deno.test("a lost lease is taken anew at once, also when only the write tells of it", async () => {
  const { clock, store, report } = started();
  await using _ = store;
  await report.step(settings);
  await clock.advance(10_000);
  await report.step(settings);
  const { lost } = report;
  store.pause();
  await clock.advance(100_000);
  store.resume();
  await clock.advance(30_000);
  await lost;
  assert.equal(store.contents().has(status), false);
  await report.step(settings);
  assert.equal(store.contents().has(status), true);
  assert.equal(store.requests.leaseGrant, 2);
  store.pause();
  await clock.advance(100_000);
  store.resume();
  await report.step(settings); // the lease has gone, and its next renewal is still to come
  assert.equal(store.contents().has(status), true);
  assert.equal(store.requests.leaseGrant, 3);
});

Deno.test("another time to live takes another lease without a gap; interval 0 ends the status", async () => {
  const { clock, store, report } = started();
  await using _ = store;
  await report.step(settings);
  await clock.advance(10_000);
  await report.step(settings);
  await report.step({ ...settings, ttlMs: 20_000 });
  assert.equal(store.requests.leaseGrant, 2);
  assert.equal(store.contents().has(status), true);
  await report.step({ ...settings, region: "one", ttlMs: 10_000 });
  assert.equal(store.contents().has("/calico/felix/v2/region-one/host/n1/status"), true);
  assert.equal(await report.step({ ...settings, intervalMs: 0 }), Infinity);
  assert.deepEqual([...store.contents().keys()].filter((k) => k.endsWith("/status")), []);
});

Deno.test("a write that fails is tried again a second later, and is still the first one", async () => {
  const { clock, store, report } = started();
  await using _ = store;
  await report.step(settings);
  await clock.advance(10_000);
  store.failNext(1);
  assert.equal(await report.step(settings), 1_000);
  await clock.advance(1_000);
  await report.step(settings);
  assert.match(store.contents().get(status)!, /"first_update":true/);
});

Deno.test("a lease whose write fails is given back, not renewed for ever", async () => {
  const clock = new FakeClock();
  await using store = new MemoryStore({ clock });
  const given: string[] = [];
  let fails = true, taken = 0;
  const report = new AgentReport({
    node: "n1",
    clock,
    log: silentLog,
    store: {
      txn: (txn, options) => fails ? Promise.reject(new Error("no quorum")) : store.txn(txn, options),
      lease: async (ttlS, options) => {
        const lease = await store.lease(ttlS, options);
        taken++;
        const giveBack = () => (given.push(lease.id), lease[Symbol.asyncDispose]());
        return { id: lease.id, lost: lease.lost, [Symbol.asyncDispose]: giveBack };
      },
    },
  });
  await report.step(settings);
  for (let n = 0; n < 3; n++) {
    await clock.advance(10_000);
    assert.equal(await report.step(settings), 1_000);
  }
  fails = false;
  await clock.advance(1_000);
  await report.step(settings);
  assert.deepEqual([taken, given.length], [4, 3]);
  await report.step({ ...settings, intervalMs: 0 });
  assert.equal(given.length, 4);
});
