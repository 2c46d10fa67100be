import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { Problem } from "../lib/problem.ts";
import { Compacted, type Event, type KeyValue, Restored, type WatchBatch, type WatchState } from "./store.ts";
import { watchFrom, type WatchMessage, type WatchServer } from "./watch.ts";

const range = { start: "/r/", end: "/r0" };
const put = (revision: number, key = "/r/k"): Event => ({
  key,
  value: `v${revision}`,
  revision: BigInt(revision),
  created: BigInt(revision),
});

/** A message; by default one of a healthy stream. */
const message = (parts: Partial<WatchMessage>): WatchMessage => ({
  clusterId: "c1",
  headerRevision: 0n,
  created: false,
  canceled: false,
  cancelReason: "",
  compactRevision: 0n,
  fragment: false,
  events: [],
  ...parts,
});
const created = message({ created: true, headerRevision: 1_000n });
const events = (...revisions: number[]) => message({ events: revisions.map((r) => put(r)), headerRevision: 1_000n });

/** What a stream does after its messages. */
type End = "breaks" | "is silent" | Error | { breaksAfterMs: number };

/** A server that plays one script a stream, and tells what was asked of it. */
class ScriptedServer implements WatchServer {
  readonly clock = new FakeClock();
  readonly opened: bigint[] = [];
  readonly looks: [string, bigint][] = [];
  forgotten = 0;
  silenced = 0;
  closed = 0;
  /** What lookBack() answers; default: the last event as it was sent. */
  history: (key: string, revision: bigint) => { clusterId: string; value?: KeyValue } = (key, revision) => ({
    clusterId: "c1",
    value: { key, value: `v${revision}`, revision, created: revision },
  });

  constructor(private readonly scripts: [WatchMessage[], End][], readonly known: string | undefined = "c1") {}

  clusterId = () => this.known;
  forgetToken = () => void this.forgotten++;
  lookBack = (key: string, revision: bigint) => {
    this.looks.push([key, revision]);
    return Promise.resolve(this.history(key, revision));
  };
  open = (_range: unknown, from: bigint) => {
    this.opened.push(from);
    const script = this.scripts.shift();
    if (!script) return Promise.reject(new Error("no more streams in this test"));
    const [messages, end] = script;
    return Promise.resolve({
      next: () => {
        const next = messages.shift();
        if (next) return Promise.resolve(next);
        if (end === "is silent") return new Promise<WatchMessage>(() => {});
        if (end instanceof Error) return Promise.reject(end);
        const cut = () => Promise.reject(new Problem({ code: "unavailable", what: "cut" }));
        return end === "breaks" ? cut() : this.clock.sleep(end.breaksAfterMs).then(cut);
      },
      silent: () => void this.silenced++,
      [Symbol.dispose]: () => void this.closed++,
    });
  };
}

/** Runs a watch from revision 10 until it throws or `batches` came, letting time pass as needed. */
async function run(server: ScriptedServer, batches = Infinity) {
  const { clock } = server, stop = new AbortController();
  const seen: WatchBatch[] = [], states: WatchState[] = [];
  let error: unknown, over = false;
  const watching = (async () => {
    const onState = (s: WatchState) => void states.push(s);
    const options = { signal: stop.signal, onState, clock, random: () => 1, deadlineMs: 5_000 };
    for await (const batch of watchFrom(server, range, 10n, options)) {
      seen.push(batch);
      if (seen.length >= batches) break;
    }
  })().catch((e) => error = e).finally(() => over = true);
  for (let i = 0; !over && i < 500; i++) await clock.advance(100);
  stop.abort();
  await watching;
  return { seen, states, error, revisions: seen.flatMap((b) => b.events.map((e) => Number(e.revision))) };
}

