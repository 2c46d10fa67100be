import assert from "node:assert/strict";
import { always, flag, given, integer, integer64, list, map, nullable, number, object, text } from "./fields.ts";
import type { Field } from "./schema.ts";
import * as tags from "./tags.ts";
import type { FieldProblem } from "../../lib/problem.ts";

function problemsOf(field: Field, value: unknown): string[] {
  const problems: FieldProblem[] = [];
  field.check(value, "spec", problems);
  return problems.map((p) => `${p.field}: ${p.reason}`);
}

function mismatches(field: Field, value: unknown): string[] {
  const wrong: string[] = [];
  field.read(value, "spec", (path, wanted) => wrong.push(`${path} ${wanted}`));
  return wrong;
}

Deno.test("a member is written when it says something, when it was given, or always", () => {
  const table = object({
    a: flag(),
    b: given(flag()),
    c: always(flag()),
    d: given(number()),
    e: list(text()),
    f: text(),
  });
  assert.deepEqual(table.write({}), { c: false });
  assert.deepEqual(table.write({ a: false, b: false, c: false, d: 0, e: [], f: "" }), { b: false, c: false, d: 0 });
  assert.deepEqual(table.write({ a: true, e: ["x"], f: "y" }), { a: true, c: false, e: ["x"], f: "y" });
});

Deno.test("an object whose members say nothing is left out, unless it was given", () => {
  const inner = object({ a: text(), b: list(text()) });
  assert.deepEqual(object({ in: inner }).write({ in: { a: "", b: [] } }), {});
  assert.deepEqual(object({ in: given(inner) }).write({ in: {} }), { in: {} });
  assert.deepEqual(object({ in: inner }).write({ in: { later: 1 } }), { in: { later: 1 } });
});

Deno.test("members are written in declared order, unknown ones last, maps sorted", () => {
  const table = object({ b: text(), a: map(text()) });
  const written = JSON.stringify(table.write({ z: 1, a: { y: "1", x: "2" }, b: "q" }));
  assert.equal(written, '{"b":"q","a":{"x":"2","y":"1"},"z":1}');
});

Deno.test("numbers beyond the type of a field cannot be read", () => {
  const port = integer({ readable: [0, 65535] });
  assert.deepEqual(mismatches(port, 65535), []);
  for (const bad of [65536, -1, 1.5, "1", 1n << 60n]) assert.deepEqual(mismatches(port, bad), ["spec int"]);
  assert.equal(integer64().read(1n << 60n, "spec", () => assert.fail()), 1n << 60n);
  assert.deepEqual(mismatches(integer64(), 1n << 64n), ["spec int64"]);
});

Deno.test("defaults fill what is absent or says nothing, and keep what was given", () => {
  const table = object({
    a: text({ default: "x" }),
    b: given(text({ default: "y" })),
    c: list(text(), { default: ["z"] }),
  });
  assert.deepEqual(table.fill({}), { a: "x", b: "y", c: ["z"] });
  assert.deepEqual(table.fill({ a: "", b: "", c: [] }), { a: "x", b: "", c: ["z"] });
  assert.equal(table.fill(undefined), undefined);
});

Deno.test("rules of the schema are told with the path and the bound", () => {
  const table = object({
    cidr: text({ format: "cidr", max: 12 }),
    n: integer({ min: 1, max: 3, required: true }),
    list: list(text({ oneOf: ["a"] }), { minItems: 1, maxItems: 2 }),
  });
  assert.deepEqual(problemsOf(table, { cidr: "10.0.0.1", list: ["a", "b", "a"] }), [
    'spec.cidr: spec.cidr in body must be of type cidr: "10.0.0.1"',
    "spec.n: Required value",
    "spec.list: must have at most 2 items",
    'spec.list[1]: supported values: "a"',
  ]);
  assert.deepEqual(problemsOf(table, { cidr: "10.10.10.0/24", n: 4, list: [] }), [
    "spec.cidr: may not be more than 12 bytes",
    "spec.n: spec.n in body should be less than or equal to 3",
    "spec.list: should have at least 1 item",
  ]);
});

Deno.test("length is counted in bytes", () => {
  assert.deepEqual(problemsOf(text({ max: 3 }), "äö"), ["spec: may not be more than 3 bytes"]);
  assert.deepEqual(problemsOf(text({ max: 3 }), "aä"), []);
});

Deno.test("a nullable member is written as null when it is absent", () => {
  assert.deepEqual(object({ at: always(nullable(text())) }).write({}), { at: null });
});

Deno.test("an empty text breaks a tag in a list and where it was given on purpose, else it says nothing", () => {
  const broken = (field: Field, value: unknown) => {
    const problems: FieldProblem[] = [];
    field.checkTags(value, "X", problems);
    return problems.map((p) => p.field);
  };
  const word = text({ tags: [tags.name] });
  assert.deepEqual(broken(word, ""), []);
  assert.deepEqual(broken(word, undefined), []);
  assert.deepEqual(broken(given(word), ""), ["X"]);
  assert.deepEqual(broken(given(word), undefined), []);
  assert.deepEqual(broken(list(word), ["a", ""]), ["X[1]"]);
  assert.deepEqual(broken(text({ tags: [tags.asked(tags.name)] }), undefined), ["X"]);
  // Calico's reader of networks takes the empty text for one.
  assert.deepEqual(broken(list(text({ tags: [tags.net] })), ["", "10.0.0.1/8"]), ["X[1]"]);
});
