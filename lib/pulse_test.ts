import assert from "node:assert/strict";
import { Pulse } from "./pulse.ts";

Deno.test("beats while a follower is busy count as one, and the signal ends it", async () => {
  const pulse = new Pulse(), stop = new AbortController();
  const seen: number[] = [];
  let busy = Promise.withResolvers<void>(), n = 0;
  const follower = (async () => {
    for await (const _ of pulse.beats(stop.signal)) {
      seen.push(++n);
      await busy.promise;
    }
  })();
  const turns = async () => {
    for (let i = 0; i < 10; i++) await Promise.resolve();
  };
  await turns();
  pulse.beat();
  await turns();
  for (let i = 0; i < 5; i++) pulse.beat();
  assert.deepEqual(seen, [1]);
  busy.resolve();
  busy = Promise.withResolvers();
  await turns();
  assert.deepEqual(seen, [1, 2]);
  busy.resolve();
  await turns();
  stop.abort();
  await follower;
  pulse.beat();
  assert.deepEqual(seen, [1, 2]);
});
