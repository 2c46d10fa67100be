import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeClock } from "../lib/clock.ts";
import { type Port, Reconciler, type Report } from "./reconcile.ts";

/** A world in memory: keys that begin with "f" are foreign. Faults are switched by the tests. */
class World implements Port<string, number> {
  readonly name = "world";
  entries = new Map<string, number>();
  lists = 0;
  writes: string[] = [];
  unreadable = false;
  /** Keys that cannot be written. */
  broken = new Set<string>();
  /** Keys whose writes are answered well and do nothing. */
  lying = new Set<string>();
  breaksDown = false;
  /** Runs inside the next apply(), after the writes: a foreign hand. */
  meanwhile: (() => void) | undefined;

  list(): Promise<Map<string, number>> {
    this.lists++;
    if (this.unreadable) return Promise.reject(new Error("cannot be read"));
    return Promise.resolve(new Map([...this.entries].filter(([key]) => !key.startsWith("f"))));
  }

  same(have: number, want: number): boolean {
    return have === want;
  }

  apply(put: [string, number][], remove: string[]): Promise<Map<string, Error>> {
    const failed = new Map<string, Error>();
    const ok = (key: string) => {
      if (this.broken.has(key)) failed.set(key, new Error("refused"));
      return !this.broken.has(key) && !this.lying.has(key);
    };
    for (const [key, value] of put) {
      this.writes.push(`+${key}`);
      if (ok(key)) this.entries.set(key, value);
    }
    for (const key of remove) {
      this.writes.push(`-${key}`);
      if (ok(key)) this.entries.delete(key);
    }
    this.meanwhile?.();
    this.meanwhile = undefined;
    return this.breaksDown ? Promise.reject(new Error("broke down")) : Promise.resolve(failed);
  }
}

/** A World that can be read by key. */
class ReadableWorld extends World {
  reads: string[][] = [];
  async read(keys: readonly string[]): Promise<Map<string, number>> {
    this.reads.push([...keys]);
    const all = await this.list();
    this.lists--;
    return new Map([...all].filter(([key]) => keys.includes(key)));
  }
}

const start = (verify: "list" | "ack" = "list", read = false) => {
  const world = read ? new ReadableWorld() : new World(), clock = new FakeClock();
  const reconciler = new Reconciler<string, number>(world, { clock, random: () => 1, verify });
  return { world, clock, reconciler };
};

Deno.test("flush() writes what differs and leaves foreign entries alone", async () => {
  const { world, reconciler } = start();
  world.entries = new Map([["a", 1], ["b", 2], ["old", 3], ["foreign", 9]]);
  reconciler.wantAll(new Map([["a", 1], ["b", 5], ["c", 6]]));
  const report = await reconciler.flush();
  assert.deepEqual(world.writes.sort(), ["+b", "+c", "-old"]);
  assert.deepEqual([...world.entries].sort(), [["a", 1], ["b", 5], ["c", 6], ["foreign", 9]]);
  assert.deepEqual([report.put, report.removed, report.retryInMs], [2, 1, undefined]);
});

Deno.test("in sync and nothing changed: flush() neither writes nor reads", async () => {
  for (const verify of ["list", "ack"] as const) {
    const { world, reconciler } = start(verify);
    reconciler.want("a", 1);
    await reconciler.flush();
    const before = [world.lists, world.writes.length];
    reconciler.want("a", 1);
    reconciler.wantAll(new Map([["a", 1]]));
    reconciler.doubt(["unknown"]);
    for (let i = 0; i < 3; i++) await reconciler.flush();
    assert.deepEqual([world.lists, world.writes.length], before);
    reconciler.doubt();
    await reconciler.flush();
    assert.deepEqual([world.lists, world.writes.length], [before[0]! + 1, before[1]]);
  }
});

