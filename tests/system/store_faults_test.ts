/** What can happen to a store: killed, its file damaged, its disk full, started twice, the clock set back. */
import assert from "node:assert/strict";
import { systemClock } from "../../lib/clock.ts";
import { silentLog } from "../../lib/log.ts";
import { run, runOk } from "../../lib/process.ts";
import { messages as m } from "../../store/messages.ts";
import { startStore } from "../../store/server.ts";
import { EtcdCalls, type Outcome } from "../lab/etcd_calls.ts";
import { uniqueSuffix } from "../lab/port.ts";
import { startStoreProcess } from "../lab/store.ts";
import { wait } from "../lab/wait.ts";

/** grpc-js' channels end a moment after they are closed. */
const withLateTimer = { sanitizeOps: false, sanitizeResources: false };
const root = new URL("../..", import.meta.url).pathname;
const bytes = (text: string) => new TextEncoder().encode(text);
const nothing = new Uint8Array(0);

const put = (calls: EtcdCalls, key: string, value: Uint8Array, lease = 0n) =>
  calls.call("KV/Put", m.putRequest, m.putResponse, {
    ...{ key: bytes(key), value, lease },
    ...{ prev_kv: false, ignore_value: false, ignore_lease: false },
  });

const range = (calls: EtcdCalls, from: string, to: string) =>
  calls.call("KV/Range", m.rangeRequest, m.rangeResponse, {
    ...{ key: bytes(from), range_end: bytes(to), limit: 0n, revision: 0n, sort_order: 0, sort_target: 0 },
    ...{ serializable: false, keys_only: false, count_only: false },
    ...{ min_mod_revision: 0n, max_mod_revision: 0n, min_create_revision: 0n, max_create_revision: 0n },
  });

function answerOf<T>(outcome: Outcome<T>): T {
  if ("answer" in outcome) return outcome.answer;
  throw new Error(`gRPC status ${outcome.code}: ${outcome.details}`);
}

/** All values of keys below /k/, by key. */
async function stored(port: number): Promise<Map<string, string>> {
  using calls = new EtcdCalls(`127.0.0.1:${port}`);
  const text = (b: Uint8Array) => new TextDecoder().decode(b);
  return new Map(answerOf(await range(calls, "/k/", "/k0")).kvs.map((kv) => [text(kv.key), text(kv.value)]));
}

/** Starts the program on a file and waits for its end. */
const runStore = (file: string) =>
  run(
    Deno.execPath(),
    ["run", "-A", "--quiet", `${root}main.ts`, "store", "--file", file, "--socket", `${file}.sock`],
    {
      timeoutMs: 15_000,
    },
  );

Deno.test("10,000 acknowledged writes survive kill -9, four times", withLateTimer, async () => {
  await using store = await startStoreProcess();
  const acknowledged = new Map<string, string>();
  let next = 0, acks = 0, dead = false;
  for (let kill = 1; kill <= 4; kill++) {
    const calls = new EtcdCalls(`127.0.0.1:${store.port}`);
    const until = 2_500 * kill;
    dead = false;
    const writer = async () => {
      while (!dead) {
        const key = `/k/${next++ % 3_000}-${kill}`, value = `${next}`;
        const outcome = await put(calls, key, bytes(value));
        // The newest acknowledged value of a key must stand, or one that was sent later and not acknowledged.
        if (!("answer" in outcome)) return;
        acknowledged.set(key, value);
        acks++;
      }
    };
    const writers = Promise.all(Array.from({ length: 50 }, writer));
    await wait(`${until} acknowledged writes`, () => acks >= until, { deadlineMs: 60_000, everyMs: 1 });
    await store.kill();
    dead = true;
    await writers;
    calls[Symbol.dispose]();
    await store.restart();
    const values = await stored(store.port);
    const lost = [...acknowledged].filter(([key, value]) => Number(values.get(key) ?? -1) < Number(value));
    assert.deepEqual(lost, [], `after kill ${kill}`);
  }
  console.log(`  ${acks} of ${next} writes were acknowledged; none of those is lost`);
});

