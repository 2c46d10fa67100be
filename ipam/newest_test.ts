import { deepEqual, equal } from "node:assert/strict";
import type { KeyValue } from "../datastore/store.ts";
import { prefixRange } from "../datastore/store.ts";
import { Newest } from "./newest.ts";

const kv = (key: string, value: string, revision: bigint): KeyValue => ({ key, value, revision, created: 1n });
const reader = (revision: bigint, ...kvs: KeyValue[]) => ({
  revision,
  get: (key: string) => kvs.find((k) => k.key === key),
  list: (prefix: string) => kvs.filter((k) => k.key.startsWith(prefix)),
});
const values = (kvs: KeyValue[]) => kvs.map((k) => k.value);

Deno.test("what we wrote is seen until the reader has come as far", () => {
  const newest = new Newest(reader(5n, kv("a/1", "old", 3n), kv("a/2", "gone", 4n)));
  const written = { revision: 9n, created: 1n };
  newest.wrote(
    [{ key: "a/1", value: "new", ...written }, { key: "a/2", value: undefined, ...written }, {
      key: "a/0",
      value: "more",
      ...written,
    }],
    9n,
    ["a/"],
  );
  deepEqual(values(newest.list("a/")), ["more", "new"]);
  equal(newest.get("a/2"), undefined);
  deepEqual([newest.completeTo("a/"), newest.completeTo("b/")], [9n, 5n]);
  newest.update(reader(9n, kv("a/1", "theirs", 9n)));
  deepEqual(values(newest.list("a/")), ["theirs"]);
});

Deno.test("a reader's value that is newer than what we were told wins", () => {
  const newest = new Newest(reader(5n, kv("a", "learned", 11n)));
  newest.told(["a"], new Map([["a", kv("a", "told", 8n)]]), 10n);
  equal(newest.get("a")!.value, "learned");
  newest.told(["a"], new Map(), 12n);
  equal(newest.get("a"), undefined);
});

Deno.test("being told a range also tells what is no longer in it", () => {
  const newest = new Newest(reader(5n, kv("a/1", "x", 3n), kv("a/2", "y", 4n)));
  newest.told([prefixRange("a/")], new Map([["a/2", kv("a/2", "z", 8n)]]), 8n);
  deepEqual(values(newest.list("a/")), ["z"]);
  equal(newest.completeTo("a/"), 8n);
});

Deno.test("a reader that goes back in time (a restored etcd) makes everything learned void", () => {
  const newest = new Newest(reader(50n, kv("a", "x", 3n)));
  newest.wrote([{ key: "a", value: "y", revision: 60n, created: 1n }], 60n, []);
  newest.update(reader(20n, kv("a", "restored", 3n)));
  equal(newest.get("a")!.value, "restored");
});

Deno.test("a live reader that has come as far without update() is believed", () => {
  const live = { ...reader(5n, kv("a", "x", 3n)) };
  const newest = new Newest(live);
  newest.told(["a"], new Map(), 6n);
  equal(newest.get("a"), undefined);
  live.revision = 6n;
  equal(newest.get("a")!.value, "x");
});
