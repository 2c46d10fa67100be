import assert from "node:assert/strict";
import fc from "fast-check";
import { type Json, parseJson, sameJson, writeJson } from "../lib/json64.ts";
import { decodeResource, encodeResource, isUndecodable, readResource, unknownMembers } from "./codec.ts";
import type { Resource } from "./kind.ts";
import { kindByName, kinds } from "./kinds/index.ts";
import { resourceKey } from "./keys.ts";

const at = (resource: Resource) => resourceKey(resource.kind, resource.metadata.name, resource.metadata.namespace);

function decoded(key: string, value: unknown, revision = 7n): Resource {
  const result = decodeResource({ key, value: writeJson(value), revision });
  assert.ok(result && !isUndecodable(result), key);
  return result;
}

function why(kind: string, spec: Json): string {
  const key = resourceKey(kind, "a", "shop");
  const result = decodeResource({ key, value: writeJson({ metadata: { name: "a" }, spec }), revision: 1n });
  assert.ok(result && isUndecodable(result));
  return result.why;
}

/** What writing adds to a policy and reading takes away again. */
const withoutRevision = (resource: Resource): Resource => {
  const { resourceVersion: _, ...metadata } = resource.metadata;
  return { ...resource, metadata } as Resource;
};

Deno.test("every kind's example is written and read back as it was", () => {
  for (const { example } of kinds) {
    const once = decoded(at(example), parseJson(encodeResource(example)));
    assert.equal(once.metadata.resourceVersion, "7");
    const twice = decoded(at(example), parseJson(encodeResource(once)));
    assert.deepEqual(twice, once, example.kind);
    assert.ok(sameJson(parseJson(encodeResource(example)), parseJson(encodeResource(once))), example.kind);
  }
});

const unknownValue = fc.jsonValue().filter((v) => v !== null) as fc.Arbitrary<Json>;

Deno.test("members that we do not know survive reading and writing, 64-bit integers exactly", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...kinds.map((k) => k.kind)),
      unknownValue,
      fc.bigInt({ min: 1n << 53n, max: 1n << 62n }),
      (name, v, n) => {
        const kind = kindByName(name);
        const stored = parseJson(encodeResource(kind.example)) as Record<string, Record<string, Json>>;
        const put = (object: Record<string, Json>) => Object.assign(object, { "x-later": v, "x-count": n });
        put(stored.metadata!);
        put(stored.spec!);
        put(stored as unknown as Record<string, Json>);
        const read = decoded(at(kind.example), stored);
        assert.ok(sameJson(parseJson(encodeResource(read)), stored));
        assert.equal(unknownMembers(kind, read).filter((path) => path.endsWith("x-later")).length, 3);
      },
    ),
  );
});

Deno.test("members that we do not know survive deep inside lists and objects", () => {
  const spec = { ingress: [{ action: "Allow", later: [1], source: { nets: ["10.0.0.0/8"], later: { a: 1 } } }] };
  const key = resourceKey("NetworkPolicy", "a", "shop");
  const read = decoded(key, { metadata: { name: "a", namespace: "shop" }, spec });
  assert.deepEqual((parseJson(encodeResource(read)) as { spec: Json }).spec, spec);
  const paths = unknownMembers(kindByName("NetworkPolicy"), read).sort();
  assert.deepEqual(paths, ["spec.ingress[0].later", "spec.ingress[0].source.later"]);
});

Deno.test("a value of the wrong type is told with its path, and is nobody else's trouble", () => {
  assert.equal(why("IPPool", { cidr: 10 }), "spec.cidr: number cannot be read as string");
  assert.equal(why("Node", { bgp: { asNumber: "a" } }), "spec.bgp.asNumber: string cannot be read as AS number");
  assert.equal(
    why("NetworkPolicy", { ingress: [{ source: { ports: ["5:4"] } }] }),
    "spec.ingress[0].source.ports[0]: string cannot be read as port",
  );
  assert.equal(why("IPPool", []), "spec: array cannot be read as object");
  const broken = decodeResource({ key: resourceKey("Tier", "a"), value: "{", revision: 3n });
  assert.ok(broken && isUndecodable(broken) && broken.key === resourceKey("Tier", "a") && broken.revision === 3n);
});

