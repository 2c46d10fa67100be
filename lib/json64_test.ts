import assert from "node:assert/strict";
import fc from "fast-check";
import { parseJson, sameJson, writeJson } from "./json64.ts";

Deno.test("integers beyond 2^53 survive reading and writing", () => {
  const text = `{"sequenceNumber":1795249902563550424,"at":{"0":-9223372036854775808},"n":7,"f":1.5}`;
  assert.equal(writeJson(parseJson(text)), text);
  assert.equal(parseJson("18446744073709551615") as bigint, 18446744073709551615n);
});

Deno.test("digits inside strings stay strings", () => {
  assert.deepEqual(parseJson(`{"a":"1795249902563550424","b":[12345678901234567890]}`), {
    a: "1795249902563550424",
    b: [12345678901234567890n],
  });
});

Deno.test("any JSON survives, and equals itself with members in another order", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    const back = parseJson(writeJson(value));
    assert.ok(sameJson(back, JSON.parse(JSON.stringify(value))));
  }));
  assert.ok(sameJson({ a: 1, b: [1n] }, { b: [1], a: 1 }));
  assert.ok(!sameJson({ a: 1 }, { a: 1, b: null }));
  assert.ok(!sameJson("1", 1n));
});
