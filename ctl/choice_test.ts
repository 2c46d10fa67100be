import assert from "node:assert/strict";
import { isProblem } from "../lib/problem.ts";
import { apiVersion, type Resource } from "../datastore/kind.ts";
import { kindByName } from "../datastore/kinds/index.ts";
import { choiceOf, chosen } from "./choice.ts";

const policy = (name: string, order: number | undefined, labels: Record<string, string> = {}): Resource => ({
  kind: "GlobalNetworkPolicy",
  apiVersion,
  metadata: { name, labels },
  spec: { tier: "default", order },
});
const kind = kindByName("GlobalNetworkPolicy");
const items = [policy("a", 100, { app: "x" }), policy("b", 9), policy("c", undefined, { app: "y" })];
const names = (selector?: string, sortBy?: string) =>
  chosen({ kind, items, revision: 1n }, choiceOf(selector, sortBy)).items.map((r) => r.metadata.name).join("");

Deno.test("a selector chooses by labels", () => {
  assert.equal(names(), "abc");
  assert.equal(names("has(app)"), "ac");
  assert.equal(names("app in {'y', 'z'}"), "c");
  assert.throws(() => names("app =="), (e) => isProblem(e, "bad-input"));
});

Deno.test("objects are sorted by a column or a path, numbers by size, what is absent last", () => {
  assert.equal(names(undefined, "spec.order"), "bac");
  assert.equal(names(undefined, "name"), "abc");
  assert.equal(names(undefined, "metadata.labels.app"), "acb");
  assert.throws(() => names(undefined, "nonsense"), (e) => isProblem(e, "bad-input") && /NAME, TIER/.test(e.what));
});
