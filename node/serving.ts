import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import { type Level, type Logger, parseLevel } from "../lib/log.ts";
import type { Mirror } from "../datastore/mirror.ts";
import { FelixSources } from "../agent/felix_sources.ts";
import type { Refusals } from "../agent/refusals.ts";
import {
  anyText,
  flag,
  integer,
  milliseconds,
  pairs,
  parameterOf,
  problemsByObject,
  type Read,
  resolveSettings,
  type Row,
  type SettingProblem,
  type SettingSources,
  word,
} from "../agent/settings.ts";
import { durationMs } from "../datastore/duration.ts";
import { idleReason } from "./idle_parameters.ts";
import { type HealthParts, type HealthServer, serveHealth, type ServeSettings } from "./health.ts";

/** Felix's parameters of health, metrics and log. */
export interface ServingSettings {
  healthEnabled: boolean;
  healthHost: string;
  healthPort: number;
  metricsEnabled: boolean;
  metricsHost: string;
  metricsPort: number;
  certFile: string;
  keyFile: string;
  clientAuth: "none" | "other";
  processMetrics: boolean;
  logLevel: Level;
  /** After how long a silent part is taken for dead, by Felix's name of it or ours. */
  timeouts: ReadonlyMap<string, number>;
  /** The same for the parts that write into the kernel; undefined = theirs. */
  watchdogMs: number | undefined;
}

/** A name or address. */
const host: Read<string> = (value) => {
  const text = anyText(value);
  return text !== undefined && /^[a-zA-Z0-9:._+-]{0,64}$/.test(text) ? text : undefined;
};
const level: Read<Level> = (value) => parseLevel(String(value));
const timeouts: Read<ReadonlyMap<string, number>> = (value) => {
  const said = Array.isArray(value)
    ? value.map((o: { name?: unknown; timeout?: unknown }) => [String(o?.name), String(o?.timeout)] as const)
    : pairs(value);
  if (!said) return undefined;
  const found = [...said].map(([name, text]) => [name.trim(), durationMs(text)] as const);
  return found.every(([, ms]) => ms !== undefined && ms >= 0) ? new Map(found as [string, number][]) : undefined;
};
const clientAuth: Read<"none" | "other"> = (value) => {
  const mode = word("noclientcert", "requireandverifyclientcert", "requireanyclientcert", "verifyclientcertifgiven");
  const said = mode(value);
  return said && (said === "noclientcert" ? "none" : "other");
};

const rows: { [K in keyof ServingSettings]: Row<ServingSettings[K]> } = {
  // DIFFERS: health is served unless it is switched off; Felix serves it only when it is switched on.
  healthEnabled: ["healthEnabled", flag, true],
  healthHost: ["healthHost", host, "localhost"],
  healthPort: ["healthPort", integer(0, 65535), 9099],
  metricsEnabled: ["prometheusMetricsEnabled", flag, false],
  metricsHost: ["prometheusMetricsHost", host, ""],
  metricsPort: ["prometheusMetricsPort", integer(0, 65535), 9091],
  certFile: ["prometheusMetricsCertFile", anyText, ""],
  keyFile: ["prometheusMetricsKeyFile", anyText, ""],
  clientAuth: ["prometheusMetricsClientAuth", clientAuth, "none"],
  processMetrics: ["prometheusProcessMetricsEnabled", flag, true],
  logLevel: ["logSeverityScreen", level, "info"],
  timeouts: ["healthTimeoutOverrides", timeouts, new Map<string, number>()],
  watchdogMs: ["dataplaneWatchdogTimeout", milliseconds, undefined],
};

/** Resolves the parameters. */
export const servingSettings = (
  sources: SettingSources,
): { settings: ServingSettings; problems: SettingProblem[] } => resolveSettings<ServingSettings>(rows, sources);

/** Felix's names of what watches itself, and our parts that do that work. */
const felixParts: Record<string, string[]> = {
  CalculationGraph: ["policy calculation"],
  InternalDataplaneMainLoop: ["dataplane", "policy"],
};

