/** The mirror over a real etcd and a real file: what a restart costs, and what a snapshot file may be. */
import assert from "node:assert/strict";
import { openEtcd } from "../../datastore/etcd.ts";
import { type Changes, Mirror } from "../../datastore/mirror.ts";
import { maxSnapshotBytes } from "../../datastore/snapshot_file.ts";
import type { Store } from "../../datastore/store.ts";
import { systemClock } from "../../lib/clock.ts";
import { createLog, silentLog } from "../../lib/log.ts";
import { type Etcd, startEtcd } from "../lab/etcd.ts";
import { wait } from "../lab/wait.ts";

const prefix = "/calico/resources/v3/projectcalico.org/workloadendpoints/";
const deps = { clock: systemClock, log: silentLog };

/** grpc-js lets the timer of its next attempt run out (1 s) after a channel is closed that could not connect. */
const withLateTimer = { sanitizeOps: false, sanitizeResources: false };

async function write(store: Store, write: Record<string, string | undefined>): Promise<bigint> {
  const all = Object.entries(write).map(([k, value]) =>
    value === undefined ? { delete: prefix + k } : { put: prefix + k, value }
  );
  return (await store.txn({ compare: [], write: all })).revision;
}

/** An etcd with some values, a store, and a folder for the file. */
async function world(server?: "etcd") {
  const stack = new AsyncDisposableStack();
  const etcd = stack.use(await startEtcd({ server }));
  const store = stack.use(openEtcd({ endpoints: [etcd.endpoint], deadlineMs: 3_000 }, deps));
  const dir = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "h1-mirror-" });
  stack.defer(() => Deno.remove(dir, { recursive: true }));
  const file = `${dir}/snapshot`;
  await write(store, { "a/1": 'ünï\n"1"', "b/1": "" });
  await write(store, { "a/2": "2" });
  return { etcd, store, file, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Runs a mirror with the file until it is in sync, and tells what that took; the file is written at its end. */
async function mirrorOnce(w: { etcd: Etcd; file: string }, range?: { start: string; end: string }) {
  const lines: string[] = [];
  const log = createLog("mirror", { write: (line) => lines.push(line) });
  await using store = openEtcd({ endpoints: [w.etcd.endpoint], deadlineMs: 3_000 }, deps);
  await using mirror = Mirror.start({ store, snapshotFile: w.file, clock: systemClock, log, range });
  await mirror.ready(AbortSignal.timeout(10_000));
  const values = new Map(mirror.list("").map((kv) => [kv.key.slice(prefix.length), kv.value]));
  return {
    values,
    revision: mirror.revision,
    requests: { ...store.requests },
    log: lines.join(""),
    kvs: mirror.list(""),
  };
}

const expected = async (store: Store) => {
  const values = new Map<string, string>();
  const take = (kvs: { key: string; value: string }[]) =>
    kvs.forEach((kv) => values.set(kv.key.slice(prefix.length), kv.value));
  await store.list({ start: prefix, end: prefix.slice(0, -1) + "0" }, take);
  return values;
};

Deno.test("a restart with the file lists nothing when nothing changed", async () => {
  await using w = await world();
  const first = await mirrorOnce(w);
  assert.match(first.log, /"msg":"mirror in sync","revision"/);
  const second = await mirrorOnce(w);
  assert.match(second.log, /in sync from its snapshot file/);
  assert.deepEqual(second.kvs, first.kvs, "revisions, too");
  assert.deepEqual(second.values, await expected(w.store));
  assert.equal(second.requests["range"]! <= 3, true, JSON.stringify(second.requests)); // cluster, newest value, the watch's check
});

Deno.test("a restart catches up by events: puts, deletes, and revisions outside its range", async () => {
  await using w = await world();
  await mirrorOnce(w);
  await write(w.store, { "a/1": "new", "b/1": undefined, "c": "1" });
  const { revision } = await w.store.txn({ compare: [], write: [{ put: "/elsewhere", value: "1" }] });
  const again = await mirrorOnce(w);
  assert.match(again.log, /in sync from its snapshot file/);
  assert.deepEqual(again.values, await expected(w.store));
  assert.equal(again.revision, revision);
  assert.ok(again.requests["range"]! <= 5, JSON.stringify(again.requests)); // no list
});

Deno.test("it is not in sync, and consumers are told nothing, before it has caught up", withLateTimer, async () => {
  await using w = await world();
  await mirrorOnce(w);
  await write(w.store, { "a/1": "new" });
  await w.etcd.kill();
  await using store = openEtcd({ endpoints: [w.etcd.endpoint], deadlineMs: 1_000 }, deps);
  await using mirror = Mirror.start({ store, snapshotFile: w.file, ...deps });
  await wait("the file to be read and etcd to be missed", () => /cannot be reached/.test(mirror.state().why ?? ""));
  assert.equal(mirror.state().inSync, false);
  const first = mirror.changes(new AbortController().signal).next();
  await w.etcd.restart();
  const value: Changes | undefined = (await first).value;
  assert.ok(value?.set.some((kv) => kv.key === `${prefix}a/1` && kv.value === "new"), "the first batch is of now");
});

Deno.test("after a compaction beyond the file it lists and ends right", async () => {
  await using w = await world();
  await mirrorOnce(w);
  await write(w.store, { "b/1": undefined });
  await w.etcd.compact(await write(w.store, { "c": "1" }));
  const again = await mirrorOnce(w);
  assert.match(again.log, /snapshot file is not enough, listing/);
  assert.deepEqual(again.values, await expected(w.store));
});

Deno.test("a file of another cluster, of a restored one, of another range, cut off, changed or empty is ignored", async () => {
  await using w = await world();
  await mirrorOnce(w);
  const good = await Deno.readTextFile(w.file);
  const [head, ...rest] = good.split("\n");
  const headWith = (change: (h: Record<string, unknown>) => void) => {
    const h = JSON.parse(head!);
    change(h);
    return [JSON.stringify(h), ...rest].join("\n");
  };
  const resum = async (text: string) => {
    const body = text.slice(0, text.lastIndexOf("sha256 "));
    const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(body)));
    return `${body}sha256 ${[...sum].map((b) => b.toString(16).padStart(2, "0")).join("")}\n`;
  };
  assert.equal(await resum(good), good, "the checksum is over all lines before");
  const bad: [string, RegExp][] = [
    [await resum(headWith((h) => h.clusterId = "12345")), /of another cluster/],
    [await resum(headWith((h) => h.revision = "99999")), /restored to an older state/],
    [await resum(good.replace('a/2","2"', 'a/2","other"')), /history differs/],
    [await resum(headWith((h) => h.format = "tortie snapshot 0")), /another format/],
    [await resum(headWith((h) => h.range = { start: "/a", end: "/b" })), /another range/],
    [good.replace('a/2","2"', 'a/2","3"'), /checksum is wrong/],
    [good.slice(0, good.length / 2), /checksum is wrong|JSON/],
    [good.slice(0, -1), /checksum is wrong/],
    ["", /checksum is wrong|JSON/],
    ["\xff\xfe garbage\n\n\n", /cannot be used/],
  ];
  for (const [text, why] of bad) {
    await Deno.writeTextFile(w.file, text);
    const run = await mirrorOnce(w);
    assert.match(run.log, why, text.slice(0, 200));
    assert.deepEqual(run.values, await expected(w.store), String(why));
  }
  assert.equal(await Deno.readTextFile(w.file), good, "the last run wrote a good one");
});

