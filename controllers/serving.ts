import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Metrics } from "../lib/metrics.ts";
import { messageOf } from "../lib/problem.ts";
import type { LiveSettings } from "./live_settings.ts";

/** What servers work with. */
export interface ServingParts {
  clock: Clock;
  log: Logger;
}

/** Between two tries of a port that somebody else has, and between two looks at what the status file says. */
const retryMs = 5_000, lookMs = 1_000;

/** The answer to a probe: one line for each part that has something to say. */
export function healthAnswer(path: string, health: Health): Response {
  if (path !== "/readiness" && path !== "/liveness") return new Response("not found\n", { status: 404 });
  const isReadiness = path === "/readiness", isGood = isReadiness ? health.ready() : health.live();
  const lines = health.parts().map(({ name, ready, why }) =>
    `${name}: ${ready ? "ready" : `not ready: ${why ?? ""}`}\n`
  );
  return new Response(lines.join(""), { status: isGood ? 200 : 503 });
}

/**
 * Serves metrics on the port of the settings, which may change; until the signal. A port that cannot be had is tried again,
 * and holds nothing up.
 */
export async function serveMetrics(
  metrics: Metrics,
  live: LiveSettings,
  { clock, log }: ServingParts,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const port = live.running.metricsPort;
    const server = port === 0 ? undefined : listen(port, metrics, log);
    const isWanted = () => live.running.metricsPort === port && !signal.aborted;
    if (port !== 0 && !server) {
      await clock.sleep(retryMs, signal).catch(() => {}); // aborted: the loop looks for that
      continue;
    }
    while (isWanted()) await live.changed(signal);
    await server?.shutdown();
  }
}

function listen(port: number, metrics: Metrics, log: Logger): Deno.HttpServer | undefined {
  const answer = async (request: Request) => {
    if (new URL(request.url).pathname !== "/metrics") return new Response("not found\n", { status: 404 });
    return new Response(await metrics.text(), { headers: { "content-type": "text/plain; version=0.0.4" } });
  };
  try {
    return Deno.serve({ port, onListen() {} }, answer);
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse || error instanceof Deno.errors.PermissionDenied)) throw error;
    log.warn("metrics cannot be served", { port, why: messageOf(error) });
    return undefined;
  }
}

/**
 * Writes what is ready to a file as Calico does, for its probes: `check-status -r` reads it. Until the signal.
 * Source: Calico kube-controllers/pkg/status.
 */
export async function keepStatusFile(
  file: string | undefined,
  health: Health,
  live: LiveSettings,
  { clock, log }: ServingParts,
  signal: AbortSignal,
): Promise<void> {
  let written = "";
  while (file !== undefined && !signal.aborted) {
    const text = statusText(health);
    if (live.running.healthChecks && text !== written) {
      try {
        await Deno.writeTextFile(file, text);
        written = text;
      } catch (error) {
        log.warn("the status file cannot be written", { file, why: messageOf(error) });
      }
    }
    await clock.sleep(lookMs, signal).catch(() => {}); // aborted: the loop looks for that
  }
}

/** `{"Readiness":{"policy":{"Ready":true,"Reason":""}, …}}` */
export const statusText = (health: Health): string =>
  JSON.stringify({
    Readiness: Object.fromEntries(
      health.parts().map(({ name, ready, why }) => {
        return [name, { Ready: ready, Reason: ready ? "" : why ?? "" }];
      }),
    ),
  });
