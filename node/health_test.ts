import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { Problem } from "../lib/problem.ts";
import { answer, healthSettings, metricsSettings } from "./health.ts";

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

Deno.test("settings: the environment wins, then the FelixConfiguration, then the defaults", () => {
  const env = (values: Record<string, string>) => ({ get: (name: string) => values[name] });
  assert.deepEqual(healthSettings(env({})), { enabled: true, host: "localhost", port: 9099 });
  assert.deepEqual(
    healthSettings(env({ FELIX_HEALTHPORT: "9100" }), { healthEnabled: false, healthHost: "0.0.0.0", healthPort: 1 }),
    { enabled: false, host: "0.0.0.0", port: 9100 },
  );
  assert.deepEqual(metricsSettings(env({ FELIX_PROMETHEUSMETRICSENABLED: "True" })), {
    enabled: true,
    host: "",
    port: 9091,
  });
  assert.throws(() => healthSettings(env({ FELIX_HEALTHPORT: "70000" })), Problem);
  assert.throws(() => healthSettings(env({ FELIX_HEALTHENABLED: "maybe" })), Problem);
});
