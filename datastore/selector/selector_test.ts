import assert from "node:assert/strict";
import fc from "fast-check";
import { Problem } from "../../lib/problem.ts";
import { uniqueId } from "./canonical.ts";
import { parseSelector, selectorOf } from "./index.ts";
import { isLabelName } from "./lex.ts";
import type { Labels } from "./match.ts";
import { compareCodePoints } from "./parse.ts";

type OwnLabels = Record<string, string>;

/** A selector's text together with what it means, built side by side and without our parser. */
interface Meant {
  text: string;
  holds(labels: OwnLabels): boolean;
}

const names = ["a", "b", "in", "not", "has", "x/y.z-1", "contains"];
const label = fc.constantFrom(...names);
const value = fc.constantFrom("", "x", "yx", "x y", "it's", 'say "x"', "\u{1F600}", "\uFF5E", "é");
const space = fc.constantFrom("", " ", "\t", "  ");
const quote = (v: string) => (v.includes("'") ? `"${v}"` : `'${v}'`);
const labelMap = fc.dictionary(label, value, { noNullPrototype: true });

const valueTests: Record<string, (have: string | undefined, v: string) => boolean> = {
  "==": (have, v) => have !== undefined && have === v,
  "!=": (have, v) => !(have !== undefined && have === v),
  " contains ": (have, v) => have !== undefined && have.split(v).length > (v === "" ? -1 : 1),
  "startswith": (have, v) => have !== undefined && have.slice(0, v.length) === v,
  " ends\twith ": (have, v) =>
    have !== undefined && have.slice(have.length - v.length) === v && have.length >= v.length,
};

const comparison: fc.Arbitrary<Meant> = fc
  .tuple(label, fc.constantFrom(...Object.keys(valueTests)), value, space)
  .map(([l, op, v, s]) => ({
    text: `${l} ${op}${s}${quote(v)}`,
    holds: (labels) => valueTests[op]!(labels[l], v),
  }));

const membership: fc.Arbitrary<Meant> = fc
  .tuple(label, fc.constantFrom(true, false), fc.array(value, { maxLength: 4 }), space)
  .map(([l, isIn, vs, s]) => ({
    text: `${l}${s || " "}${isIn ? "in" : `not${s}in`}${s}{${vs.map((v) => s + quote(v)).join(",")}${
      vs[0] ? "," : ""
    }}`,
    holds: (labels) => (labels[l] === undefined ? !isIn : vs.some((v) => v === labels[l]) === isIn),
  }));

const leaf: fc.Arbitrary<Meant> = fc.oneof(
  comparison,
  membership,
  label.map((l) => ({ text: `has( ${l})`, holds: (labels: OwnLabels) => l in labels })),
  fc.constantFrom("all()", "global( )").map((text) => ({ text, holds: () => true })),
);

const meant: fc.Arbitrary<Meant> = fc.letrec<{ any: Meant }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 4 },
    leaf,
    tie("any").map((m) => ({ text: `!(${m.text})`, holds: (l: OwnLabels) => !m.holds(l) })),
    fc.array(tie("any"), { minLength: 1, maxLength: 3 }).map((ms) => ({
      text: ms.map((m) => `(${m.text})`).join("&&"),
      holds: (l: OwnLabels) => ms.reduce((all, m) => all && m.holds(l), true),
    })),
    fc.array(tie("any"), { minLength: 1, maxLength: 3 }).map((ms) => ({
      text: ms.map((m) => `( ${m.text}\t)`).join(" || "),
      holds: (l: OwnLabels) => ms.reduce((any, m) => any || m.holds(l), false),
    })),
  ),
})).any;

Deno.test("a selector matches exactly what an independent evaluator says", () => {
  fc.assert(
    fc.property(meant, labelMap, (m, labels) => {
      const selector = parseSelector(m.text);
      assert.equal(selector.matches(labels), m.holds(labels));
      assert.equal(selector.matches(new Map(Object.entries(labels))), m.holds(labels));
    }),
    { numRuns: 1000 },
  );
});

Deno.test("the canonical text parses to itself and means the same", () => {
  fc.assert(
    fc.property(meant, labelMap, (m, labels) => {
      const first = parseSelector(m.text);
      const second = parseSelector(first.text);
      assert.equal(second.matches(labels), first.matches(labels));
      // `!(!(x))` is written `!!x`, as Calico does, and that reads as x: the one form that takes a second step.
      if (!first.text.includes("!!")) assert.equal(second.text, first.text);
      assert.equal(parseSelector(second.text).id, second.id);
    }),
    { numRuns: 500 },
  );
});

Deno.test("every match satisfies the restrictions, and nothing matches where they are impossible", () => {
  fc.assert(
    fc.property(meant, labelMap, (m, labels) => {
      const selector = parseSelector(m.text);
      if (!selector.matches(labels)) return;
      assert.ok(selector.canMatch());
      for (const [name, r] of selector.restrictions()) {
        const have = labels[name];
        assert.ok(!r.present || have !== undefined, `${name} must be present`);
        assert.ok(!r.absent || have === undefined, `${name} must be absent`);
        assert.ok(!r.values || r.values.has(have!), `${name} must have one of the values`);
      }
    }),
    { numRuns: 1000 },
  );
});