/** By our part, after how many milliseconds of silence it is taken for dead. */
export function partTimeouts({ timeouts, watchdogMs }: ServingSettings): Map<string, number> {
  const found = new Map<string, number>();
  if (watchdogMs !== undefined) {
    for (const part of felixParts.InternalDataplaneMainLoop!) {
      found.set(part, watchdogMs);
    }
  }
  for (const [name, ms] of timeouts) for (const part of felixParts[name] ?? [name]) found.set(part, ms);
  return found;
}

/** Where and how a server listens; undefined = it is not to be. */
function placesOf(s: ServingSettings, log: Logger): Record<"health" | "metrics", ServeSettings | undefined> {
  const tls = s.certFile !== "" && s.keyFile !== "" ? { certFile: s.certFile, keyFile: s.keyFile } : undefined;
  const halfTls = !tls && (s.certFile !== "" || s.keyFile !== "");
  const refused = halfTls || s.clientAuth === "other";
  if (s.metricsEnabled && refused) {
    const todo = "Give both certificate and key, and PrometheusMetricsClientAuth NoClientCert";
    log.error("metrics are not served: this kind of TLS is not there", { todo });
  }
  return {
    health: s.healthEnabled ? { host: s.healthHost, port: s.healthPort } : undefined,
    metrics: s.metricsEnabled && !refused ? { host: s.metricsHost, port: s.metricsPort, tls } : undefined,
  };
}

/** The servers of health and metrics: follow their settings without a restart of the process. */
export class Serving implements AsyncDisposable {
  readonly #running = new Map<string, { at: string; server: HealthServer }>();
  #last = "";
  constructor(
    private readonly parts: HealthParts & { health: Health },
    private readonly log: Logger,
    private readonly clock: Clock,
  ) {}

  /** Serves there, and nowhere else. */
  async want(settings: ServingSettings): Promise<void> {
    this.parts.health.setTimeouts(partTimeouts(settings));
    const text = JSON.stringify(settings);
    if (text === this.#last) return;
    this.#last = text;
    for (const [name, place] of Object.entries(placesOf(settings, this.log))) {
      const at = JSON.stringify(place), running = this.#running.get(name);
      if (running?.at === at) continue;
      this.#running.delete(name);
      await running?.server[Symbol.asyncDispose]();
      if (place) this.#running.set(name, { at, server: serveHealth(this.parts, place, this.log, this.clock) });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { server } of this.#running.values()) await server[Symbol.asyncDispose]();
  }
}

/** Fields of FelixConfigurations in force that ask for what is not there. */
export function idleSettings(
  { configurations = [] }: SettingSources,
): { object: string; setting: string; why: string }[] {
  return configurations.flatMap(({ name, spec }) =>
    Object.entries(spec).flatMap(([setting, value]) => {
      const why = idleReason(parameterOf(setting), value);
      return why === undefined ? [] : [{ object: `FelixConfiguration:${name}`, setting, why }];
    })
  );
}

/** What follows the settings of health, metrics and log. */
export interface ServingDeps {
  mirror: Pick<Mirror, "changes">;
  node: string;
  env: (name: string) => string | undefined;
  serving: Serving;
  /** Takes the log's level. */
  level: (level: Level) => void;
  /** Takes whether the process tells of itself. */
  processMetrics: (enabled: boolean) => void;
  refusals: Refusals;
  log: Logger;
  signal: AbortSignal;
}

/** Follows the datastore's parameters until the signal. */
export async function followServing(deps: ServingDeps): Promise<void> {
  const { mirror, node, env, serving, refusals, log, signal } = deps;
  const felix = new FelixSources(node, env);
  let first = true;
  for await (const changes of mirror.changes(signal)) {
    if (!felix.update(changes).changed && !first) continue;
    first = false;
    const { settings, problems } = servingSettings(felix.sources());
    refusals.set("serving's settings", problemsByObject(problems), "setting not understood");
    for (const { object, setting, why } of idleSettings(felix.sources())) {
      log.warn("setting does nothing here", { object, setting, why });
    }
    deps.level(settings.logLevel);
    deps.processMetrics(settings.processMetrics);
    await serving.want(settings);
  }
}
