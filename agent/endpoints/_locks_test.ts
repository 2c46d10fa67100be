import { deepEqual, rejects } from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { isProblem } from "../../lib/problem.ts";
import { Locks } from "./_locks.ts";
import { Patience } from "./_patience.ts";

Deno.test("hold() runs work of one key in order, of others side by side, and goes on after a failure", async () => {
  const locks = new Locks(), events: string[] = [];
  const gate = Promise.withResolvers<void>();
  const work = (name: string, until?: Promise<void>) => async () => {
    events.push(`${name} begins`);
    await until;
    events.push(`${name} ends`);
  };
  const a = locks.hold(["x", "y"], work("a", gate.promise));
  const b = locks.hold(["y"], work("b"));
  const c = locks.hold(["z"], work("c"));
  const d = locks.hold(["z", "y"], () => Promise.reject(new Error("d")));
  const e = locks.hold(["y"], work("e"));
  await c;
  gate.resolve();
  await rejects(d, /d/);
  await Promise.all([a, b, e]);
  deepEqual(events, ["a begins", "c begins", "c ends", "a ends", "b begins", "b ends", "e begins", "e ends"]);
});

Deno.test("within() gives up when nobody was answered for so long, not when others are served first", async () => {
  const clock = new FakeClock(), patience = new Patience(clock);
  const slow = Promise.withResolvers<string>();
  const waiting = patience.within(1000, () => slow.promise, "ADD");
  for (let i = 0; i < 5; i++) {
    await clock.advance(800);
    await patience.within(1000, () => Promise.resolve(), "ADD");
  }
  slow.resolve("served");
  deepEqual(await waiting, "served");
  const never = patience.within(1000, () => new Promise(() => {}), "DEL");
  const refused = rejects(never, (error: unknown) => isProblem(error, "unavailable"));
  await clock.advance(1001);
  await refused;
});
