import assert from "node:assert/strict";
import { isProblem } from "../../lib/problem.ts";
import { ensureInitialized } from "../cluster.ts";
import { unknownMembers } from "../codec.ts";
import { MemoryStore } from "../memory.ts";
import { Resources } from "../resources.ts";
import { kindByName, kindByPlural, kindByWord, kinds } from "./index.ts";

const context = { asNumber: 64512 };

Deno.test("no two kinds share a name, a plural or a word", () => {
  const words = kinds.filter((k) => !k.internal).flatMap((k) => [k.kind.toLowerCase(), k.plural, ...k.shortNames]);
  assert.deepEqual(words.filter((w, i) => words.indexOf(w) !== i), []);
  for (const kind of kinds) {
    assert.equal(kindByName(kind.kind), kind);
    assert.equal(kindByPlural(kind.plural), kind);
  }
});

Deno.test("users find kinds in any case, by short names too, but not the internal ones", () => {
  assert.equal(kindByWord("IPPools")?.kind, "IPPool");
  assert.equal(kindByWord("wep")?.kind, "WorkloadEndpoint");
  assert.equal(kindByWord("ipamconfig")?.kind, "IPAMConfiguration");
  assert.equal(kindByWord("livemigrations"), undefined);
  assert.equal(kindByWord("pods"), undefined);
});

Deno.test("every kind's example can be created, read, changed, listed and deleted", async () => {
  for (const kind of kinds) {
    await using store = new MemoryStore();
    const resources = new Resources(store);
    if (kind.kind !== "ClusterInformation") await ensureInitialized(resources);
    const created = await resources.create(kind.example);
    const { name, namespace } = created.metadata;
    assert.deepEqual(unknownMembers(kind, created), [], kind.kind);
    const changed = await resources.update({ ...created, metadata: { ...created.metadata, labels: { a: "b" } } });
    assert.equal(changed.metadata.labels!.a, "b");
    const listed = (await resources.list(kind.kind, namespace)).items.find((r) => r.metadata.name === name);
    assert.deepEqual(listed, await resources.get(kind.kind, name, namespace), kind.kind);
    await resources.delete(kind.kind, name, namespace);
    await assert.rejects(resources.get(kind.kind, name, namespace), (e) => isProblem(e, "not-found"));
  }
});

Deno.test("every column has a cell for the example and for an object that says nothing", () => {
  for (const kind of kinds) {
    assert.ok(kind.columns.length > 0, kind.kind);
    const bare = { ...kind.example, spec: kind.kind === "BGPFilter" ? {} : kind.example.spec };
    for (const column of kind.columns) {
      assert.equal(typeof column.value(kind.example, context), "string");
      assert.equal(typeof column.value(bare, context), "string");
    }
  }
});
