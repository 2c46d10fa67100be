import assert from "node:assert/strict";
import fc from "fast-check";
import { canonicalDuration, durationMs, parseDuration } from "./duration.ts";

Deno.test("a duration is read and written as Go does", () => {
  const forms: Record<string, string> = {
    "90s": "1m30s",
    "5m": "5m0s",
    "1h": "1h0m0s",
    "1500ms": "1.5s",
    "1.5h": "1h30m0s",
    "0": "0s",
    "0s": "0s",
    "-90s": "-1m30s",
    "1us": "1µs",
    "1500ns": "1.5µs",
    ".5s": "500ms",
    "1h1ns": "1h0m0.000000001s",
  };
  for (const [from, to] of Object.entries(forms)) assert.equal(canonicalDuration(parseDuration(from)!), to, from);
});

Deno.test("what is no duration is not read", () => {
  for (const bad of ["", "1", "s", "1 s", "1d", "1s2", "--1s", "1e3s", "9223372037s"]) {
    assert.equal(parseDuration(bad), undefined, bad);
  }
  assert.equal(durationMs("1.5ms"), 1.5);
});

Deno.test("any duration survives its canonical form", () => {
  const limit = 1n << 62n;
  fc.assert(fc.property(fc.bigInt({ min: -limit, max: limit }), (ns) => {
    assert.equal(parseDuration(canonicalDuration(ns)), ns);
  }));
});