Deno.test("a stream that breaks while catching up goes on after the last event, not after the header", async () => {
  const server = new ScriptedServer([
    [[created, events(10, 11, 12)], "breaks"], // its headers say 1,000
    [[created, events(13, 14)], "is silent"],
  ]);
  const { revisions, states } = await run(server, 2);
  assert.deepEqual(revisions, [10, 11, 12, 13, 14]);
  assert.deepEqual(server.opened, [10n, 13n]);
  assert.deepEqual(states.map((s) => s.connected), [true, false, true]);
  assert.equal(server.closed, 2);
});

Deno.test("fragments of a revision become one batch, and a break between them repeats the whole", async () => {
  const half = message({ events: [put(10, "/r/a")], fragment: true });
  const rest = message({ events: [put(10, "/r/b")] });
  const server = new ScriptedServer([
    [[created, { ...half }], "breaks"],
    [[created, { ...half }, { ...rest }], "is silent"],
  ]);
  const { seen } = await run(server, 1);
  assert.deepEqual(server.opened, [10n, 10n]);
  assert.deepEqual(seen.map((b) => [b.revision, b.events.map((e) => e.key)]), [[10n, ["/r/a", "/r/b"]]]);
});

Deno.test("a message without events moves the cursor, created does not", async () => {
  const server = new ScriptedServer([
    [[created], "breaks"],
    [[created, message({ headerRevision: 20n })], "breaks"],
    [[created, message({ headerRevision: 20n }), events(25)], "is silent"],
  ]);
  server.history = () => ({ clusterId: "c1" });
  const { seen } = await run(server, 2);
  assert.deepEqual(server.opened, [10n, 10n, 21n]);
  assert.deepEqual(seen.map((b) => [b.revision, b.events.length]), [[20n, 0], [25n, 1]]);
});

Deno.test("a compacted start throws Compacted with the oldest revision", async () => {
  const refusal = message({ created: true, canceled: true, compactRevision: 40n });
  const { error } = await run(new ScriptedServer([[[refusal], "breaks"]]));
  assert.ok(error instanceof Compacted);
  assert.equal(error.compactRevision, 40n);
});

Deno.test("a compaction up to the very next revision is noticed, although the server would watch from it", async () => {
  const server = new ScriptedServer([[[created, events(10)], "breaks"], [[created, events(12)], "is silent"]]);
  const history = server.history;
  server.history = (key, revision) => {
    if (server.opened.length === 2) throw new Compacted(0n);
    return history(key, revision);
  };
  const { error, revisions } = await run(server);
  assert.ok(error instanceof Compacted);
  assert.deepEqual(revisions, [10]);
});

Deno.test("a compaction after the stream was made and before its first events is noticed too", async () => {
  const server = new ScriptedServer([[[created, events(11)], "is silent"]]);
  server.history = () => {
    if (server.looks.length === 2) throw new Compacted(0n);
    return { clusterId: "c1" };
  };
  const { error, revisions, states } = await run(server);
  assert.ok(error instanceof Compacted);
  assert.deepEqual([revisions, states.length], [[], 1]);
});

Deno.test("a compaction right after a stream with nothing to catch up is no loss", async () => {
  const upToDate = message({ created: true, headerRevision: 9n });
  const server = new ScriptedServer([[[upToDate, events(10)], "is silent"]]);
  server.history = () => {
    if (server.looks.length === 2) throw new Compacted(0n);
    return { clusterId: "c1" };
  };
  assert.deepEqual((await run(server, 1)).revisions, [10]);
});

Deno.test("another cluster id means Restored, at the first connect and at later ones", async () => {
  for (const known of ["c1", undefined]) {
    const server = new ScriptedServer([[[created, events(10)], "breaks"], [[created], "is silent"]], known);
    const history = server.history;
    server.history = (k, r) => ({ ...history(k, r), clusterId: server.opened.length === 2 ? "c2" : "c1" });
    const { error } = await run(server);
    assert.ok(error instanceof Restored, String(error));
    assert.match(error.message, /cluster id c2, before c1/);
  }
  const first = new ScriptedServer([[[created], "is silent"]], "c0");
  assert.ok((await run(first)).error instanceof Restored, "known from a list before");
});

