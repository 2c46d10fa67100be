import { type Level, parseLevel } from "../lib/log.ts";
import { Problem } from "../lib/problem.ts";
import { canonicalDuration, durationMs, parseDuration } from "../datastore/duration.ts";
import type {
  KubeControllersConfiguration,
  KubeControllersConfigurationSpec as Spec,
} from "../datastore/kinds/kube_controllers_configuration.ts";

/** A controller that can be switched on and off, as ENABLED_CONTROLLERS calls it. */
export type ControllerName = typeof controllerNames[number];

/** All of them. */
export const controllerNames = [
  "policy",
  "namespace",
  "serviceaccount",
  "workloadendpoint",
  "node",
  "loadbalancer",
] as const;

/** How automatic host endpoints are made. */
export interface HostEndpointSettings {
  autoCreate: boolean;
  createDefault: boolean;
  templates: HostEndpointTemplate[];
}

/** What a host endpoint is made by, beside the node. */
export type HostEndpointTemplate = NonNullable<
  NonNullable<NonNullable<Spec["controllers"]["node"]>["hostEndpoint"]>["templates"]
>[number];

/** The settings in force. */
export interface Running {
  enabled: ControllerName[];
  logLevel: Level;
  healthChecks: boolean;
  /** 0 = not served. */
  metricsPort: number;
  /** 0 = never. */
  compactionMs: number;
  syncLabels: boolean;
  hostEndpoint: HostEndpointSettings;
  /** How long an address must look unused before it is released; 0 = it never is. */
  leakGraceMs: number;
  assignIPs: "AllServices" | "RequestedServicesOnly";
}

type Env = (name: string) => string | undefined;
type Status = NonNullable<KubeControllersConfiguration["status"]>;
type Controllers = Spec["controllers"];

const minutes = (n: number) => ({ reconcilerPeriod: `${n}m0s` });

/** What is stored when nothing is. Source: Calico kube-controllers/pkg/config, NewDefaultKubeControllersConfig. */
export const defaultSpec: Spec = {
  logSeverityScreen: "Info",
  healthChecks: "Enabled",
  etcdV3CompactionPeriod: "10m0s",
  prometheusMetricsPort: 9094,
  controllers: {
    node: {
      ...minutes(5),
      syncLabels: "Enabled",
      hostEndpoint: { autoCreate: "Disabled", createDefaultHostEndpoint: "Enabled" },
      leakGracePeriod: "15m0s",
    },
    policy: minutes(5),
    workloadEndpoint: minutes(5),
    serviceAccount: minutes(5),
    namespace: minutes(5),
    loadBalancer: { assignIPs: "AllServices" },
    migration: { policyNameMigrator: "Enabled" },
  },
};

/** Member of the resource by controller. */
const members = {
  policy: "policy",
  namespace: "namespace",
  serviceaccount: "serviceAccount",
  workloadendpoint: "workloadEndpoint",
  node: "node",
  loadbalancer: "loadBalancer",
} as const satisfies Record<ControllerName, keyof Controllers>;

/** Those that have a period of comparison. */
const periodic = ["policy", "namespace", "serviceaccount", "workloadendpoint"] as const;

/**
 * The settings in force: the environment before the resource before the defaults; and the resource's status, which says
 * so. The period of comparison is told and has no meaning: we compare at every change.
 * @throws Problem "bad-input" for a variable that cannot be read.
 * Source: Calico kube-controllers/pkg/config/runconfig.go mergeConfig.
 */
export function settingsOf(spec: Spec, env: Env): { running: Running; status: Status } {
  const environmentVars: Record<string, string> = {};
  const asked: Env = (name) => {
    const value = env(name);
    if (value !== undefined) environmentVars[name] = value;
    return value;
  };
  const level = levelOf(spec, asked);
  const enabled = enabledIn(spec, asked("ENABLED_CONTROLLERS"));
  const compaction = durationIn(asked("COMPACTION_PERIOD"), "COMPACTION_PERIOD") ??
    spec.etcdV3CompactionPeriod ?? "10m0s";
  const period = durationIn(asked("RECONCILER_PERIOD"), "RECONCILER_PERIOD");
  const healthChecks = booleanIn(asked("HEALTH_ENABLED"), "HEALTH_ENABLED") ?? spec.healthChecks !== "Disabled";
  const node = enabled.includes("node") ? nodeSettings(spec, asked) : { running: withoutNode, status: undefined };
  const assignIPs = spec.controllers.loadBalancer?.assignIPs === "RequestedServicesOnly"
    ? "RequestedServicesOnly"
    : "AllServices";
  const periods = periodic.filter((name) => enabled.includes(name)).map((name) => {
    const own = spec.controllers[members[name]];
    const reconcilerPeriod = period ?? own?.reconcilerPeriod;
    return [members[name], reconcilerPeriod === undefined ? {} : { reconcilerPeriod }];
  });
  const controllers: Controllers = {
    ...(node.status && { node: node.status }),
    ...Object.fromEntries(periods),
    ...(enabled.includes("loadbalancer") && { loadBalancer: { assignIPs } }),
    migration: { policyNameMigrator: spec.controllers.migration?.policyNameMigrator || "Enabled" },
  };
  const runningConfig: Spec = {
    logSeverityScreen: level.said,
    healthChecks: healthChecks ? "Enabled" : "Disabled",
    etcdV3CompactionPeriod: compaction,
    controllers,
  };
  return {
    running: {
      ...{ enabled, logLevel: level.level, healthChecks, assignIPs },
      ...node.running,
      metricsPort: spec.prometheusMetricsPort ?? 0,
      compactionMs: durationMs(compaction) ?? 0,
    },
    status: { runningConfig, environmentVars },
  };
}

