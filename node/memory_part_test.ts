import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { keepMemorySmall } from "./memory_part.ts";

Deno.test("memory is given back after the first sync, a new list and many changes, and never for nothing", async () => {
  const clock = new FakeClock(), stop = new AbortController(), synced = Promise.withResolvers<void>();
  const mirror = { listsBegun: 1, revision: 100n };
  let times = 0;
  const done = keepMemorySmall({ clock, mirror, signal: stop.signal }, synced.promise, () => times++);
  const after = async (minutes: number) => {
    for (let i = 0; i < 20; i++) await Promise.resolve();
    await clock.advance(minutes * 60_000);
    return times;
  };
  assert.equal(await after(5), 0); // not in sync
  synced.resolve();
  assert.equal(await after(5), 1);
  mirror.revision += 19_999n;
  assert.equal(await after(5), 1);
  mirror.revision++;
  assert.equal(await after(5), 2);
  mirror.listsBegun++;
  assert.equal(await after(5), 3);
  assert.equal(await after(60), 3);
  stop.abort(new Error("the test is over"));
  await done;
});
