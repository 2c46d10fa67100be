import { deepEqual, equal, throws } from "node:assert/strict";
import { defaultSpec, settingsOf } from "./settings.ts";

const env = (values: Record<string, string> = {}) => (name: string) => values[name];

Deno.test("without a word everything is on, with Calico's defaults", () => {
  const { running, status } = settingsOf(defaultSpec, env());
  deepEqual(running.enabled, ["policy", "namespace", "serviceaccount", "workloadendpoint", "node", "loadbalancer"]);
  deepEqual([running.leakGraceMs, running.compactionMs, running.metricsPort], [900_000, 600_000, 9094]);
  deepEqual([running.syncLabels, running.hostEndpoint.autoCreate, running.logLevel], [true, false, "info"]);
  // As Calico's own controllers report it.
  deepEqual(status, {
    runningConfig: {
      ...{ logSeverityScreen: "Info", healthChecks: "Enabled", etcdV3CompactionPeriod: "10m0s" },
      controllers: {
        node: {
          syncLabels: "Enabled",
          hostEndpoint: { autoCreate: "Disabled", createDefaultHostEndpoint: "Enabled" },
          leakGracePeriod: "15m0s",
        },
        policy: { reconcilerPeriod: "5m0s" },
        workloadEndpoint: { reconcilerPeriod: "5m0s" },
        serviceAccount: { reconcilerPeriod: "5m0s" },
        namespace: { reconcilerPeriod: "5m0s" },
        loadBalancer: { assignIPs: "AllServices" },
        migration: { policyNameMigrator: "Enabled" },
      },
    },
    environmentVars: {},
  });
});

Deno.test("what the resource does not mention is off, unless the environment names it", () => {
  const spec = { controllers: { namespace: {} } };
  deepEqual(settingsOf(spec, env()).running.enabled, ["namespace"]);
  const { running, status } = settingsOf(spec, env({ ENABLED_CONTROLLERS: "policy, profile" }));
  deepEqual(running.enabled, ["policy", "namespace"]);
  deepEqual(status.environmentVars, { ENABLED_CONTROLLERS: "policy, profile" });
  deepEqual(Object.keys(status.runningConfig!.controllers), ["policy", "namespace", "migration"]);
});

Deno.test("the environment comes before the resource, and is told", () => {
  const values = {
    ...{ LOG_LEVEL: "warn", HEALTH_ENABLED: "false", SYNC_NODE_LABELS: "0", AUTO_HOST_ENDPOINTS: "Enabled" },
    ...{ RECONCILER_PERIOD: "90s", COMPACTION_PERIOD: "0" },
  };
  const { running, status } = settingsOf(defaultSpec, env(values));
  deepEqual(
    [running.logLevel, running.healthChecks, running.syncLabels, running.hostEndpoint.autoCreate, running.compactionMs],
    ["warn", false, false, true, 0],
  );
  deepEqual(status.environmentVars, values);
  equal(status.runningConfig!.logSeverityScreen, "Warning");
  equal(status.runningConfig!.controllers.policy!.reconcilerPeriod, "1m30s");
});

Deno.test("a variable that cannot be read is refused by its name", () => {
  const wrong: [string, string][] = [
    ["ENABLED_CONTROLLERS", "policy,pods"],
    ["ENABLED_CONTROLLERS", "flannelmigration"],
    ["ENABLED_CONTROLLERS", "toString"],
    ["LOG_LEVEL", "loud"],
    ["HEALTH_ENABLED", "yes"],
    ["COMPACTION_PERIOD", "10"],
    ["AUTO_HOST_ENDPOINTS", "on"],
  ];
  for (const [name, value] of wrong) throws(() => settingsOf(defaultSpec, env({ [name]: value })), new RegExp(name));
});
