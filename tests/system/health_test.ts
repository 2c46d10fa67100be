/** The health server on a real port. */
import assert from "node:assert/strict";
import { Health } from "../../lib/health.ts";
import { createLog, silentLog } from "../../lib/log.ts";
import { createMetrics } from "../../lib/metrics.ts";
import { FakeClock } from "../../lib/clock.ts";
import { serveHealth } from "../../node/health.ts";

const at = (port: number) => ({ enabled: true, host: "localhost", port });

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
