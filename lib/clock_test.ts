import assert from "node:assert/strict";
import { Backoff } from "./backoff.ts";
import { FakeClock, goTimestamp, rfc3339, withDeadline } from "./clock.ts";

Deno.test("times are written as Go writes them", () => {
  const at = Date.UTC(2026, 10, 21, 8, 31, 42, 550);
  assert.equal(rfc3339(at), "2026-11-21T08:31:42Z");
  assert.equal(goTimestamp(at), "2026-11-21 08:31:42.55 +0000 UTC");
  assert.equal(goTimestamp(at - 550 - 2000), "2026-11-21 08:31:40 +0000 UTC");
});

Deno.test("withDeadline() gives the result in time, else the error, and tells the work", async () => {
  const clock = new FakeClock();
  assert.equal(await withDeadline(10, () => Promise.resolve("done"), () => new Error("late"), clock), "done");
  let told = false;
  const slow = withDeadline(
    10,
    (signal) => {
      signal.addEventListener("abort", () => told = true);
      return new Promise(() => {});
    },
    () => new Error("late"),
    clock,
  );
  const outcome = assert.rejects(slow, /late/);
  await clock.advance(10);
  await outcome;
  assert.ok(told);
});

Deno.test("a sleep ends early when its signal is aborted", async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  const sleep = clock.sleep(1000, stop.signal);
  stop.abort(new Error("enough"));
  await assert.rejects(sleep, /enough/);
});

Deno.test("back-off doubles up to its maximum, with half of it random, and starts over after reset()", () => {
  const b = new Backoff({ firstMs: 50, maxMs: 300, random: () => 1 });
  assert.deepEqual([b.next(), b.next(), b.next(), b.next()], [50, 100, 200, 300]);
  b.reset();
  assert.equal(b.next(), 50);
  assert.equal(new Backoff({ firstMs: 50, maxMs: 300, random: () => 0 }).next(), 25);
});
