import assert from "node:assert/strict";
import { type Course, judge } from "./judge.ts";

/** A packet a millisecond: "." lost, "x" arrived, "2" arrived twice, "-" not sent. */
const told = (packets: string, course: Course, before = true, boundMs = 100) => {
  const fates = [...packets].map((c) => "-.x2".indexOf(c));
  return judge({ fates, sentAt: fates.map((_, i) => 1000 + i), before }, course, boundMs);
};
const wrong = (...args: Parameters<typeof told>) => told(...args).wrong;

Deno.test("a flow that stays must not lose or pass a single packet", () => {
  assert.deepEqual(wrong("xxxxxx", "passes"), []);
  assert.deepEqual(wrong("......", "denied"), []);
  assert.match(wrong("xx..xx", "passes")[0]!, /^2 of 6 were lost, over 1\.0 ms, the first 2\.0 ms after/);
  assert.match(wrong("...x..", "denied")[0]!, /^1 of 6 passed/);
  assert.match(wrong("xx-xx", "passes")[0]!, /^1 of 5 were lost/);
});

Deno.test("a flow that changes does so once, and within the bound", () => {
  assert.deepEqual(wrong("...xxx", "opens"), []);
  assert.deepEqual(wrong("xxx..-", "closes"), []);
  assert.match(wrong("..x.xx", "opens")[0]!, /^1 packets lost after the first passed/);
  assert.match(wrong("xx.x..", "closes")[0]!, /^1 packets passed after the first was denied/);
  assert.deepEqual(wrong("......", "opens"), ["it never opens", "in the end it does not pass"]);
  assert.match(wrong("....xx", "opens", false, 2)[0]!, /^it took 3 ms, more than 2/);
});

Deno.test("harm may be done to a flow, but in the end it is as before, and what went wrong is counted", () => {
  const { wrong, leaked, wrongMs } = told("..xxx.x..", "disturbed", false);
  assert.deepEqual([wrong, leaked, wrongMs], [[], 4, 4]);
  assert.equal(told("xx..xx", "disturbed").lost, 2);
  assert.deepEqual(told("xxx...", "disturbed").wrong, ["in the end it does not pass"]);
});

Deno.test("no packet comes out twice", () => assert.deepEqual(wrong("xx2x", "passes"), ["1 packets came out twice"]));