Deno.test("a failing key waits with back-off and does not hold up the others", async () => {
  const { world, clock, reconciler } = start("ack");
  world.broken.add("a");
  reconciler.wantAll(new Map([["a", 1], ["b", 2]]));
  let report = await reconciler.flush();
  assert.equal(world.entries.get("b"), 2);
  assert.equal(report.failed.get("a")?.why, "refused");
  assert.equal(report.retryInMs, 100);
  await reconciler.flush();
  assert.equal(world.writes.filter((w) => w === "+a").length, 1, "not before its time");
  await clock.advance(100);
  report = await reconciler.flush();
  assert.equal(report.retryInMs, 200);
  world.broken.clear();
  await clock.advance(200);
  report = await reconciler.flush();
  assert.equal(world.entries.get("a"), 1);
  assert.deepEqual([report.failed.size, report.retryInMs], [0, undefined]);
});

Deno.test("a new wish for a failing key is tried at once", async () => {
  const { world, reconciler } = start("ack");
  world.broken.add("a");
  reconciler.want("a", 1);
  await reconciler.flush();
  world.broken.clear();
  reconciler.want("a", 2);
  await reconciler.flush();
  assert.equal(world.entries.get("a"), 2);
});

Deno.test("an unreadable port is not touched, and is read again with back-off", async () => {
  const { world, clock, reconciler } = start();
  world.entries.set("old", 1);
  world.unreadable = true;
  reconciler.want("a", 1);
  const report = await reconciler.flush();
  assert.equal(report.unread?.why, "cannot be read");
  assert.deepEqual(world.writes, []);
  await reconciler.flush();
  assert.equal(world.lists, 1);
  world.unreadable = false;
  await clock.advance(report.retryInMs!);
  assert.equal((await reconciler.flush()).unread, undefined);
  assert.deepEqual([...world.entries], [["a", 1]]);
});

Deno.test("a write that is answered but does not hold is a failure", async () => {
  const { world, reconciler } = start();
  world.entries.set("old", 1);
  world.lying.add("a").add("old");
  reconciler.want("a", 1);
  const report = await reconciler.flush();
  assert.deepEqual([...report.failed.keys()].sort(), ["a", "old"]);
  assert.equal(reconciler.holds("a"), false);
});

Deno.test("a batch that breaks down fails all its keys, and the port is read before the next try", async () => {
  const { world, clock, reconciler } = start("ack");
  world.breaksDown = true;
  reconciler.want("a", 1);
  await reconciler.flush();
  world.breaksDown = false;
  await clock.advance(100);
  const lists = world.lists;
  await reconciler.flush();
  assert.equal(world.lists, lists + 1);
  assert.deepEqual(world.writes, ["+a"], "it was there already");
  assert.equal(reconciler.holds("a"), true);
});

Deno.test("a wish that changes during a flush is fulfilled by the next one", async () => {
  const { world, reconciler } = start("ack");
  reconciler.want("a", 1);
  world.meanwhile = () => reconciler.want("a", 2);
  const report = await reconciler.flush();
  assert.equal(report.retryInMs, 0);
  await reconciler.flush();
  assert.equal(world.entries.get("a"), 2);
});

Deno.test("flushes that come during a flush share the next one", async () => {
  const { reconciler } = start();
  reconciler.want("a", 1);
  const first = reconciler.flush();
  await Promise.resolve();
  assert.equal(reconciler.flush(), reconciler.flush());
  await first;
});

Deno.test("doubt about a key reads only that key where the port can", async () => {
  const { world, reconciler } = start("ack", true);
  reconciler.wantAll(new Map([["a", 1], ["b", 2]]));
  await reconciler.flush();
  assert.equal(world.lists, 1);
  world.entries.delete("a");
  world.entries.delete("b");
  reconciler.doubt(["a", "unknown"]);
  await reconciler.flush();
  assert.deepEqual((world as ReadableWorld).reads, [["a"]]);
  assert.deepEqual([...world.entries], [["a", 1]], "b was not in doubt");
  assert.equal(world.lists, 1);
});

Deno.test("a flush in two phases puts first and removes later", async () => {
  const { world, reconciler } = start("ack");
  world.entries.set("old", 1);
  reconciler.want("a", 1);
  assert.equal((await reconciler.flush("make")).retryInMs, 0, "there is something left to remove");
  assert.deepEqual([...world.entries.keys()], ["old", "a"]);
  assert.equal((await reconciler.flush("break")).retryInMs, undefined);
  assert.deepEqual([...world.entries.keys()], ["a"]);
});

