import assert from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { networkSettings } from "../network/settings.ts";
import { Schedule } from "./_schedule.ts";

const settings = (env: Record<string, string> = {}) => networkSettings({ env: (name) => env[name] }).settings;

Deno.test("routes and interfaces are looked at in their periods, with up to a tenth of jitter", async () => {
  const clock = new FakeClock();
  const schedule = new Schedule(clock, () => 1);
  const own = settings({ FELIX_ROUTEREFRESHINTERVAL: "100", FELIX_INTERFACEREFRESHINTERVAL: "0" });
  schedule.restart(own);
  assert.equal(schedule.waitMs(1_000_000), 110_000);
  await clock.advance(109_999);
  assert.deepEqual(schedule.due(own), { routes: false, interfaces: false });
  await clock.advance(1);
  assert.deepEqual(schedule.due(own), { routes: true, interfaces: false });
  assert.deepEqual(schedule.due(own), { routes: false, interfaces: false }, "the next period has begun");
});

Deno.test("the wait ends with whatever is due first, and with the heartbeat at the latest", () => {
  const clock = new FakeClock();
  const schedule = new Schedule(clock, () => 0);
  assert.equal(schedule.waitMs(10_000), 10_000);
  schedule.restart(settings());
  schedule.graceEndAt = clock.monotonicMs() + 700;
  assert.equal(schedule.waitMs(10_000), 700);
  schedule.retryAt = clock.monotonicMs() - 5;
  assert.equal(schedule.waitMs(10_000), 0);
});

Deno.test("the end of a grace period is a reason to look at routes", async () => {
  const clock = new FakeClock();
  const schedule = new Schedule(clock, () => 0);
  schedule.graceEndAt = clock.monotonicMs() + 700;
  assert.equal(schedule.due(undefined).routes, false);
  await clock.advance(700);
  assert.deepEqual(schedule.due(undefined), { routes: true, interfaces: false });
});