Deno.test("a key that is no resource's is not decoded", () => {
  assert.equal(decodeResource({ key: "/calico/ipam/v2/config", value: "{}", revision: 1n }), undefined);
  assert.equal(
    decodeResource({ key: "/calico/resources/v3/projectcalico.org/widgets/a", value: "{}", revision: 1n }),
    undefined,
  );
});

Deno.test("what is not stored is not written: resourceVersion, selfLink, and members that mean nothing", () => {
  const pool = {
    ...kindByName("IPPool").example,
    spec: { cidr: "10.0.0.0/8", natOutgoing: false, disabled: true, blockSize: 0 },
  };
  const value = parseJson(
    encodeResource({ ...pool, metadata: { name: "a", resourceVersion: "5", selfLink: "/a", labels: {} } }),
  );
  assert.deepEqual(value, {
    kind: "IPPool",
    apiVersion: "projectcalico.org/v3",
    metadata: { name: "a" },
    spec: { cidr: "10.0.0.0/8", disabled: true },
  });
});

Deno.test("null is absent, and what is always written is there after reading", () => {
  const read = decoded(resourceKey("CalicoNodeStatus", "a"), {
    metadata: { name: "a", labels: null },
    spec: { node: null },
  });
  assert.equal(read.metadata.labels, undefined);
  assert.deepEqual(read.spec, {});
  assert.deepEqual((read.status as { bgp: unknown }).bgp, {
    numberEstablishedV4: 0,
    numberNotEstablishedV4: 0,
    numberEstablishedV6: 0,
    numberNotEstablishedV6: 0,
  });
});

Deno.test("a policy's name is that of its annotation, which only the store sees", () => {
  const policy = kindByName("NetworkPolicy").example;
  const value = parseJson(encodeResource(policy)) as { metadata: { annotations: Json } };
  assert.deepEqual(value.metadata.annotations, { "projectcalico.org/metadata": '{"name":"allow-web"}' });
  const read = decoded(at(policy), value);
  assert.equal(read.metadata.annotations, undefined);
  assert.equal(read.metadata.name, "allow-web");
});

Deno.test("a policy of before Calico 3.32 loses the prefix of the default tier, and only one", () => {
  const named = (name: string, spec: Json = {}) =>
    decoded(resourceKey("GlobalNetworkPolicy", name), { metadata: { name }, spec }).metadata.name;
  assert.equal(named("default.a"), "a");
  assert.equal(named("default.default.a", { tier: "default" }), "default.a");
  assert.equal(named("sec.a", { tier: "sec" }), "sec.a");
  assert.equal(named("default.a", { tier: "sec" }), "default.a");
});

Deno.test("scalars of several spellings have one form after reading", () => {
  const spec = {
    asNumber: "1.5",
    maxRestartTime: "90s",
  };
  const peer = decoded(resourceKey("BGPPeer", "a"), { metadata: { name: "a" }, spec });
  assert.deepEqual(peer.spec, { asNumber: 65541, maxRestartTime: "1m30s" });
  const rule = { action: "Allow", protocol: "6", destination: { ports: ["443:443", "80", "1:2", "http"] } };
  const policy = decoded(resourceKey("GlobalNetworkPolicy", "a"), {
    metadata: { name: "a" },
    spec: { ingress: [rule] },
  });
  assert.deepEqual(policy.spec.ingress, [{
    action: "Allow",
    protocol: 6,
    destination: { ports: [443, 80, "1:2", "http"] },
  }]);
});

Deno.test("reading twice changes nothing more", () => {
  for (const { example, kind } of kinds) {
    const once = readResource(kindByName(kind), structuredClone(example) as unknown as Json);
    assert.ok(typeof once !== "string");
    assert.deepEqual(readResource(kindByName(kind), structuredClone(once) as unknown as Json), once);
    assert.deepEqual(withoutRevision(once), once);
  }
});