Deno.test("a damaged file is told and left as it is; one that is not ours too", async () => {
  const dir = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "so-damaged-" });
  try {
    const file = `${dir}/store.db`;
    await using store = await startStore({ file, socket: `${dir}/s`, port: 0, clock: systemClock, log: silentLog });
    using calls = new EtcdCalls(store.endpoints[1]!.replace("http://", ""));
    for (let i = 0; i < 100; i++) answerOf(await put(calls, `/k/${i}`, new Uint8Array(2_000).fill(i)));
    await store[Symbol.asyncDispose]();

    const whole = await Deno.readFile(file);
    const garbage = whole.slice().fill(0xa5, whole.length / 2, whole.length / 2 + 8_192);
    const cases: [string, Uint8Array, RegExp][] = [
      ["pages overwritten", garbage, /damaged/],
      ["cut off", whole.slice(0, whole.length / 2), /damaged/],
      ["first page overwritten", whole.slice().fill(0xa5, 0, 4_096), /damaged/],
      ["a text", bytes("hello ".repeat(1_000)), /damaged|no tortie store/],
    ];
    for (const [what, content, words] of cases) {
      await Deno.writeFile(file, content);
      const { code, stderr } = await runStore(file);
      assert.equal(code, 1, `${what}: ${stderr}`);
      assert.match(stderr, words, what);
      assert.match(stderr, /left as it was|Name another|left as it is/, what);
      assert.deepEqual(await Deno.readFile(file), content, `${what}: the file was changed`);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a second store on the same file is refused, and the first one goes on", withLateTimer, async () => {
  await using store = await startStoreProcess();
  const { code, stderr } = await runStore(store.file);
  assert.equal(code, 1);
  assert.match(stderr, /another process has the store's file open/);
  using calls = new EtcdCalls(`127.0.0.1:${store.port}`);
  answerOf(await put(calls, "/k/1", bytes("1")));
  assert.deepEqual([...await stored(store.port)], [["/k/1", "1"]]);
});

Deno.test("a full disk refuses writes and loses nothing; with room it goes on by itself", withLateTimer, async () => {
  const dir = `/run/so-full-${uniqueSuffix()}`;
  await Deno.mkdir(dir);
  await runOk("mount", ["-t", "tmpfs", "-o", "size=1M", "tmpfs", dir]);
  try {
    await using store = await startStoreProcess({ dataDir: dir });
    using calls = new EtcdCalls(`127.0.0.1:${store.port}`);
    const acknowledged = new Map<string, string>();
    let refused: Outcome<unknown>[] = [];
    for (let i = 0; i < 5_000 && refused.length < 5; i++) {
      const value = `${i} `.repeat(200), outcome = await put(calls, `/k/${i}`, bytes(value));
      if ("answer" in outcome) acknowledged.set(`/k/${i}`, value);
      refused = "answer" in outcome ? [] : [...refused, outcome];
    }
    assert.equal(refused.length, 5);
    for (const one of refused) {
      assert.deepEqual(one, { code: 8, details: "etcdserver: mvcc: database space exceeded" });
    }
    assert.ok(acknowledged.size > 20, `${acknowledged.size}`);
    assert.deepEqual(await stored(store.port), acknowledged, "readable while full");
    assert.match(await store.etcdctl("alarm", "list"), /NOSPACE/);
    await runOk("mount", ["-o", "remount,size=8M", dir]);
    await wait("a write to succeed", async () => answerOf(await put(calls, "/k/after", bytes("x"))));
    acknowledged.set("/k/after", "x");
    assert.equal(await store.etcdctl("alarm", "list"), "");
    await store.restart();
    assert.deepEqual(await stored(store.port), acknowledged, "after a restart");
  } finally {
    await runOk("umount", ["-l", dir]);
    await Deno.remove(dir);
  }
});

Deno.test("a clock that is set back ends no lease early and keeps none", withLateTimer, async () => {
  const dir = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "so-clock-" });
  let day = Date.now();
  // The time of day runs backwards, a year a look.
  const clock = { ...systemClock, now: () => day -= 365 * 86_400_000 };
  try {
    await using store = await startStore({ file: `${dir}/f`, socket: `${dir}/s`, port: 0, clock, log: silentLog });
    using calls = new EtcdCalls(store.endpoints[1]!.replace("http://", ""));
    const grant = (ID: bigint, TTL: bigint) =>
      calls.call("Lease/LeaseGrant", m.leaseGrantRequest, m.leaseTerms, { ID, TTL });
    answerOf(await grant(1n, 2n));
    answerOf(await grant(2n, 3_600n));
    answerOf(await put(calls, "/k/short", nothing, 1n));
    answerOf(await put(calls, "/k/long", nothing, 2n));
    assert.equal(answerOf(await range(calls, "/k/", "/k0")).count, 2n);
    await wait("the short lease to end", async () => answerOf(await range(calls, "/k/", "/k0")).count === 1n);
    assert.equal(answerOf(await range(calls, "/k/long", "")).count, 1n);
    const left = answerOf(
      await calls.call("Lease/LeaseTimeToLive", m.leaseRequest, m.leaseTimeToLive, { ID: 2n, keys: true }),
    );
    assert.ok(left.TTL > 3_580n && left.TTL <= 3_600n, `${left.TTL}`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
