import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { compareRequest, eventOf, keyValueOf, rangeRequest, txnRequest } from "./_etcd_requests.ts";

const text = (b: unknown) => (b as Buffer).toString();

Deno.test("compares are numbers of etcd's enums: target MOD is 2, EQUAL 0, LESS 2", () => {
  const key = compareRequest({ key: "/a", revision: 7n });
  assert.deepEqual({ ...key, key: text(key.key) }, { key: "/a", target: 2, result: 0, mod_revision: "7" });
  const range = compareRequest({ range: { start: "/a/", end: "/a0" }, unchangedSince: 9007199254740993n });
  assert.deepEqual([text(range.key), text(range.range_end)], ["/a/", "/a0"]);
  assert.deepEqual([range.target, range.result, range.mod_revision], [2, 2, "9007199254740994"]);
});

Deno.test("on conflict the compared keys are read, each once, or what is asked for", () => {
  const compare = [{ key: "/a", revision: 0n }, { key: "/a", revision: 1n }];
  const failure = (txn: Parameters<typeof txnRequest>[0]) =>
    (txnRequest(txn).failure as { request_range: { key: Buffer; range_end?: Buffer } }[]).map((f) =>
      text(f.request_range.key) + (f.request_range.range_end ? `..${text(f.request_range.range_end)}` : "")
    );
  assert.deepEqual(failure({ compare, write: [] }), ["/a"]);
  const onConflict = ["/b", { start: "/c/", end: "/c0" }];
  assert.deepEqual(failure({ compare, write: [], onConflict }), ["/b", "/c/../c0"]);
});

Deno.test("64-bit numbers stay exact, and a value never changed shares one bigint", () => {
  const kv = {
    key: Buffer.from("/ü"),
    value: Buffer.from("ß"),
    mod_revision: "9223372036854775807",
    create_revision: "5",
  };
  assert.deepEqual(keyValueOf(kv), { key: "/ü", value: "ß", revision: 9223372036854775807n, created: 5n });
  assert.deepEqual(eventOf({ type: "Delete", kv }).value, undefined);
  assert.deepEqual(eventOf({ type: "Put", kv }).value, "ß");
  const at = rangeRequest("/a", { at: 9007199254740993n, limit: 3 });
  assert.deepEqual([at.revision, at.limit, at.range_end], ["9007199254740993", 3, undefined]);
});
