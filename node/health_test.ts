import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { answer } from "./health.ts";

const clock = new FakeClock();
const ask = (health: Health, path: string, method = "GET") =>
  answer(new Request(`http://localhost${path}`, { method }), { health, metrics: () => Promise.resolve("up 1\n") });

function threeParts(): Health {
  const health = new Health(clock);
  health.register("mirror", 10_000);
  health.register("dataplane");
  health.report("mirror", true);
  health.report("dataplane", false, "first apply is under way");
  return health;
}

Deno.test("liveness and readiness answer as Felix does: 200 or 503 with a table", async () => {
  const health = threeParts();
  const live = await ask(health, "/liveness");
  assert.equal(live.status, 200);
  const text = await (await ask(health, "/readiness")).text();
  assert.equal((await ask(health, "/readiness")).status, 503);
  assert.match(text, /^COMPONENT +LIVENESS +READINESS +DETAIL$/m);
  assert.match(text, /^dataplane +live +not ready +first apply is under way$/m);
  health.report("dataplane", true);
  assert.equal((await ask(health, "/readiness")).status, 200);
});

Deno.test("a part that is silent for too long makes the process dead", async () => {
  const health = threeParts();
  await clock.advance(10_001);
  assert.equal((await ask(health, "/liveness")).status, 503);
  const body = await (await ask(health, "/healthz")).json();
  assert.deepEqual(body.parts[0], { name: "mirror", live: false, ready: false, why: "silent for 10001 ms" });
  assert.equal(body.live, false);
});

Deno.test("readyz and healthz are JSON, metrics is text, the rest is refused", async () => {
  const health = threeParts();
  const ready = await ask(health, "/readyz");
  assert.equal(ready.status, 503);
  assert.equal((await ready.json()).ready, false);
  assert.equal((await ask(health, "/healthz")).status, 200);
  assert.equal(await (await ask(health, "/metrics")).text(), "up 1\n");
  assert.equal((await ask(health, "/other")).status, 404);
  assert.equal((await ask(health, "/liveness", "POST")).status, 405);
});

Deno.test("timeouts of parts can be set otherwise; those that are never dead stay so", async () => {
  const clock = new FakeClock(), health = new Health(clock);
  health.register("mirror", 10_000);
  health.register("dataplane");
  health.setTimeouts(new Map([["mirror", 60_000], ["dataplane", 1]]));
  await clock.advance(59_000);
  assert.equal(health.live(), true);
  await clock.advance(2_000);
  assert.equal(health.live(), false);
  health.setTimeouts(new Map());
  health.report("mirror", true);
  assert.equal(health.live(), true);
});
