import { Backoff } from "../lib/backoff.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { closeServer } from "../lib/http_server.ts";
import type { Health, PartHealth } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import { messageOf, Problem } from "../lib/problem.ts";

/** Where something is served. */
export interface ServeSettings {
  /** `localhost`, an address, or empty for all addresses. */
  host: string;
  port: number;
  /** Files with PEM; absent = plain HTTP. */
  tls?: { certFile: string; keyFile: string };
}

/** What an HTTP server of ours answers from. */
export interface HealthParts {
  health: Health;
  /** Text of `/metrics` in Prometheus' format. */
  metrics(): Promise<string>;
  /** Text of `/metrics/rules`; undefined = this process has no rules. */
  rules?(): Promise<string | undefined>;
}

/**
 * The answer to one request. `/liveness` and `/readiness` as Felix: 200 or 503 with a table; `/healthz` and `/readyz`:
 * the same as JSON `{live|ready, parts}`; `/metrics`; `/metrics/rules`.
 */
export async function answer(request: Request, parts: HealthParts): Promise<Response> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return new Response("only GET and HEAD\n", { status: 405, headers: { allow: "GET, HEAD" } });
  }
  const { health } = parts;
  switch (new URL(request.url).pathname) {
    case "/liveness":
      return table(health.live(), health.parts());
    case "/readiness":
      return table(health.ready(), health.parts());
    case "/healthz":
      return Response.json({ live: health.live(), parts: health.parts() }, { status: health.live() ? 200 : 503 });
    case "/readyz":
      return Response.json({ ready: health.ready(), parts: health.parts() }, { status: health.ready() ? 200 : 503 });
    case "/metrics":
      return exposition(await parts.metrics());
    case "/metrics/rules":
      return exposition(await parts.rules?.());
    default:
      return new Response("not found\n", { status: 404 });
  }
}

/** Text as Prometheus takes it; 404 when there is none. */
const exposition = (text: string | undefined): Response =>
  text === undefined
    ? new Response("not found\n", { status: 404 })
    : new Response(text, { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } });

function table(good: boolean, parts: PartHealth[]): Response {
  const rows = [["COMPONENT", "LIVENESS", "READINESS", "DETAIL"]];
  for (const p of parts) {
    rows.push([p.name, p.live ? "live" : "not live", p.ready ? "ready" : "not ready", p.why ?? ""]);
  }
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((r) => r[i]!.length)));
  const text = rows.map((r) => r.map((cell, i) => cell.padEnd(widths[i]! + 2)).join("").trimEnd()).join("\n");
  return new Response(`${text}\n`, { status: good ? 200 : 503, headers: { "content-type": "text/plain" } });
}

/** A server that listens, or tries to. */
export interface HealthServer extends AsyncDisposable {
  /** The port, as soon as it listens; rejects when it is disposed before that. */
  readonly listening: Promise<number>;
}

/**
 * Serves answer() at `at` until it is disposed. A port that is taken is tried again, and told in the log: health must not
 * bring down what it reports on.
 */
export function serveHealth(
  parts: HealthParts,
  at: ServeSettings,
  log: Logger,
  clock: Clock = systemClock,
): HealthServer {
  const stop = new AbortController();
  const server = listen(parts, at, log, clock, stop.signal);
  const listening = server.then((s) => s.addr.port);
  listening.catch(() => {});
  return {
    listening,
    async [Symbol.asyncDispose]() {
      stop.abort(new Problem({ code: "unavailable", what: "health server was stopped" }));
      const running = await server.catch(() => undefined);
      if (running) await closeServer(running, clock);
    },
  };
}

async function listen(
  parts: HealthParts,
  at: ServeSettings,
  log: Logger,
  clock: Clock,
  signal: AbortSignal,
): Promise<Deno.HttpServer<Deno.NetAddr>> {
  const backoff = new Backoff({ firstMs: 1000, maxMs: 5000, clock });
  // An empty host means all addresses; "localhost" must be the address that probes of either family try first.
  const hostname = at.host === "" ? "::" : at.host === "localhost" ? "127.0.0.1" : at.host;
  for (;;) {
    signal.throwIfAborted();
    try {
      const tls = at.tls && {
        cert: await Deno.readTextFile(at.tls.certFile),
        key: await Deno.readTextFile(at.tls.keyFile),
      };
      return Deno.serve({
        ...{ hostname, port: at.port, ...tls },
        onListen: ({ hostname, port }) => log.info("health is served", { host: hostname, port }),
        onError: (error) => {
          log.error("health request failed", { why: messageOf(error) });
          return new Response("internal error\n", { status: 500 });
        },
      }, (request) => answer(request, parts));
    } catch (error) {
      log.error("health cannot be served, trying again", { host: at.host, port: at.port, why: messageOf(error) });
      await backoff.wait(signal);
    }
  }
}
