import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { silentLog } from "../lib/log.ts";
import { Refusals } from "../agent/refusals.ts";
import { resourceKey } from "../datastore/keys.ts";
import { followServing, idleSettings, partTimeouts, Serving, servingSettings } from "./serving.ts";
import { Health } from "../lib/health.ts";

const of = (spec: Record<string, unknown>, env: Record<string, string> = {}) =>
  servingSettings({ env: (name) => env[name], configurations: [{ name: "default", spec }] });

Deno.test("health is on at localhost:9099 and metrics are off, on all addresses at 9091, unless told otherwise", () => {
  const { settings } = of({});
  assert.deepEqual([settings.healthEnabled, settings.healthHost, settings.healthPort], [true, "localhost", 9099]);
  assert.deepEqual([settings.metricsEnabled, settings.metricsHost, settings.metricsPort], [false, "", 9091]);
  assert.deepEqual([settings.processMetrics, settings.logLevel, settings.clientAuth], [true, "info", "none"]);
});

Deno.test("environment beats FelixConfiguration; what is not understood is named and the weaker one holds", () => {
  const { settings, problems } = of({
    healthPort: 9200,
    prometheusMetricsEnabled: true,
    prometheusMetricsHost: "a b",
    prometheusMetricsPort: 70000,
    logSeverityScreen: "Warning",
    prometheusMetricsClientAuth: "RequireAnyClientCert",
  }, { FELIX_HEALTHPORT: "70000", FELIX_PROMETHEUSMETRICSPORT: "9300", FELIX_HEALTHENABLED: "maybe" });
  assert.deepEqual([settings.healthPort, settings.metricsEnabled, settings.metricsPort], [9200, true, 9300]);
  assert.deepEqual([settings.healthEnabled, settings.logLevel, settings.clientAuth], [true, "warn", "other"]);
  const names = ["FELIX_HEALTHENABLED", "FELIX_HEALTHPORT", "prometheusMetricsHost"];
  assert.deepEqual(problems.map((p) => p.setting), names);
});

Deno.test("health timeouts are said by Felix's names of its loops, or by ours", () => {
  const overrides = [{ name: "InternalDataplaneMainLoop", timeout: "5m" }, { name: "mirror", timeout: "1m30s" }];
  const { settings } = of({ healthTimeoutOverrides: overrides, dataplaneWatchdogTimeout: "20s" });
  assert.deepEqual([...partTimeouts(settings)], [["dataplane", 300_000], ["policy", 300_000], ["mirror", 90_000]]);
  const said = of({}, { FELIX_HEALTHTIMEOUTOVERRIDES: "CalculationGraph=45s,policy=2m" }).settings;
  assert.deepEqual([...partTimeouts(said)], [["policy calculation", 45_000], ["policy", 120_000]]);
  assert.equal(of({ healthTimeoutOverrides: [{ name: "x", timeout: "soon" }] }).problems.length, 1);
});

Deno.test("fields that do nothing here are told, unless they say what is so anyway", () => {
  const spec = {
    ...{ nftablesMode: "Auto", bpfEnabled: false, wireguardThreadingEnabled: false, bpfLogLevel: "", logPrefix: "x" },
    ...{ routeSource: "CalicoIPAM", floatingIPs: "Disabled", usageReportingEnabled: false },
  };
  assert.deepEqual(idleSettings({ env: () => undefined, configurations: [{ name: "default", spec }] }), []);
  const asking = {
    nftablesMode: "Enabled",
    wireguardThreadingEnabled: true,
    bpfEnabled: true,
    netlinkTimeout: "5s",
  };
  const told = idleSettings({ env: () => undefined, configurations: [{ name: "node.n1", spec: asking }] });
  assert.deepEqual(told.map((t) => t.setting), Object.keys(asking));
  assert.ok(told.every((t) => t.object === "FelixConfiguration:node.n1" && t.why.length > 5));
});

Deno.test("a value of health, metrics or log that is not understood is among what is refused, until it is mended", async () => {
  const refusals = new Refusals(silentLog), health = new Health(new FakeClock());
  const heard: string[][] = [];
  const value = (spec: Record<string, unknown>) => ({
    set: [{
      key: resourceKey("FelixConfiguration", "default"),
      value: JSON.stringify({ kind: "FelixConfiguration", metadata: { name: "default" }, spec }),
      ...{ revision: 1n, created: 1n },
    }],
    ...{ deleted: [], revision: 1n, resync: false },
  });
  const quiet = { healthEnabled: false, prometheusMetricsEnabled: false };
  await using serving = new Serving({ health, metrics: () => Promise.resolve("") }, silentLog, new FakeClock());
  await followServing({
    mirror: {
      async *changes() {
        for (const host of ["a b", "127.0.0.1"]) {
          yield value({ ...quiet, healthHost: host });
          heard.push(refusals.list().map(({ object, why }) => `${object}: ${why}`));
        }
      },
    },
    ...{ node: "n1", env: () => undefined, serving, refusals, log: silentLog, signal: new AbortController().signal },
    ...{ level: () => {}, processMetrics: () => {} },
  });
  assert.match(heard[0]?.[0] ?? "nothing is refused", /^FelixConfiguration:default: healthHost/);
  assert.deepEqual(heard[1], []);
});
