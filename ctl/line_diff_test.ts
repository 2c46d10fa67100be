import assert from "node:assert/strict";
import fc from "fast-check";
import { lineDiff } from "./line_diff.ts";

Deno.test("a difference shows the changed lines with three around them", () => {
  const before = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
  const after = before.with(4, "E");
  assert.equal(
    lineDiff(before.join("\n"), after.join("\n")),
    "  ...\n  b\n  c\n  d\n- e\n+ E\n  f\n  g\n  h\n  ...\n",
  );
  assert.equal(lineDiff("a\nb", "a\nb"), "");
});

Deno.test("lines with minus and blanks are the text before, lines with plus and blanks the text after", () => {
  const text = fc.array(fc.constantFrom("x", "y", "z"), { minLength: 1, maxLength: 4 });
  fc.assert(fc.property(text, text, (a, b) => {
    const lines = lineDiff(a.join("\n"), b.join("\n")).split("\n").slice(0, -1);
    if (lines.length === 0) return assert.deepEqual(a, b);
    const side = (sign: string) => lines.filter((l) => l[0] === sign || l[0] === " ").map((l) => l.slice(2));
    assert.deepEqual(side("-"), a);
    assert.deepEqual(side("+"), b);
  }));
});
