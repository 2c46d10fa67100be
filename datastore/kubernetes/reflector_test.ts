import { deepEqual, equal, ok } from "node:assert/strict";
import { FakeClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { Problem } from "../../lib/problem.ts";
import { type Batch, Reflector } from "./reflector.ts";

const path = "/api/v1/pods";
const object = (name: string, version: number) => ({ metadata: { name, resourceVersion: String(version) } });
const list = (names: string[], version: number, next?: string): Response =>
  Response.json({
    items: names.map((name) => object(name, 1)),
    metadata: { resourceVersion: `${version}`, continue: next },
  });
const status = (code: number, message: string) => ({ kind: "Status", code, message });
const refusal = (code: number, headers: Record<string, string> = {}): Response =>
  Response.json(status(code, `says ${code}`), { status: code, headers });
const line = (type: string, what: unknown) => JSON.stringify({ type, object: what }) + "\n";

/** A watch that the test feeds. */
function stream() {
  let out!: ReadableStreamDefaultController<Uint8Array>;
  const body = new ReadableStream<Uint8Array>({ start: (controller) => void (out = controller) });
  return {
    answer: new Response(body),
    send: (text: string) => out.enqueue(new TextEncoder().encode(text)),
    end: () => out.close(),
    breaks: () => out.error(new TypeError("connection reset")),
  };
}

type Answer = Response | Problem;

/** A reflector over answers that are given in order; after the last nothing is answered. */
function play(answers: Answer[], isOptional = false) {
  const clock = new FakeClock(), stop = new AbortController(), asked: string[] = [];
  const left = [...answers];
  const api = {
    reconnects: 0,
    open(query: string): Promise<Response> {
      asked.push(query.slice(path.length));
      const next = left.shift();
      if (next === undefined) return new Promise(() => {});
      return next instanceof Problem ? Promise.reject(next) : Promise.resolve(next);
    },
    reconnect: () => void api.reconnects++,
  };
  const reflector = new Reflector({
    api,
    path,
    keep: (o) => o.metadata.name,
    clock,
    log: silentLog,
    random: () => 0.5,
    isOptional,
  });
  const batches = reflector.batches(stop.signal);
  const next = async (): Promise<Batch<string> | undefined> => {
    const step = batches.next();
    let done = false;
    step.then(() => done = true, () => done = true);
    // Time passes only while nothing else happens.
    for (let i = 0; i < 400 && !done; i++) {
      for (let k = 0; k < 50 && !done; k++) await Promise.resolve();
      await new Promise((resolve) => queueMicrotask(() => resolve(undefined)));
      if (!done) await clock.advance(250);
    }
    ok(done, "nothing came within 100 s");
    return (await step).value ?? undefined;
  };
  return { asked, next, api, clock, reflector, stop: () => stop.abort(new Error("test is over")) };
}

const changes = (...names: [name: string, gone: boolean][]) => ({
  changes: names.map(([name, gone]) => ({ object: name, gone })),
});
const versions = (asked: string[]) =>
  asked.map((query) => /resourceVersion=(\d+)/.exec(query)?.[1] ?? (/continue=(\w+)/.exec(query)?.[1] ?? "list"));

Deno.test("a list is read in pages, and the watch begins at the last page's version", async () => {
  const watch = stream();
  const { asked, next, stop } = play([list(["a"], 7, "x"), list(["b"], 7), watch.answer]);
  deepEqual(await next(), { all: ["a", "b"] });
  watch.send(line("ADDED", object("c", 9)) + line("DELETED", object("a", 10)));
  deepEqual(await next(), changes(["c", false], ["a", true]));
  deepEqual(versions(asked), ["list", "x", "7"]);
  ok(asked[2]!.includes("allowWatchBookmarks=true&timeoutSeconds=360"));
  stop();
});

Deno.test("a page whose token expired begins the list again", async () => {
  const { asked, next, stop } = play([list(["a"], 7, "x"), refusal(410), list(["b"], 9)]);
  deepEqual(await next(), { all: ["b"] });
  deepEqual(versions(asked), ["list", "x", "list"]);
  stop();
});

Deno.test("a watch that ends goes on from the newest version, that of bookmarks too", async () => {
  const [first, second, third] = [stream(), stream(), stream()];
  const { asked, next, stop } = play([list([], 3), first.answer, second.answer, third.answer]);
  deepEqual(await next(), { all: [] });
  first.send(line("BOOKMARK", { metadata: { resourceVersion: "50" } }));
  first.end();
  second.send(line("MODIFIED", object("a", 60)));
  deepEqual(await next(), changes(["a", false]));
  second.breaks();
  third.send(line("MODIFIED", object("b", 61)));
  deepEqual(await next(), changes(["b", false]));
  deepEqual(versions(asked), ["list", "3", "50", "60"]);
  stop();
});

Deno.test("events before an error in the same piece are not lost, and 410 lists again", async () => {
  const watch = stream();
  const { asked, next, stop } = play([list([], 3), watch.answer, list(["a", "z"], 90)]);
  await next();
  watch.send(line("ADDED", object("a", 4)) + line("ERROR", status(410, "too old")));
  deepEqual(await next(), changes(["a", false]));
  deepEqual(await next(), { all: ["a", "z"] });
  deepEqual(versions(asked), ["list", "3", "list"]);
  stop();
});

Deno.test("lines may be cut anywhere, in the middle of a character too", async () => {
  const bytes = new TextEncoder().encode(line("ADDED", object("é", 4)));
  const half = bytes.indexOf(0xc3) + 1;
  const body = new ReadableStream<Uint8Array>({
    start(out) {
      for (const piece of [bytes.subarray(0, 5), bytes.subarray(5, half), bytes.subarray(half)]) out.enqueue(piece);
    },
  });
  const { next, stop } = play([list([], 3), new Response(body)]);
  await next();
  deepEqual(await next(), changes(["é", false]));
  stop();
});

Deno.test("a watch that says nothing for 90 s is given up, with its connection", async () => {
  const [silent, second] = [stream(), stream()];
  const { api, asked, next, clock, reflector, stop } = play([list([], 3), silent.answer, second.answer]);
  await next();
  second.send(line("ADDED", object("late", 4)));
  const began = clock.monotonicMs();
  deepEqual(await next(), changes(["late", false]));
  const passed = clock.monotonicMs() - began;
  ok(passed >= 90_000 && passed < 95_000, `${passed} ms`);
  deepEqual([api.reconnects, versions(asked)], [1, ["list", "3", "3"]]);
  equal(reflector.state().connected, true);
  stop();
});

Deno.test("refusals are waited out, as long as the server says", async () => {
  const { api, next, clock, reflector, stop } = play([
    refusal(403),
    refusal(429, { "retry-after": "20" }),
    list(["a"], 3),
  ]);
  const began = clock.monotonicMs();
  deepEqual(await next(), { all: ["a"] });
  const passed = clock.monotonicMs() - began;
  ok(passed >= 20_000 && passed < 25_000, `${passed} ms`);
  equal(api.reconnects, 0);
  equal(reflector.state().connected, true);
  stop();
});

Deno.test("a server that was restored and refuses our version is listed again", async () => {
  const refusals = [refusal(504), refusal(504), refusal(504)];
  const { api, asked, next, stop } = play([list(["a"], 900), ...refusals, list(["b"], 12)]);
  await next();
  deepEqual(await next(), { all: ["b"] });
  equal(api.reconnects, 3);
  deepEqual(versions(asked), ["list", "900", "900", "900", "list"]);
  stop();
});

Deno.test("403 for a watch keeps what is known and the version", async () => {
  const watch = stream();
  const { asked, next, stop } = play([
    list(["a"], 5),
    refusal(403),
    refusal(403),
    refusal(403),
    refusal(403),
    watch.answer,
  ]);
  await next();
  watch.send(line("ADDED", object("b", 6)));
  deepEqual(await next(), changes(["b", false]));
  deepEqual(versions(asked), ["list", "5", "5", "5", "5", "5"]);
  stop();
});

Deno.test("an answer that is not JSON, or not a list, is a failure of the server", async () => {
  const { next, stop } = play([new Response("<html>"), Response.json({ items: 3 }), list(["a"], 3)]);
  deepEqual(await next(), { all: ["a"] });
  stop();
});

Deno.test("a server that is away is asked less and less often, every 30 s at the end", async () => {
  const away = Array.from({ length: 12 }, () => new Problem({ code: "unavailable", what: "nobody there" }));
  const { asked, next, clock, stop } = play([...away.slice(0, 7), list([], 1)]);
  const began = clock.monotonicMs();
  await next();
  // 0.5 s × 2 each, three quarters of it with this chance: 0.375 × (1 + 2 + … + 64) = 47.6 s, in looks of 0.25 s.
  const passed = clock.monotonicMs() - began;
  ok(passed > 44_000 && passed < 52_000, `${passed} ms`);
  equal(asked.length, 8);
  stop();
});

Deno.test("a collection that a server need not have is empty when it says so three times, and looked for again", async () => {
  const watch = stream(), gone = () => refusal(404);
  const { next, reflector, stop } = play([gone(), gone(), gone(), gone(), list(["a"], 7), watch.answer], true);
  deepEqual(await next(), { all: [] });
  deepEqual([reflector.state().absent, reflector.state().connected], [true, true]);
  deepEqual(await next(), { all: ["a"] });
  equal(reflector.state().absent, false);
  stop();
});

Deno.test("a server that starts, and does not know its collections for a moment, takes nothing away", async () => {
  const watch = stream(), second = stream();
  const { next, reflector, stop } = play(
    [list(["a"], 7), watch.answer, refusal(404), refusal(404), second.answer],
    true,
  );
  deepEqual(await next(), { all: ["a"] });
  watch.end();
  const following = next();
  second.send(line("ADDED", object("b", 9)));
  deepEqual(await following, changes(["b", false]));
  equal(reflector.state().absent, false);
  stop();
});

Deno.test("a server that was away for ten minutes is followed from where it was left", async () => {
  const watch = stream(), second = stream();
  const away = new Problem({ code: "unavailable", what: "connection refused" });
  const { next, asked, clock, stop } = play([list(["a"], 7), watch.answer, ...Array(25).fill(away), second.answer]);
  deepEqual(await next(), { all: ["a"] });
  const began = clock.monotonicMs();
  watch.breaks();
  let following = next().catch(() => undefined);
  second.send(line("ADDED", object("b", 9)));
  for (let i = 0; i < 20; i++) {
    const came = await following;
    if (came) {
      deepEqual(came, changes(["b", false]));
      break;
    }
    following = next().catch(() => undefined);
  }
  ok(clock.monotonicMs() - began > 400_000, `${clock.monotonicMs() - began} ms`);
  ok(!versions(asked).slice(1).includes("list"), "nothing is listed again");
  stop();
});
