import assert from "node:assert/strict";
import { FakeClock } from "../lib/clock.ts";
import { formatCidr, parseCidr } from "../lib/ip.ts";
import { isProblem } from "../lib/problem.ts";
import { apiVersion } from "../datastore/kind.ts";
import type { IPPool } from "../datastore/kinds/ip_pool.ts";
import { MemoryStore } from "../datastore/memory.ts";
import { Resources } from "../datastore/resources.ts";
import { splitCidr, splitPool } from "./pool_split.ts";

const surroundings = { clock: new FakeClock(), uuid: () => "u" } as unknown as Parameters<typeof splitPool>[1];

const pool: IPPool = {
  kind: "IPPool",
  apiVersion,
  metadata: { name: "main" },
  spec: { cidr: "10.0.0.0/16", natOutgoing: true, disabled: true },
};

Deno.test("splitCidr() gives equal parts that are as large as a block at least", () => {
  const split = (cidr: string, n: string) =>
    splitCidr(parseCidr(cidr), n, cidr.includes(":") ? 122 : 26).map(formatCidr);
  assert.deepEqual(split("10.0.0.0/16", "2"), ["10.0.0.0/17", "10.0.128.0/17"]);
  assert.deepEqual(split("fd00::/121", "2"), ["fd00::/122", "fd00::40/122"]);
  for (
    const [cidr, n] of [["10.0.0.0/16", "3"], ["10.0.0.0/16", "1"], ["10.0.0.0/16", "x"], ["10.0.0.0/26", "2"], [
      "10.0.0.0/8",
      "128",
    ]]
  ) {
    assert.throws(() => split(cidr!, n!), (e) => isProblem(e, "bad-input"), `${cidr} in ${n}`);
  }
});

Deno.test("splitPool() replaces the pool by enabled ones with its settings, at one revision", async () => {
  await using store = new MemoryStore();
  const resources = new Resources(store);
  const stored = await resources.create(pool);
  const names = await splitPool(resources, surroundings, stored, splitCidr(parseCidr(pool.spec.cidr), "2", 26));
  assert.deepEqual(names, ["split-main-0", "split-main-1"]);
  const { items } = await resources.list<IPPool>("IPPool");
  assert.deepEqual(items.map((p) => [p.metadata.name, p.spec.cidr, p.spec.natOutgoing, p.spec.disabled]), [
    ["split-main-0", "10.0.0.0/17", true, undefined],
    ["split-main-1", "10.0.128.0/17", true, undefined],
  ]);
  assert.equal(new Set(items.map((p) => p.metadata.resourceVersion)).size, 1);
});

Deno.test("splitPool() of a pool that was changed meanwhile, or whose parts' names are taken, changes nothing", async () => {
  await using store = new MemoryStore();
  const resources = new Resources(store);
  const stored = await resources.create(pool);
  await resources.update({ ...stored, spec: { ...stored.spec, natOutgoing: false } });
  const parts = splitCidr(parseCidr(pool.spec.cidr), "2", 26);
  await assert.rejects(splitPool(resources, surroundings, stored, parts), (e) => isProblem(e, "conflict"));
  await resources.create({ ...pool, metadata: { name: "split-main-1" }, spec: { cidr: "10.9.0.0/16" } });
  const fresh = await resources.get<IPPool>("IPPool", "main");
  await assert.rejects(splitPool(resources, surroundings, fresh, parts), (e) => isProblem(e, "conflict"));
  assert.deepEqual((await resources.list("IPPool")).items.map((p) => p.metadata.name), ["main", "split-main-1"]);
});
