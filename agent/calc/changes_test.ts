import assert from "node:assert/strict";
import { resourceKey } from "../../datastore/keys.ts";
import { readChanges } from "./changes.ts";

const kv = (key: string, value: string) => ({ key, value, revision: 1n, created: 1n });

Deno.test("an object is called as its key says, whatever its annotation says, so that its delete finds it", () => {
  const key = resourceKey("NetworkPolicy", "default.web", "shop");
  const value = JSON.stringify({
    kind: "NetworkPolicy",
    metadata: { name: "default.web", namespace: "shop" },
    spec: {},
  });
  const { changes } = readChanges({ set: [kv(key, value)], deleted: [key] });
  assert.deepEqual(changes.map((c) => ("set" in c ? c.set.metadata.name : c.delete.metadata.name)), [
    "default.web",
    "default.web",
  ]);
});

Deno.test("a value that is no resource is named by its key; kinds that policy does not use are left out", () => {
  const broken = resourceKey("Tier", "a"), pool = resourceKey("IPPool", "p");
  const { changes, broken: named } = readChanges({ set: [kv(broken, "[]"), kv(pool, "{}")], deleted: [pool] });
  assert.deepEqual([changes, [...named.keys()]], [[], [broken]]);
});
