/** The health server on a real port. */
import assert from "node:assert/strict";
import { Health } from "../../lib/health.ts";
import { createLog, silentLog } from "../../lib/log.ts";
import { createMetrics } from "../../lib/metrics.ts";
import { FakeClock, systemClock } from "../../lib/clock.ts";
import { serveHealth } from "../../node/health.ts";
import { Serving, servingSettings } from "../../node/serving.ts";
import { makeAuthority } from "../lab/certificates.ts";
import { freePorts } from "../lab/port.ts";
import { wait } from "../lab/wait.ts";

const at = (port: number) => ({ host: "localhost", port });

Deno.test("health is served where it is told, and the port is free again afterwards", async () => {
  const health = new Health();
  health.register("agent");
  const metrics = await createMetrics();
  let port: number;
  {
    await using server = serveHealth({ health, metrics: () => metrics.text() }, at(0), silentLog);
    port = await server.listening;
    const ask = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: response.status, text: await response.text() };
    };
    assert.equal((await ask("/liveness")).status, 200);
    assert.equal((await ask("/readiness")).status, 503);
    health.report("agent", true);
    assert.equal((await ask("/readiness")).status, 200);
    assert.match((await ask("/metrics")).text, /^felix_resyncs_started 0$/m);
  }
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  listener.close();
});

/** What Deno's own server does with a request that is never answered goes on after its end was given up. */
const withUnanswered = { sanitizeOps: false, sanitizeResources: false };

Deno.test("a request that is never answered does not hold up the end of the server", withUnanswered, async () => {
  const clock = new FakeClock();
  let isAsked = false;
  const parts = {
    health: new Health(),
    metrics: () => {
      isAsked = true;
      return new Promise<string>(() => {});
    },
  };
  const server = serveHealth(parts, at(0), silentLog, clock);
  using connection = await Deno.connect({ hostname: "127.0.0.1", port: await server.listening });
  await connection.write(new TextEncoder().encode("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"));
  await wait("the request", () => isAsked, { everyMs: 1 });
  let isOver = false;
  const ending = server[Symbol.asyncDispose]().then(() => isOver = true);
  await wait("the end", () => clock.advance(500).then(() => isOver), { everyMs: 5 });
  await ending;
});

Deno.test("a port that is taken is told and tried again, and does not end the process", async () => {
  const other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = other.addr as Deno.NetAddr;
  const clock = new FakeClock();
  let told!: () => void;
  const complained = new Promise<void>((resolve) => told = resolve);
  const log = createLog("health", { write: (line) => line.includes("cannot be served") && told() });
  const parts = { health: new Health(clock), metrics: () => Promise.resolve("") };
  await using server = serveHealth(parts, at(port), log, clock);
  await complained;
  other.close();
  await clock.advance(2_000);
  assert.equal(await server.listening, port);
});

Deno.test("a server that never got its port is disposed without waiting for it", async () => {
  const other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = other.addr as Deno.NetAddr;
  const parts = { health: new Health(), metrics: () => Promise.resolve("") };
  const server = serveHealth(parts, at(port), silentLog, new FakeClock());
  await server[Symbol.asyncDispose]();
  await assert.rejects(server.listening, /health server was stopped/);
  other.close();
});

Deno.test("servers follow their settings: another port, off, on again, with a certificate; no TLS with client certificates", async () => {
  const lines: string[] = [];
  const log = createLog("health", { write: (line) => void lines.push(line) });
  await using serving = new Serving(
    { health: new Health(), metrics: () => Promise.resolve("up 1\n") },
    log,
    systemClock,
  );
  const [first, second] = freePorts(2) as [number, number];
  const settings = (spec: Record<string, unknown>) =>
    servingSettings({
      env: () => undefined,
      configurations: [{
        name: "default",
        spec: { healthEnabled: false, prometheusMetricsHost: "127.0.0.1", ...spec },
      }],
    }).settings;
  const answers = async (port: number, scheme = "http", client?: Deno.HttpClient) => {
    const response = await fetch(`${scheme}://127.0.0.1:${port}/metrics`, { client }).catch(() => undefined);
    return await response?.text();
  };
  const becomes = (port: number, text: string | undefined, scheme?: string, client?: Deno.HttpClient) =>
    wait(`port ${port} to answer ${text}`, async () => await answers(port, scheme, client) === text);
  const on = { prometheusMetricsEnabled: true };
  await serving.want(settings({ ...on, prometheusMetricsPort: first }));
  await becomes(first, "up 1\n");
  await serving.want(settings({ ...on, prometheusMetricsPort: second }));
  await becomes(second, "up 1\n");
  await becomes(first, undefined);
  await serving.want(settings({}));
  await becomes(second, undefined);

  const dir = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "st-tls" });
  const authority = await makeAuthority(dir);
  const { certFile, keyFile } = await authority.issue("metrics", ["127.0.0.1"]);
  const tls = { prometheusMetricsPort: first, prometheusMetricsCertFile: certFile, prometheusMetricsKeyFile: keyFile };
  await serving.want(settings({ ...on, ...tls }));
  using client = Deno.createHttpClient({ caCerts: [await Deno.readTextFile(authority.certFile)] });
  await becomes(first, "up 1\n", "https", client);
  await serving.want(settings({ ...on, ...tls, prometheusMetricsClientAuth: "RequireAnyClientCert" }));
  await becomes(first, undefined, "https", client);
  assert.ok(lines.some((line) => line.includes("metrics are not served")));
  await Deno.remove(dir, { recursive: true });
});
