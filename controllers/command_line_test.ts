import { deepEqual, equal, throws } from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { enabledControllers, healthPort } from "./command_line.ts";
import { healthAnswer } from "./readiness.ts";

Deno.test("all controllers run unless some are named; an unknown name is refused", () => {
  deepEqual(enabledControllers(undefined), ["policy", "namespace", "serviceaccount", "workloadendpoint", "node"]);
  deepEqual(enabledControllers("policy, profile,namespace"), ["policy", "namespace"]);
  throws(() => enabledControllers("policy,pods"), /no controller "pods" \(ENABLED_CONTROLLERS\)/);
  throws(() => enabledControllers("toString"), /no controller/);
});

Deno.test("the only argument is the port for probes", () => {
  deepEqual([[], ["--health-port", "9440"], ["--health-port=9440"]].map(healthPort), [0, 9440, 9440]);
  deepEqual([["--health-port"], ["--health-port=70000"], ["x"], ["--help"]].map(healthPort), Array(4).fill(undefined));
});

Deno.test("a probe is told what is not ready, and why", async () => {
  const health = new Health(new FakeClock());
  for (const name of ["datastore", "policy"]) health.register(name);
  health.report("datastore", true);
  health.report("policy", false, "403");
  const answer = healthAnswer("/readiness", health);
  deepEqual([answer.status, await answer.text()], [503, "datastore: ready\npolicy: not ready: 403\n"]);
  equal(healthAnswer("/liveness", health).status, 200);
  health.report("policy", true);
  equal(healthAnswer("/readiness", health).status, 200);
  equal(healthAnswer("/else", health).status, 404);
});