Deno.test("what someone else changed is reported as drift, what was asked for and what failed is not", async () => {
  const { world, clock, reconciler } = start("ack");
  world.broken.add("b");
  reconciler.wantAll(new Map([["a", 1], ["b", 2]]));
  assert.equal((await reconciler.flush()).drift, 0);
  world.broken.clear();
  await clock.advance(100);
  assert.equal((await reconciler.flush()).drift, 0);
  world.entries.delete("a");
  world.entries.set("c", 1);
  reconciler.doubt();
  assert.equal((await reconciler.flush()).drift, 2);
});

/** One thing that happens to the pair of reconciler and world. */
type Step =
  | { do: "want"; key: string; value: number | undefined }
  | { do: "wantAll"; all: [string, number][] }
  | { do: "foreign"; key: string; value: number | undefined }
  | { do: "fault"; fault: "unreadable" | "breaksDown"; on: boolean }
  | { do: "broken" | "lying"; key: string }
  | { do: "flush"; waitMs: number };

const keys = fc.constantFrom("a", "b", "c", "d", "f1");
const ownKeys = fc.constantFrom("a", "b", "c", "d");
const values = fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined });
const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("want" as const), key: ownKeys, value: values }),
  fc.record({
    do: fc.constant("wantAll" as const),
    all: fc.array(fc.tuple(ownKeys, fc.integer({ min: 0, max: 3 }))),
  }),
  fc.record({ do: fc.constant("foreign" as const), key: keys, value: values }),
  fc.record({
    do: fc.constant("fault" as const),
    fault: fc.constantFrom("unreadable" as const, "breaksDown" as const),
    on: fc.boolean(),
  }),
  fc.record({ do: fc.constantFrom("broken" as const, "lying" as const), key: ownKeys }),
  fc.record({ do: fc.constant("flush" as const), waitMs: fc.integer({ min: 0, max: 500 }) }),
);

Deno.test("any order of wishes, foreign changes and faults converges when the faults end", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(steps, { maxLength: 30 }),
      fc.constantFrom("list" as const, "ack" as const),
      fc.boolean(),
      async (all, verify, read) => {
        const { world, clock, reconciler } = start(verify, read);
        const wanted = new Map<string, number>(), foreign = new Map<string, number>();
        for (const step of all) await take(step, { world, clock, reconciler, wanted, foreign });
        assert.deepEqual([...world.entries].filter(([k]) => k.startsWith("f")), [...foreign], "foreign entries stay");
        Object.assign(world, { unreadable: false, breaksDown: false, broken: new Set(), lying: new Set() });
        reconciler.doubt(); // the periodic look
        let report: Report | undefined;
        for (let i = 0; i < 10 && (!report || report.retryInMs !== undefined); i++) {
          await clock.advance(60_000);
          report = await reconciler.flush();
        }
        assert.equal(report?.retryInMs, undefined, "there is an end");
        assert.deepEqual(new Map([...world.entries].filter(([k]) => !k.startsWith("f"))), wanted);
        const writes = world.writes.length;
        reconciler.doubt();
        await reconciler.flush();
        assert.equal(world.writes.length, writes, "in sync: no write");
      },
    ),
    { numRuns: 500 },
  );
});

interface Scene extends ReturnType<typeof start> {
  wanted: Map<string, number>;
  foreign: Map<string, number>;
}

async function take(step: Step, { world, clock, reconciler, wanted, foreign }: Scene): Promise<void> {
  const set = (map: Map<string, number>, key: string, value: number | undefined) =>
    value === undefined ? map.delete(key) : map.set(key, value);
  switch (step.do) {
    case "want":
      reconciler.want(step.key, step.value);
      set(wanted, step.key, step.value);
      break;
    case "wantAll":
      reconciler.wantAll(new Map(step.all));
      wanted.clear();
      for (const [key, value] of step.all) wanted.set(key, value);
      break;
    case "foreign":
      set(world.entries, step.key, step.value);
      if (step.key.startsWith("f")) set(foreign, step.key, step.value);
      reconciler.doubt([step.key]);
      break;
    case "fault":
      world[step.fault] = step.on;
      break;
    case "broken":
    case "lying":
      world[step.do].add(step.key);
      break;
    case "flush":
      await clock.advance(step.waitMs);
      await reconciler.flush();
  }
}
