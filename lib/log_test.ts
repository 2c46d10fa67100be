import assert from "node:assert/strict";
import { FakeClock } from "./clock.ts";
import { createLog, parseLevel } from "./log.ts";

function recorded(options: { level?: "debug" | "info" } = {}) {
  const lines: Record<string, unknown>[] = [];
  const clock = new FakeClock();
  const log = createLog("mirror", { ...options, clock, write: (l) => lines.push(JSON.parse(l)) });
  return { lines, clock, log };
}

Deno.test("a line has time, level, module, message and its fields", () => {
  const { lines, log } = recorded();
  log.child("dataplane", { node: "alder" }).info("policy programmed", { policy: "default/web", ms: 12n });
  assert.deepEqual(lines, [{
    ts: "2026-01-02T03:04:05.000Z",
    level: "info",
    mod: "dataplane",
    msg: "policy programmed",
    node: "alder",
    policy: "default/web",
    ms: 12,
  }]);
});

Deno.test("a line that cannot be written is lost and counted, and its writer goes on", () => {
  const counts = { dropped: 0, errors: 0 };
  const failures = [new Deno.errors.WouldBlock(), new Deno.errors.BrokenPipe(), new Deno.errors.BrokenPipe()];
  const write = () => {
    throw failures.shift();
  };
  const log = createLog("mirror", { clock: new FakeClock(), write, counts });
  for (const key of ["a", "b", "c"]) log.warn("value not understood", { key });
  assert.deepEqual(counts, { dropped: 1, errors: 2 });
});

Deno.test("a repeat within a minute is counted and said with the next line after it", async () => {
  const { lines, clock, log } = recorded();
  for (let i = 0; i < 5; i++) log.warn("value not understood", { key: "/calico/a", ms: i });
  log.warn("value not understood", { key: "/calico/b" });
  await clock.advance(60_000);
  log.warn("value not understood", { key: "/calico/a" });
  assert.deepEqual(lines.map((l) => [l.key, l.repeated]), [["/calico/a", undefined], ["/calico/b", undefined], [
    "/calico/a",
    4,
  ]]);
});

Deno.test("a line below the level is dropped; errors are written as their message", () => {
  const { lines, log } = recorded();
  log.debug("not wanted");
  log.error("went wrong", { why: new Error("no route") });
  assert.deepEqual(lines.map((l) => [l.msg, l.why]), [["went wrong", "no route"]]);
});

Deno.test("parseLevel() reads Calico's names", () => {
  assert.deepEqual(["Warning", "FATAL", "Trace", "loud"].map(parseLevel), ["warn", "error", "debug", undefined]);
});
