import { deepEqual, equal, rejects } from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { Watcher } from "./_watcher.ts";
import type { Drop } from "./report.ts";

const drop: Drop = {
  ...{ is: "drop", time: "", node: "n", direction: "ingress", decider: { by: "no profile matched" }, hook: "FORWARD" },
  ...{ source: "10.0.0.1", destination: "10.0.0.2", protocol: 6, sourcePort: 1, destinationPort: 2, flags: [] },
  packets: 3,
};
const forever = new AbortController().signal;

Deno.test("a burst is told, and the rest is counted in packets", async () => {
  const clock = new FakeClock(), watcher = new Watcher(clock);
  watcher.push(Array(130).fill(drop), 7);
  const told = await watcher.next(1_000, forever);
  equal(told.filter((r) => r.is === "drop").length, 100);
  deepEqual(told.at(-1), { is: "left out", packets: 30 * 3 + 7 });
  await clock.advance(1_000);
  watcher.push(Array(60).fill(drop), 0);
  const later = await watcher.next(1_000, forever);
  equal(later.filter((r) => r.is === "drop").length, 50);
});

Deno.test("silence is an empty answer, and a failure is told", async () => {
  const clock = new FakeClock(), watcher = new Watcher(clock);
  const quiet = watcher.next(1_000, forever);
  await clock.advance(1_000);
  deepEqual(await quiet, []);
  watcher.fail(new Error("the group is gone"));
  await rejects(watcher.next(1_000, forever), /the group is gone/);
});
