import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Settings } from "./settings.ts";

/** Where health is served. */
export interface HealthSettings {
  enabled: boolean;
  host: string;
  port: number;
}

/** What the server shows. */
export interface HealthParts {
  health: Health;
  /** Text of `/metrics` in Prometheus' format. */
  metrics(): Promise<string>;
  settings: HealthSettings;
  log: Logger;
}

/** FELIX_HEALTHENABLED (default true), FELIX_HEALTHHOST (default localhost), FELIX_HEALTHPORT (default 9099). */
export function healthSettings(_settings: Pick<Settings, "get">): HealthSettings {
  throw new Error("not built yet");
}

/** A running server; `port` is the one it listens at. */
export interface HealthServer extends AsyncDisposable {
  readonly port: number;
}

/** Serves `/liveness`, `/readiness`, `/healthz`, `/readyz` and `/metrics`. @throws Problem when the port is taken. */
export function serveHealth(_parts: HealthParts): HealthServer {
  throw new Error("not built yet");
}
