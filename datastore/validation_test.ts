import assert from "node:assert/strict";
import fc from "fast-check";
import type { Json } from "../lib/json64.ts";
import { isProblem, Problem } from "../lib/problem.ts";
import { encodeResource, readResource } from "./codec.ts";
import { apiVersion, type Resource } from "./kind.ts";
import { kindByName, kinds } from "./kinds/index.ts";
import { check, prepare, validate } from "./validation.ts";

const fieldsOf = (kind: string, metadata: Resource["metadata"], spec: Resource["spec"]) =>
  check(kindByName(kind), { kind, apiVersion, metadata, spec }).map((p) => p.field);

/** Mutates a valid object: some member, at any depth, becomes something else. */
function spoiled(value: Json, path: number[], by: Json): Json {
  if (path.length === 0 || typeof value !== "object" || value === null) return by;
  const keys = Object.keys(value);
  if (keys.length === 0) return by;
  const key = keys[path[0]! % keys.length]!;
  const copy = (Array.isArray(value) ? [...value] : { ...value }) as Record<string, Json>;
  copy[key] = spoiled((value as Record<string, Json>)[key]!, path.slice(1), by);
  return copy as Json;
}

Deno.test("whatever an object holds, it is read, checked and encoded, or refused with a Problem", () => {
  const anything = fc.oneof(
    fc.jsonValue() as fc.Arbitrary<Json>,
    fc.constantFrom<Json>(
      "",
      "*",
      "10.0.0.0/8",
      "::/0",
      "1:2",
      -1,
      0,
      1e9,
      1n << 60n,
      [],
      {},
      [null],
      "global()",
      "a == 'b'",
    ),
  );
  const path = fc.array(fc.nat(9), { maxLength: 6 });
  fc.assert(
    fc.property(fc.constantFrom(...kinds.map((k) => k.kind)), path, anything, (name, path, by) => {
      const kind = kindByName(name);
      const { kind: _, apiVersion: __, ...rest } = kind.example;
      const object = {
        kind: name,
        apiVersion,
        ...spoiled(structuredClone(rest) as unknown as Json, path, by) as object,
      };
      const read = readResource(kind, structuredClone(object) as unknown as Json);
      if (typeof read === "string") return;
      try {
        prepare(kind, read);
        validate(kind, read);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        assert.ok(error.fields && error.fields.length > 0, error.message);
        return;
      }
      assert.equal(typeof encodeResource(read), "string");
    }),
    { numRuns: 3000 },
  );
});

Deno.test("an object that passed passes again, and is not changed by it", () => {
  for (const kind of kinds) {
    const once = structuredClone(kind.example);
    prepare(kind, once);
    validate(kind, once);
    const twice = structuredClone(once);
    prepare(kind, twice, once);
    validate(kind, twice);
    assert.deepEqual(twice, once, kind.kind);
  }
});

Deno.test("every breach is told, each once", () => {
  const long = "a".repeat(254);
  assert.deepEqual(fieldsOf("GlobalNetworkPolicy", { name: long }, { selector: "a ==" }), [
    "Metadata.Name",
    "Selector",
  ]);
  const rule = { action: "Bogus", icmp: { code: 1 }, protocol: "TCP" };
  assert.deepEqual(fieldsOf("GlobalNetworkPolicy", { name: "a" }, { ingress: [rule, { action: "Allow" }] }), [
    "spec.ingress[0].action",
    "spec.ingress[0].icmp",
    "spec.ingress[0]",
  ]);
});

Deno.test("what is not a check of the client's is not made up: kinds without a schema keep odd values", () => {
  assert.deepEqual(fieldsOf("Profile", { name: "a" }, { ingress: [{ action: "Bogus" }] }), []);
  assert.deepEqual(fieldsOf("Node", { name: "a" }, { addresses: [{ address: "what" }] }), []);
});

Deno.test("a new object gets the defaults of client and schema", () => {
  const pool = structuredClone(kindByName("IPPool").example);
  const kind = kindByName("IPPool");
  prepare(kind, pool);
  validate(kind, pool);
  assert.deepEqual(pool.spec, {
    cidr: "10.65.0.0/16",
    ipipMode: "CrossSubnet",
    vxlanMode: "Never",
    natOutgoing: true,
    blockSize: 26,
    nodeSelector: "all()",
    allowedUses: ["Workload", "Tunnel"],
    assignmentMode: "Automatic",
  });
});

Deno.test("the name of an endpoint that lacks one is computed, and a wrong one refused", () => {
  const kind = kindByName("WorkloadEndpoint");
  const endpoint = structuredClone(kind.example);
  assert.equal(kind.computeName({ ...endpoint, metadata: { name: "" } }), "node--1-k8s-web--0-eth0");
  endpoint.metadata.name = "other";
  assert.throws(() => prepare(kind, endpoint), (e) => isProblem(e, "validation") && e.fields![0]!.field === "Name");
});