const withoutNode = {
  syncLabels: false,
  hostEndpoint: { autoCreate: false, createDefault: true, templates: [] as HostEndpointTemplate[] },
  leakGraceMs: 0,
};

function nodeSettings(spec: Spec, env: Env): { running: typeof withoutNode; status: Controllers["node"] } {
  const own = spec.controllers.node;
  const syncLabels = booleanIn(env("SYNC_NODE_LABELS"), "SYNC_NODE_LABELS") ?? own?.syncLabels !== "Disabled";
  const given = env("AUTO_HOST_ENDPOINTS");
  const hostEndpoint = given === undefined ? own?.hostEndpoint : automatic(given);
  const grace = own?.leakGracePeriod;
  const [autoCreate, createDefault] = [
    hostEndpoint?.autoCreate === "Enabled",
    hostEndpoint?.createDefaultHostEndpoint !== "Disabled",
  ];
  return {
    running: {
      syncLabels,
      hostEndpoint: { autoCreate, createDefault, templates: hostEndpoint?.templates ?? [] },
      leakGraceMs: grace === undefined ? 0 : durationMs(grace) ?? 0,
    },
    status: {
      syncLabels: onOff(syncLabels),
      ...(hostEndpoint && {
        hostEndpoint: {
          autoCreate: onOff(autoCreate),
          createDefaultHostEndpoint: onOff(createDefault),
          ...(hostEndpoint.templates?.length && { templates: hostEndpoint.templates }),
        },
      }),
      ...(grace !== undefined && { leakGracePeriod: grace }),
    },
  };
}

/** AUTO_HOST_ENDPOINTS: the default one alone, or nothing said. */
function automatic(given: string): NonNullable<Controllers["node"]>["hostEndpoint"] {
  const word = given.toLowerCase();
  if (word === "enabled") return { autoCreate: "Enabled", createDefaultHostEndpoint: "Enabled" };
  if (word === "disabled") return undefined;
  throw bad("AUTO_HOST_ENDPOINTS", given, "enabled or disabled");
}

/** The controllers that run: those of the environment, else those that the resource mentions. */
function enabledIn(spec: Spec, given: string | undefined): ControllerName[] {
  if (given === undefined || given === "") {
    return controllerNames.filter((name) => spec.controllers[members[name]] !== undefined);
  }
  const words = given.split(",").map((word) => word.trim()).map((word) => (word === "profile" ? "namespace" : word));
  const unknown = words.find((word) => !controllerNames.some((name) => name === word));
  if (unknown === "flannelmigration") {
    throw new Problem({
      code: "unsupported",
      what: "there is no migration from flannel",
      where: "ENABLED_CONTROLLERS",
      todo: `Name some of ${controllerNames.join(",")}`,
    });
  }
  if (unknown !== undefined) throw bad("ENABLED_CONTROLLERS", unknown, `some of ${controllerNames.join(",")}`);
  return controllerNames.filter((name) => words.includes(name));
}

/** Logrus' names: `warn` is told as `Warning`. */
function levelOf(spec: Spec, env: Env): { level: Level; said: string } {
  const given = env("LOG_LEVEL");
  const text = given ?? spec.logSeverityScreen ?? "Info", level = parseLevel(text.replace(/^panic$/i, "fatal"));
  if (given !== undefined && !level) throw bad("LOG_LEVEL", given, "debug, info, warn or error");
  const word = level ? text.toLowerCase() : "info";
  const said = word === "warn" ? "warning" : word;
  return { level: level ?? "info", said: said[0]!.toUpperCase() + said.slice(1) };
}

function durationIn(given: string | undefined, name: string): string | undefined {
  if (given === undefined) return undefined;
  const ns = parseDuration(given);
  if (ns === undefined) throw bad(name, given, "a duration such as 10m");
  return canonicalDuration(ns);
}

/** As Go reads it. */
function booleanIn(given: string | undefined, name: string): boolean | undefined {
  if (given === undefined) return undefined;
  if (/^(1|t|T|true|TRUE|True)$/.test(given)) return true;
  if (/^(0|f|F|false|FALSE|False)$/.test(given)) return false;
  throw bad(name, given, "true or false");
}

const onOff = (value: boolean): "Enabled" | "Disabled" => value ? "Enabled" : "Disabled";

const bad = (where: string, given: string, wanted: string) =>
  new Problem({ code: "bad-input", what: `"${given}" cannot be used`, where, todo: `Give ${wanted}` });