Deno.test("a file that is too large is not read, one that cannot be written costs a warning", async () => {
  await using w = await world();
  const huge = await Deno.open(w.file, { write: true, create: true });
  await huge.truncate(maxSnapshotBytes + 1); // sparse
  huge.close();
  assert.match((await mirrorOnce(w)).log, /cannot be used/);
  const nowhere = await mirrorOnce({ etcd: w.etcd, file: "/proc/nowhere/snapshot" });
  assert.deepEqual(nowhere.values, await expected(w.store));
});

Deno.test("the file is written at intervals, private to root, and leaves nothing beside it", async () => {
  await using w = await world();
  await using mirror = Mirror.start({ store: w.store, snapshotFile: w.file, snapshotEveryMs: 50, ...deps });
  await mirror.ready();
  await wait("the file", async () => (await Deno.stat(w.file)).isFile);
  const { revision } = await w.store.txn({ compare: [], write: [{ put: `${prefix}z`, value: "1" }] });
  await wait("the new value in the file", async () => (await Deno.readTextFile(w.file)).includes(`"${revision}"`));
  assert.equal((await Deno.stat(w.file)).mode! & 0o777, 0o600);
  const names = [...Deno.readDirSync(w.file.slice(0, w.file.lastIndexOf("/")))].map((e) => e.name);
  assert.deepEqual(names, ["snapshot"]);
});

Deno.test("a user who may read only Calico's keys gets a mirror, with and without a file", async () => {
  await using w = await world("etcd"); // tortie store has no users
  for (
    const args of [
      ["user", "add", "root:pw"],
      ["user", "grant-role", "root", "root"],
      ["role", "add", "calico"],
      ["role", "grant-permission", "calico", "--prefix=true", "readwrite", "/calico/"],
      ["user", "add", "tortie:pw"],
      ["user", "grant-role", "tortie", "calico"],
      ["auth", "enable"],
    ]
  ) await w.etcd.etcdctl(...args);
  const user = { username: "tortie", password: "pw" };
  for (const value of ["1", "2"]) {
    await using store = openEtcd({ endpoints: [w.etcd.endpoint], ...user, deadlineMs: 3_000 }, deps);
    await write(store, { "a/1": value });
    await using mirror = Mirror.start({ store, snapshotFile: w.file, ...deps });
    await mirror.ready(AbortSignal.timeout(10_000));
    assert.equal(mirror.get(`${prefix}a/1`)?.value, value);
  }
});
