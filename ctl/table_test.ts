import assert from "node:assert/strict";
import { paintOf } from "./paint.ts";
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
    boxTable(["KEY", "COUNT"], [["a", "1"]], { right: new Set([1]) }),
    "+-----+-------+\n| KEY | COUNT |\n+-----+-------+\n| a   |     1 |\n+-----+-------+\n",
  );
});

Deno.test("on a screen the heads are bold and a session's row has the colour of its state; widths stay the same", () => {
  const colours = paintOf({ screen: true, env: () => undefined });
  const rows = [["10.0.0.1", "Established"], ["10.0.0.2", "Active: Socket: no route"]];
  const text = boxTable(["PEER", "INFO"], rows, { colours });
  assert.match(text, /\n\x1b\[1m\| PEER {5}\| INFO {21}\|\x1b\[22m\n/);
  assert.match(text, /\n\x1b\[32m\| 10\.0\.0\.1 \| Established {14}\|\x1b\[39m\n\x1b\[31m\| 10\.0\.0\.2/);
  // deno-lint-ignore no-control-regex
  const bare = text.replace(/\x1b\[\d+m/g, "");
  assert.equal(bare, boxTable(["PEER", "INFO"], rows));
});