Deno.test("restrictions merge per label over && and keep over || what every branch demands", () => {
  const of = (text: string) => Object.fromEntries(parseSelector(text).restrictions());
  const b = { present: true, absent: false };
  assert.deepEqual(of('a == "x" && a in {"x", "y"} && has(c)'), {
    a: { ...b, values: new Set(["x"]) },
    c: { ...b, values: undefined },
  });
  assert.deepEqual(of('(a == "x" && has(c)) || a == "y"'), { a: { ...b, values: new Set(["x", "y"]) } });
  assert.deepEqual(of('a == "x" || has(a)'), { a: { ...b, values: undefined } });
  assert.deepEqual(of("!has(a)"), { a: { present: false, absent: true, values: undefined } });
  assert.deepEqual(of('!(a == "x") && b != "y" && c not in {"z"} && all()'), {});
  for (const never of ["has(a) && !has(a)", 'a == "x" && a == "y"', "a in {}"]) {
    assert.equal(parseSelector(never).canMatch(), false, never);
  }
});

Deno.test("a text that is no selector is refused with the position", () => {
  const places: [string, number][] = [
    ["a", 2],
    ["a == b", 6],
    ['= "x"', 1],
    ["has(a) & has(b)", 8],
    ["has(a) | has(b)", 8],
    ['a == "x', 6],
    ['a == "x"\n', 9],
    ['a in {"x" "y"}', 11],
    ["a in {,}", 7],
    ["has (a)", 5],
    ["all(", 5],
    ["(has(a)", 8],
    ["has(a))", 7],
    ["has(a) &&", 10],
    ['"a" == "b"', 1],
    ['a == "x" b == "y"', 10],
    ["has(é)", 5],
    ["x".repeat(513) + ' == "y"', 1],
  ];
  for (const [text, place] of places) {
    assert.throws(() => parseSelector(text), (error) => {
      assert.ok(error instanceof Problem, String(error));
      assert.equal(error.code, "bad-input");
      assert.ok(error.where!.startsWith(`character ${place} of `), `${text}: ${error.message}`);
      return true;
    });
  }
});

Deno.test("any text gives a selector or a Problem, and never another error", () => {
  const piece = fc.constantFrom(..."()\"'{},!=&| \t\nab", "has(", "all()", " in ", "not in", "==", "&&");
  const text = fc.oneof(fc.string(), fc.array(piece, { maxLength: 30 }).map((p) => p.join("")));
  fc.assert(
    fc.property(text, (t) => {
      try {
        parseSelector(t);
      } catch (error) {
        assert.ok(error instanceof Problem, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("deep nesting is refused before the stack ends, 500 levels are fine", () => {
  const nested = (n: number) => "(".repeat(n) + "!has(a)" + ")".repeat(n);
  assert.equal(parseSelector(nested(500)).text, "!has(a)");
  assert.throws(() => parseSelector(nested(501)), Problem);
  assert.throws(() => parseSelector("(".repeat(1_000_000)), Problem);
  const alternating = "!(has(b) && ".repeat(500) + "has(a)" + ")".repeat(500);
  assert.equal(parseSelector(alternating).matches({ a: "" }), true);
});

Deno.test("labels of Object's prototype are absent unless they are own", () => {
  const selector = parseSelector("has(constructor) || has(get)");
  assert.equal(selector.matches({}), false);
  assert.equal(selector.matches({ get: "x" }), true);
  assert.equal(selector.matches({ constructor: "x" } as unknown as Labels), true);
});

Deno.test("a prefix goes before every label name and nothing else", () => {
  const selector = parseSelector('a == "a" && !(b in {"a"} || all() || has(a))').withPrefix("pcns.");
  assert.equal(selector.text, '(pcns.a == "a" && !(pcns.b in {"a"} || all() || has(pcns.a)))');
  assert.equal(selector.text, selectorOf(selector.root).text);
});

Deno.test("sets are sorted by bytes, so that astral characters come last", () => {
  const sign = parseSelector("a in {'\u{1F600}', '\uFF5E', 'b'}").text;
  assert.equal(sign, 'a in {"b", "\uFF5E", "\u{1F600}"}');
  const bytes = (s: string) => Array.from(new TextEncoder().encode(s), (b) => b.toString(16).padStart(2, "0")).join("");
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (x, y) => {
    assert.equal(Math.sign(compareCodePoints(x, y)), bytes(x) < bytes(y) ? -1 : bytes(x) > bytes(y) ? 1 : 0);
  }));
});

Deno.test("the id of all() is the one that Calico calculates", () => {
  assert.equal(parseSelector(" ").id, "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug");
  assert.equal(uniqueId("s", "all()"), parseSelector("all()").id);
});

Deno.test("label names are 1 to 512 characters of the language's alphabet", () => {
  for (const good of ["a", "x/y", "..", "-x", "9", "a".repeat(512)]) assert.ok(isLabelName(good), good);
  for (const bad of ["", "a b", "é", "a\n", "a".repeat(513)]) assert.ok(!isLabelName(bad), bad);
});
