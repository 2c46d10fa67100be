import assert from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { Problem } from "../../lib/problem.ts";
import { Waiters } from "./_waiters.ts";

const start = () => {
  const clock = new FakeClock();
  let wakes = 0;
  return { clock, waiters: new Waiters(clock, () => void wakes++), wakes: () => wakes };
};

Deno.test("a waiter is answered when nothing is missing any more, and wakes the loop at once", async () => {
  const { waiters, wakes } = start();
  let missing: string | undefined = "a route";
  const wait = waiters.add("k", 1000, () => missing);
  assert.deepEqual([wakes(), [...waiters.keys()]], [1, ["k"]]);
  waiters.settle();
  missing = undefined;
  waiters.settle();
  await wait;
  assert.deepEqual([...waiters.keys()], []);
});

Deno.test("a waiter whose time is over is told what is missing", async () => {
  const { waiters, clock } = start();
  const wait = waiters.add("/key", 1000, () => "interface cali1 does not exist");
  const refused = assert.rejects(wait, (error: Problem) =>
    error.code === "not-ready" && error.where === "/key" &&
    error.what === "endpoint is not in force after 1000 ms: interface cali1 does not exist");
  await clock.advance(1000);
  await refused;
  waiters.settle();
});

Deno.test("a waiter is told at once when the kernel refused", async () => {
  const { waiters } = start();
  const refusal = new Problem({ code: "kernel", what: "no" });
  const wait = waiters.add("k", 1000, () => {
    throw refusal;
  });
  waiters.settle();
  await assert.rejects(wait, refusal);
});

Deno.test("several wait for one endpoint, each for itself; all are told at the end", async () => {
  const { waiters, clock } = start();
  const short = waiters.add("k", 10, () => "x"), long = waiters.add("k", 1000, () => "x");
  const late = assert.rejects(short, /after 10 ms/);
  await clock.advance(10);
  await late;
  waiters.rejectAll(new Problem({ code: "not-ready", what: "stopping" }));
  await assert.rejects(long, /stopping/);
});
