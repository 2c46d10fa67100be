import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import { formatIp } from "../lib/ip.ts";
import type { CallOptions, Range, Snapshot, Store, Txn, TxnResult } from "../datastore/store.ts";
import { judge } from "../tests/ipam_judge.ts";
import type { Allocator } from "./commit.ts";
import { coldReader } from "./view.ts";
import { type TestClock, TestCluster, type TestMirror, workload } from "./_test_cluster.ts";

/** Thrown into a process that has died: nothing it does afterwards reaches the store. */
class Dead extends Error {}

/** `late`: the caller is told of a failure, and the server carries the call out some time afterwards. */
type Fault = "none" | "fail" | "lose" | "late" | "die before" | "die after";

/** A store as one process sees it: each call waits for the scheduler, then meets its fault. */
function storeOf(cluster: TestCluster, scheduler: fc.Scheduler, faults: Fault[], late: Promise<unknown>[] = []): Store {
  const { store } = cluster;
  let dead = false;
  const call = async <T>(label: string, work: () => Promise<T>): Promise<T> => {
    await scheduler.schedule(Promise.resolve(), label);
    const fault = dead ? "die before" : faults.shift() ?? "none";
    if (fault === "die before" || fault === "die after") dead = true;
    if (fault === "die before") throw new Dead();
    if (fault === "late") late.push(scheduler.schedule(Promise.resolve(), `late ${label}`).then(work));
    if (fault === "fail" || fault === "late") {
      store.failNext();
      await store.get("any");
    }
    if (fault === "lose") {
      await work();
      store.failNext();
      await store.get("any");
    }
    const result = await work();
    if (fault === "die after") throw new Dead();
    return result;
  };
  const rest = { get: store.get.bind(store), list: store.list.bind(store), watch: store.watch.bind(store) };
  return {
    ...rest,
    lease: store.lease.bind(store),
    status: store.status.bind(store),
    requests: store.requests,
    read: (what: (string | Range)[], o?: CallOptions): Promise<Snapshot> => call("read", () => store.read(what, o)),
    txn: (txn: Txn, o?: CallOptions): Promise<TxnResult> => call("txn", () => store.txn(txn, o)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** What all workloads together believe: address -> handle; and handles of which a dead process had not told. */
interface Belief {
  held: Map<string, string>;
  unsure: Set<string>;
  doubles: string[];
}

interface Process {
  node: string;
  clock: TestClock;
  allocator: Allocator;
  mirror: TestMirror;
}

/** One pod's life: gets addresses, holds them, gives them back, as often as `rounds` says; ends early with its process. */
async function live({ clock, ...process }: Process, name: string, rounds: Round[], belief: Belief): Promise<void> {
  for (const [i, round] of rounds.entries()) {
    const handle = `net.${name}-${i}`;
    belief.unsure.add(handle);
    try {
      if (round.wait) clock.step(61_000);
      if (round.sync) await process.mirror.sync();
      const families = { 4: round.four, 6: round.six };
      const [got] = await process.allocator.assign([workload(process.node, handle, { families })]);
      if (got!.problem?.code === "unavailable") continue;
      if (round.learn) process.mirror.learn(got!.commit?.events ?? []);
      for (const { ip } of got!.addresses) {
        const text = formatIp(ip);
        if (belief.held.has(text)) belief.doubles.push(`${text}: ${belief.held.get(text)} and ${handle}`);
        belief.held.set(text, handle);
      }
      belief.unsure.delete(handle);
      if (!round.release) continue;
      belief.unsure.add(handle);
      for (const { ip } of got!.addresses) belief.held.delete(formatIp(ip));
      const [gone] = await process.allocator.release([{ handle }]);
      if (!gone!.problem) belief.unsure.delete(handle);
    } catch (error) {
      if (error instanceof Dead) return;
      throw error;
    }
  }
}

interface Round {
  four: number;
  six: number;
  release: boolean;
  sync: boolean;
  /** A minute passes first, so that empty blocks may be reclaimed and cooldowns end. */
  wait: boolean;
  learn: boolean;
}

const round: fc.Arbitrary<Round> = fc.record({
  four: fc.integer({ min: 1, max: 2 }),
  six: fc.integer({ min: 0, max: 1 }),
  release: fc.boolean(),
  sync: fc.boolean(),
  wait: fc.boolean(),
  learn: fc.boolean(),
});
const fault: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 12, arbitrary: fc.constant<Fault>("none") },
  { weight: 2, arbitrary: fc.constantFrom<Fault>("fail", "lose", "late") },
  { weight: 1, arbitrary: fc.constantFrom<Fault>("die before", "die after") },
);
const world = fc.record({
  strict: fc.boolean(),
  cooldownS: fc.constantFrom(0, 0, 5),
  processes: fc.array(
    fc.record({
      node: fc.constantFrom("n1", "n2", "n3"),
      faults: fc.array(fault, { maxLength: 30 }),
      pods: fc.array(fc.array(round, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }),
    }),
    { minLength: 2, maxLength: 4 },
  ),
  giveUp: fc.array(fc.constantFrom("n1", "n2"), { maxLength: 2 }),
});

Deno.test("in any interleaving, with conflicts, lost answers, late successes and crashes at every step, no address is given twice and all agree", async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), world, async (scheduler, given) => {
      const pools = [{ name: "four", cidr: "10.9.0.0/28", blockSize: 30 }, {
        name: "six",
        cidr: "fd00::/124",
        blockSize: 126,
      }];
      const cluster = await TestCluster.with(pools, ["n1", "n2", "n3"]);
      const config = { auto_allocate_blocks: true, strict_affinity: given.strict, ipCooldownSeconds: given.cooldownS };
      await cluster.put("/calico/ipam/v2/config", config);
      const belief: Belief = { held: new Map(), unsure: new Set(), doubles: [] };
      const lives: Promise<void>[] = [];
      const late: Promise<unknown>[] = [];
      for (const [p, { node, faults, pods }] of given.processes.entries()) {
        const mirror = await cluster.mirror();
        const allocator = cluster.allocator(() => mirror, { store: storeOf(cluster, scheduler, [...faults], late) });
        const process = { node, clock: cluster.clock, mirror, allocator };
        for (const [n, rounds] of pods.entries()) lives.push(live(process, `p${p}w${n}`, rounds, belief));
      }
      const other = cluster.allocator(() => coldReader(cluster.store), { store: storeOf(cluster, scheduler, []) });
      const gaveUp = given.giveUp.map((node) => other.releaseAffinities({ node }, true));
      await scheduler.waitFor(Promise.all([...lives, ...gaveUp]));
      await scheduler.waitFor(Promise.all(late));
      deepEqual(belief.doubles, []);
      // What a dead process left: the runtime deletes what it was never told about.
      const heir = cluster.allocator(() => coldReader(cluster.store));
      cluster.clock.advance(1);
      const outcomes = await heir.release([...belief.unsure].map((handle) => ({ handle })));
      deepEqual(outcomes.flatMap((o) => o.problem ?? []), []);
      deepEqual(judge(cluster.store.contents(), { held: belief.held, nowMs: cluster.clock.now() }), []);
    }),
    { numRuns: 200 },
  );
});

Deno.test("when all is released nothing is left but empty blocks of their owners", async () => {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.array(round, { minLength: 4, maxLength: 8 }), async (scheduler, rounds) => {
      const cluster = await TestCluster.with([{ name: "p", cidr: "10.9.0.0/29", blockSize: 31 }], ["n1", "n2"]);
      const belief: Belief = { held: new Map(), unsure: new Set(), doubles: [] };
      const lives = await Promise.all(rounds.map(async (r, i) => {
        const mirror = await cluster.mirror();
        const store = storeOf(cluster, scheduler, []);
        return {
          node: `n${1 + i % 2}`,
          mirror,
          clock: cluster.clock,
          allocator: cluster.allocator(() => mirror, { store }),
          r,
          i,
        };
      }));
      const all = lives.map((p) => live(p, `w${p.i}`, [{ ...p.r, six: 0, release: true }], belief));
      await scheduler.waitFor(Promise.all(all));
      equal(belief.held.size, 0);
      deepEqual(judge(cluster.store.contents(), { held: belief.held }), []);
      const keys = [...cluster.store.contents().keys()];
      deepEqual(keys.filter((k) => k.includes("/handle/")), []);
    }),
    { numRuns: 50 },
  );
});
