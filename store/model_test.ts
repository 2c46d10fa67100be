import assert from "node:assert/strict";
import { silentLog } from "../lib/log.ts";
import { Commits, type Committed } from "./commits.ts";
import { Refusal, refusal } from "./errors.ts";
import type { Call } from "./grpc.ts";
import { Leases } from "./leases.ts";
import type { PutRequest, WatchCreateRequest, WatchRequest, WatchResponse } from "./messages.ts";
import { Model } from "./model.ts";
import type { Rows } from "./rows.ts";
import { openRows } from "./sqlite.ts";
import { checkTxn } from "./txn_checks.ts";
import { Watches } from "./watches.ts";
import { FakeClock } from "../lib/clock.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (b: Uint8Array) => new TextDecoder().decode(b);
const nothing = new Uint8Array(0);
const everything = { start: new Uint8Array(1), end: new Uint8Array(1) };

const put = (key: string, value = "", more: Partial<PutRequest> = {}): PutRequest => ({
  ...{ key: bytes(key), value: bytes(value), lease: 0n },
  ...{ prev_kv: false, ignore_value: false, ignore_lease: false },
  ...more,
});

/** A store in memory whose disk fails when it is told to, and whose commits come when they are called. */
function world() {
  const rows = openRows(":memory:", () => 7n);
  let breaks: Error | undefined, deferred: (() => void)[] = [];
  const fails: Rows = new Proxy(rows, {
    get(target, name) {
      if (name === "commit" && breaks) {
        return () => {
          throw breaks;
        };
      }
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const committed: Committed[] = [], fatal: unknown[] = [];
  const commits = new Commits({
    load: () => new Model(fails, new Leases(rows, 0), rows.numbers()),
    defer: (work) => void deferred.push(work),
    committed: (what) => void committed.push(what),
    kindOf: (error) => (error as Error).message === "full" ? "full" : "fatal",
    fatal: (error) => void fatal.push(error),
    log: silentLog,
  });
  return {
    ...{ rows, commits, committed, fatal },
    breakDisk: (error?: Error) => breaks = error,
    commit() {
      const works = deferred;
      deferred = [];
      for (const work of works) work();
    },
    live: () => rows.live(everything, -1n).map((kv) => `${text(kv.key)}=${text(kv.value)}`),
  };
}

Deno.test("writes of one turn share a commit; nobody is answered before it, not even who only reads", async () => {
  const w = world();
  const answered: string[] = [];
  const writes = ["a", "b", "a"].map((key, i) =>
    w.commits.write((m) => m.put(put(key, `${i}`))).then((r) => answered.push(`${key}@${r.header!.revision}`))
  );
  const read = w.commits.read((m) => m.numbers.revision).then((revision) => answered.push(`read ${revision}`));
  const refused = assert.rejects(w.commits.write((m) => m.put(put("x", "", { lease: 9n }))), Refusal);
  await Promise.resolve();
  assert.deepEqual([answered, w.commits.numbers.revision, w.committed.length], [[], 1n, 0]);
  w.commit();
  await Promise.all([...writes, read, refused]);
  assert.deepEqual(answered, ["a@2", "b@3", "a@4", "read 4"]);
  assert.deepEqual(w.committed.map((c) => [c.before, c.revision, c.changes.length]), [[1n, 4n, 3]]);
});

Deno.test("a commit that fails for a full disk undoes its whole group: memory, leases and revision as before", async () => {
  const w = world();
  const first = w.commits.write((m) => {
    m.leases.grant(m.rows, 5n, 60n, () => 1n, 0);
    return m.put(put("kept", "1", { lease: 5n }));
  });
  w.commit();
  await first;
  w.breakDisk(new Error("full"));
  const lost = [
    w.commits.write((m) => m.put(put("kept", "2"))),
    w.commits.write((m) => m.revoke(5n)),
    w.commits.write((m) => m.compact(2n)),
  ];
  const told = Promise.all(lost.map((l) => assert.rejects(l, { message: refusal("noSpace").message })));
  w.commit();
  await told;
  assert.deepEqual([w.live(), w.commits.numbers.revision, w.commits.numbers.compacted], [["kept=1"], 2n, -1n]);
  assert.equal(w.commits.full, true);
  assert.deepEqual((await w.commits.read((m) => m.leases.look(5n, 0)))?.keys.map(text), ["kept"]);
  w.breakDisk();
  const after = w.commits.write((m) => m.put(put("kept", "3")));
  w.commit();
  assert.equal((await after).header?.revision, 3n);
  assert.deepEqual([w.commits.full, w.fatal], [false, []]);
});

Deno.test("any other failure of the disk ends the store: nothing is answered from then on", async () => {
  const w = world();
  w.breakDisk(new Error("disk I/O error"));
  const lost = assert.rejects(w.commits.write((m) => m.put(put("a"))), /the store failed/);
  w.commit();
  await lost;
  assert.equal(w.fatal.length, 1);
  await assert.rejects(w.commits.read((m) => m.numbers), /server stopped/);
});

Deno.test("compaction keeps what its revision shows, and drops what only older ones can", async () => {
  const w = world();
  const all = [
    w.commits.write((m) => m.put(put("a", "1"))), // 2
    w.commits.write((m) => m.put(put("a", "2"))), // 3
    w.commits.write((m) => m.put(put("b", "1"))), // 4
    w.commits.write((m) => m.deleteRange({ key: bytes("b"), range_end: nothing, prev_kv: false })), // 5
    w.commits.write((m) => m.put(put("a", "3"))), // 6
    w.commits.write((m) => m.compact(5n)),
  ];
  w.commit();
  await Promise.all(all);
  const history = w.rows.history(everything, 0n, 99n, -1n).map((c) => `${c.kv.mod_revision} ${text(c.kv.value)}`);
  assert.deepEqual(history, ["3 2", "6 3"]);
  assert.deepEqual(w.rows.at(everything, 5n, -1n).map((kv) => text(kv.value)), ["2"]);
});

Deno.test("a put that keeps what its own transaction deletes is refused; etcd 3.4 ends by it", () => {
  const request_delete_range = { key: bytes("a"), range_end: new Uint8Array(1), prev_kv: false };
  const txn = (request_put: PutRequest) => ({
    ...{ compare: [], failure: [] },
    success: [{ request_delete_range }, { request_put }],
  });
  checkTxn(txn(put("b", "1")));
  assert.throws(() => checkTxn(txn(put("b", "", { ignore_value: true }))), /duplicate key/);
});

Deno.test("a watch from the past tells previous values, and where it is behind a slow client it reads on from the disk", async () => {
  const w = world();
  const all = Array.from({ length: 50 }, (_, i) => w.commits.write((m) => m.put(put("k", `${i}`))));
  w.commit();
  await Promise.all(all);
  const watches = new Watches({
    numbers: () => w.commits.numbers,
    changes: (...args) => w.rows.history(...args),
    before: (key, revision) => w.rows.at({ start: key, end: nothing }, revision, 1n)[0],
    settled: () => w.commits.settled !== undefined,
    header: (revision) => ({ cluster_id: 0n, member_id: 0n, revision, raft_term: 1n }),
  }, new FakeClock());
  const told: WatchResponse[] = [], requests: WatchRequest[] = [];
  let wake = () => {}, ended = false, backlog = 0, drained = Promise.withResolvers<void>();
  const call: Call<WatchResponse> = {
    send: (answer) => void told.push(answer),
    get backlog() {
      return backlog;
    },
    drained: () => drained.promise,
    signal: new AbortController().signal,
  };
  async function* incoming() {
    while (!ended) {
      for (let r = requests.shift(); r; r = requests.shift()) yield r;
      await new Promise<void>((resolve) => wake = resolve);
    }
  }
  const serving = watches.serve(incoming(), call);
  const create_request: WatchCreateRequest = {
    ...{ key: bytes("k"), range_end: nothing, start_revision: 3n, watch_id: 0n, filters: [] },
    ...{ progress_notify: false, prev_kv: true, fragment: false },
  };
  requests.push({ create_request });
  wake();
  const turns = async () => {
    for (let i = 0; i < 50; i++) await Promise.resolve();
  };
  await turns();
  const events = () => told.flatMap((t) => t.events).map((e) => `${text(e.prev_kv!.value)}>${text(e.kv.value)}`);
  assert.deepEqual(events(), Array.from({ length: 49 }, (_, i) => `${i}>${i + 1}`));
  backlog = 1 << 30;
  const later = Array.from({ length: 3 }, (_, i) => w.commits.write((m) => m.put(put("k", `${50 + i}`))));
  w.commit();
  await Promise.all(later);
  watches.committed(w.committed.at(-1)!);
  await turns();
  assert.equal(events().length, 49, "nothing is put upon what waits already");
  backlog = 0;
  drained.resolve();
  drained = Promise.withResolvers();
  await turns();
  assert.deepEqual(events().slice(49), ["49>50", "50>51", "51>52"]);
  ended = true;
  wake();
  await serving;
});
