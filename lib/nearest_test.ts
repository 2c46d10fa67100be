import assert from "node:assert/strict";
import { nearest } from "./nearest.ts";

Deno.test("the nearest word is found over a wrong, missing, additional or swapped letter and another case", () => {
  const known = ["get", "create", "natOutgoing", "nets", "notNets"];
  for (
    const [word, meant] of [["gte", "get"], ["crate", "create"], ["natoutgoing", "natOutgoing"], [
      "net",
      "nets",
    ]] as const
  ) assert.equal(nearest(word, known), meant);
  for (const word of ["", "frobnicate", "xyz"]) assert.equal(nearest(word, known), undefined);
  assert.equal(nearest("get", []), undefined);
});
