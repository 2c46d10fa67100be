import { deepEqual, equal, rejects } from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import type { LoggedBatch } from "../../kernel/netfilter/nflog.ts";
import { Drops } from "./drops.ts";

const syn = new Uint8Array([
  ...[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
  ...[0x1f, 0x90, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2],
]);
const packet = { family: 4 as const, prefix: "DRI", hook: 2, inIndex: 3, outIndex: undefined, bytes: syn };

/** Everything around Drops: `told` = what the policy loop was asked for. */
function world() {
  const clock = new FakeClock(), told: boolean[] = [];
  let arrive = (_: LoggedBatch) => {};
  const state = { refusal: undefined as Problem | undefined };
  const drops = new Drops({
    node: "n1",
    policy: {
      logDrops(on) {
        told.push(on);
        return on && state.refusal ? Promise.reject(state.refusal) : Promise.resolve();
      },
      dropReasons: () =>
        new Map([["DRI", { decider: { by: "no profile matched" }, direction: "ingress", action: "deny" }]]),
    },
    async *packets(signal) {
      const queue: LoggedBatch[] = [{ packets: [], lost: 0 }];
      let wake = () => {};
      signal.addEventListener("abort", () => wake());
      arrive = (batch) => {
        queue.push(batch);
        wake();
      };
      while (!signal.aborted) {
        yield* queue.splice(0);
        if (queue.length === 0 && !signal.aborted) await new Promise<void>((resolve) => wake = resolve);
      }
    },
    interfaceName: (index) => (index === 3 ? "eth0" : undefined),
    clock,
    log: silentLog,
  });
  return { clock, told, drops, state, arrive: (batch: LoggedBatch) => arrive(batch) };
}
const forever = () => new AbortController().signal;
/** Lets what is under way come to its next wait. */
const settle = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

Deno.test("rules tell from the first watcher on until the last has gone for a while", async () => {
  const { clock, told, drops, arrive } = world();
  const one = drops.watch(forever(), 60_000), two = drops.watch(forever(), 60_000);
  deepEqual((await one.next()).value, [{ is: "watching", node: "n1" }]);
  await two.next();
  deepEqual(told, [true]);
  arrive({ packets: [packet, { ...packet, bytes: syn.map((b, i) => (i === 21 ? 0x91 : b)) }], lost: 4 });
  const [drop, left] = (await one.next()).value!;
  deepEqual(left, { is: "left out", packets: 4 });
  deepEqual(drop?.is === "drop" && [drop.in, drop.source, drop.destinationPort, drop.packets], [
    "eth0",
    "10.0.0.1",
    80,
    2,
  ]);
  await one.return(undefined);
  await clock.advance(10_000);
  deepEqual(told, [true], "the other one still watches");
  await two.return(undefined);
  await settle();
  await clock.advance(3_100);
  await settle();
  deepEqual(told, [true, false]);
  await drops[Symbol.asyncDispose]();
});

Deno.test("the time asked for ends the watching, and one who reads nothing keeps no rules in the kernel", async () => {
  const { clock, told, drops } = world();
  const short = drops.watch(forever(), 5_000);
  await short.next();
  await clock.advance(8_500);
  await settle();
  deepEqual(told, [true, false], "nobody had taken what was yielded");
  equal((await short.next()).value![0]!.is, "end");
  const stuck = drops.watch(forever(), 3_600_000);
  await stuck.next();
  for (let i = 0; i < 30; i++) {
    await clock.advance(3_000);
    await settle();
  }
  deepEqual(told, [true, false, true, false]);
  await drops[Symbol.asyncDispose]();
});

Deno.test("a kernel that cannot tell says so to who watches, and the next one is asked anew", async () => {
  const { told, drops, state } = world();
  state.refusal = new Problem({ code: "unsupported", what: "no NFLOG here" });
  await rejects(drops.watch(forever(), 60_000).next(), /no NFLOG here/);
  deepEqual(told, [true, false]);
  state.refusal = undefined;
  const watched = drops.watch(forever(), 60_000);
  equal((await watched.next()).value![0]!.is, "watching");
  await drops[Symbol.asyncDispose]();
  equal((await watched.next()).value![0]!.is, "end");
});