Deno.test("the last event gone or changed at its revision means Restored, although the numbers fit", async () => {
  const others = [
    undefined,
    { key: "/r/k", value: "other", revision: 10n, created: 10n },
    { key: "/r/k", value: "v10", revision: 9n, created: 9n },
  ];
  for (const other of others) {
    const server = new ScriptedServer([[[created, events(10)], "breaks"], [[created], "is silent"]]);
    const history = server.history;
    server.history = (k, r) => server.opened.length === 2 ? { clusterId: "c1", value: other } : history(k, r);
    const { error } = await run(server);
    assert.ok(error instanceof Restored, String(error));
  }
});

Deno.test("a delete as last event is looked for, too", async () => {
  const gone: Event = { key: "/r/k", value: undefined, revision: 10n, created: 0n };
  const scripts = (): [WatchMessage[], End][] => [
    [[created, message({ events: [gone] })], "breaks"],
    [[created, events(11)], "is silent"],
  ];
  const right = new ScriptedServer(scripts());
  right.history = () => ({ clusterId: "c1" });
  assert.deepEqual((await run(right, 2)).revisions, [10, 11]);
  assert.deepEqual(right.looks.slice(-2), [["/r/k", 10n], ["/r/k", 10n]]);
  const wrong = new ScriptedServer(scripts());
  assert.ok((await run(wrong)).error instanceof Restored);
});

Deno.test("a revision that lies in the server's future means Restored", async () => {
  const server = new ScriptedServer([[[created], "is silent"]]);
  server.history = () => {
    throw new Restored("its revision went backwards");
  };
  assert.ok((await run(server)).error instanceof Restored);
});

Deno.test("a server that takes the stream and does not answer is left after the deadline", async () => {
  const server = new ScriptedServer([[[], "is silent"], [[created, events(10)], "is silent"]]);
  const { revisions, states } = await run(server, 1);
  assert.deepEqual(revisions, [10]);
  assert.equal(server.silenced, 1);
  assert.match(states[0]!.connected ? "" : states[0]!.why, /did not start the watch within 5000 ms/);
});

Deno.test("a refused watch is tried once more with a new token, then thrown", async () => {
  const refusal = () => message({ created: true, canceled: true, cancelReason: "etcdserver: permission denied" });
  const refused = new ScriptedServer([[[refusal()], "breaks"], [[refusal()], "breaks"]]);
  const { error } = await run(refused);
  assert.ok(error instanceof Problem && error.code === "unauthorized");
  assert.equal(refused.forgotten, 1);
  const renewed = new ScriptedServer([[[refusal()], "breaks"], [[created, events(10)], "is silent"]]);
  assert.deepEqual((await run(renewed, 1)).revisions, [10]);
});

Deno.test("failures are retried with growing pauses, a stream that stood for a second makes them short again", async () => {
  const cut: [WatchMessage[], End] = [[], "breaks"];
  const flaps: [WatchMessage[], End] = [[created], "breaks"];
  const stands: [WatchMessage[], End] = [[created], { breaksAfterMs: 2_000 }];
  const server = new ScriptedServer([cut, cut, flaps, cut, stands, cut, [[created, events(10)], "is silent"]]);
  const pauses: number[] = [];
  const backoffOnly = (ms: number) => ms < 2_000 && pauses.push(ms);
  const sleep = server.clock.sleep.bind(server.clock);
  server.clock.sleep = (ms, signal) => (backoffOnly(ms), sleep(ms, signal));
  const { states } = await run(server, 1);
  assert.deepEqual(pauses, [50, 100, 200, 400, 50, 100]);
  const told = states.map((s) => (s.connected ? "stands" : s.attempt));
  assert.deepEqual(told, [1, 2, "stands", 3, 4, "stands", 1, 2, "stands"]);
});

Deno.test("what is not a failure of the server ends the watch: it is a bug", async () => {
  const { error } = await run(new ScriptedServer([[[created], new TypeError("x is not a function")]]));
  assert.ok(error instanceof TypeError);
});
