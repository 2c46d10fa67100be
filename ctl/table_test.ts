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
  const paint = (code: number, line: string, off: number) => `\x1b[${code}m${line}\x1b[${off}m`;
  assert.deepEqual(text.split("\n").filter((line) => line.includes("m|")), [
    paint(1, "| PEER     | INFO                     |", 22),
    paint(32, "| 10.0.0.1 | Established              |", 39),
    paint(31, "| 10.0.0.2 | Active: Socket: no route |", 39),
  ]);
  // deno-lint-ignore no-control-regex
  const bare = text.replace(/\x1b\[\d+m/g, "");
  assert.equal(bare, boxTable(["PEER", "INFO"], rows));
});
