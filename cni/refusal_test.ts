import { deepEqual, equal, ok } from "node:assert/strict";
import { Problem, type ProblemCode } from "../lib/problem.ts";
import { cniError, ownCodes, Refusal } from "./refusal.ts";

Deno.test("cniError() has the version, a code and what, where and what to do", () => {
  const problem = new Problem({ code: "exhausted", what: "pool is full", where: "pool p", todo: "Add one" });
  deepEqual(cniError(problem, "1.0.0"), {
    ...{ cniVersion: "1.0.0", code: 101, msg: "pool is full", details: "pool p. Add one" },
  });
  const refusal = new Refusal(4, { code: "bad-input", what: "w", where: "x" }, "d");
  deepEqual(cniError(refusal, "0.2.0"), { cniVersion: "0.2.0", code: 4, msg: "w", details: "d" });
});

Deno.test("cniError() says the cause and the fields, and calls a bug a bug", () => {
  const cause = new Problem({ code: "kernel", what: "refused", cause: new Error("EPERM") });
  equal(cniError(cause, "1.0.0").msg, "refused: EPERM");
  const fields = [{ field: "spec.pod", reason: "must not begin with a '-'" }];
  const invalid = new Problem({ code: "validation", what: "cannot be named", fields });
  equal(cniError(invalid, "1.0.0").details, "spec.pod: must not begin with a '-'");
  deepEqual(cniError(new TypeError("x"), "1.0.0"), { cniVersion: "1.0.0", code: 199, msg: "internal error: x" });
});

Deno.test("what passes by itself is 11, everything else has a code of its own from 100 on", () => {
  const again: ProblemCode[] = ["unavailable", "not-ready"];
  const others = Object.entries(ownCodes).filter(([name]) => !again.includes(name as ProblemCode)).map(([, n]) => n);
  deepEqual(again.map((name) => ownCodes[name]), [11, 11]);
  ok(others.every((n) => n >= 100 && n < 200));
  equal(new Set(others).size, others.length);
});
