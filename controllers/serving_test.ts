import { deepEqual, equal } from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { Health } from "../lib/health.ts";
import { flagsIn } from "./command_line.ts";
import { healthAnswer, statusText } from "./serving.ts";

Deno.test("the arguments are the port for probes and the file for Calico's", () => {
  const ports = [[], ["--health-port", "9440"], ["--health-port=9440"]].map((args) => flagsIn(args)?.healthPort);
  deepEqual(ports, [0, 9440, 9440]);
  const both = flagsIn(["--status-file=/run/s.json", "--health-port", "1"]);
  deepEqual(both, { healthPort: 1, statusFile: "/run/s.json" });
  const wrong = [["--health-port"], ["--health-port=70000"], ["x"], ["--help"], ["--status-file"]];
  deepEqual(wrong.map(flagsIn), Array(5).fill(undefined));
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

Deno.test("the status file is the one that Calico's probes read", () => {
  const health = new Health(new FakeClock());
  health.register("pods");
  health.report("pods", false, "403");
  equal(statusText(health), '{"Readiness":{"pods":{"Ready":false,"Reason":"403"}}}');
  health.report("pods", true);
  equal(statusText(health), '{"Readiness":{"pods":{"Ready":true,"Reason":""}}}');
});
