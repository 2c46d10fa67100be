import assert from "node:assert/strict";
import { yamlText } from "./yaml_text.ts";

Deno.test("objects are printed as calicoctl prints them", () => {
  const value = {
    kind: "IPPool",
    metadata: { resourceVersion: "12", creationTimestamp: "2026-01-02T03:04:05Z", uid: "0-0" },
    spec: {
      list: ["a", { b: 1, a: [] }],
      "a/b": "role == 'x'",
      empty: {},
      port: "443:445",
      not: "!has(x)",
      no: undefined,
    },
  };
  assert.equal(
    yamlText(value),
    `kind: IPPool
metadata:
  creationTimestamp: "2026-01-02T03:04:05Z"
  resourceVersion: "12"
  uid: 0-0
spec:
  a/b: role == 'x'
  empty: {}
  list:
  - a
  - a: []
    b: 1
  not: '!has(x)'
  port: 443:445
`,
  );
});

Deno.test("integers of 64 bits keep their digits", () => {
  assert.equal(yamlText({ a: 9007199254740993n }), "a: 9007199254740993\n");
});
