import assert from "node:assert/strict";
import { boxTable, plainTable } from "./table.ts";

Deno.test("a column is as wide as its widest cell and three blanks, at least five", () => {
  assert.equal(plainTable(["A", "NAME"], [["x", "1234567"]]), "A    NAME      \nx    1234567   \n\n");
  assert.equal(plainTable(["NAME"], []), "NAME   \n\n");
});

Deno.test("characters are counted, not bytes", () => {
  assert.equal(plainTable(["NAME"], [["äöü"]]), "NAME   \näöü    \n\n");
});

Deno.test("numbers in a box are aligned to the right, headings to the left", () => {
  assert.equal(
    boxTable(["KEY", "COUNT"], [["a", "1"]], new Set([1])),
    "+-----+-------+\n| KEY | COUNT |\n+-----+-------+\n| a   |     1 |\n+-----+-------+\n",
  );
});
