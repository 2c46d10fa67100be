import assert from "node:assert/strict";
import fc from "fast-check";
import { isProblem } from "../lib/problem.ts";
import {
  containerInterfaceName,
  endpointName,
  escapePart,
  globalPolicyPattern,
  isEndpointOf,
  isPortName,
  isQualifiedName,
  isResourceName,
  networkPolicyPattern,
  parseEndpointName,
  podInterfaceName,
  unescapePart,
} from "./names.ts";

const segment = fc.stringMatching(/^[a-z0-9]([a-z0-9.-]{0,8}[a-z0-9])?$/);

Deno.test("an endpoint's name gives back what it is made of", () => {
  fc.assert(
    fc.property(
      fc.tuple(segment, segment, segment),
      fc.constantFrom("k8s", "cni", "nomad"),
      ([node, third, endpoint], orchestrator) => {
        const field = { k8s: "pod", cni: "containerID", nomad: "workload" }[orchestrator]!;
        const id = { node, orchestrator, endpoint, [field]: third };
        assert.deepEqual(parseEndpointName(endpointName(id)), id);
      },
    ),
  );
});

Deno.test("dashes of an endpoint's name are doubled, dots stay", () => {
  const id = { node: "node-1.lan", orchestrator: "k8s", pod: "web-0", endpoint: "eth0" };
  assert.equal(endpointName(id), "node--1.lan-k8s-web--0-eth0");
});

Deno.test("an endpoint that lacks a part has no name, and the part is told", () => {
  const incomplete = { node: "n", orchestrator: "k8s", endpoint: "eth0" };
  const isAbout = (field: string) => (e: unknown) => isProblem(e, "validation") && e.fields![0]!.field === field;
  assert.throws(() => endpointName(incomplete), isAbout("pod"));
  assert.throws(() => endpointName({ ...incomplete, pod: "a-" }), isAbout("pod"));
  assert.throws(() => endpointName({ ...incomplete, node: "" }), isAbout("node"));
  for (const bad of ["", "a", "a-k8s-b", "a-k8s-b-c-d"]) assert.equal(parseEndpointName(bad), undefined, bad);
});

Deno.test("an endpoint is of the node that its name tells", () => {
  const segment = fc.stringMatching(/^[a-z0-9-]{0,6}$/), name = fc.array(segment, { minLength: 3, maxLength: 5 });
  fc.assert(fc.property(segment, name, fc.boolean(), (node, parts, own) => {
    const text = [...(own ? [node.replaceAll("-", "--")] : []), ...parts].join("-");
    assert.equal(isEndpointOf(node, `/folder/${text}`), parseEndpointName(text)?.node === node);
    assert.equal(isEndpointOf(node, text), parseEndpointName(text)?.node === node);
  }));
});

Deno.test("a pod's interface has the name that Calico gives it", async () => {
  assert.equal(await podInterfaceName("shop", "cart-0"), "cali18582a65b10");
  assert.equal((await podInterfaceName("a", "b", "tap")).length, 14);
  assert.equal(containerInterfaceName("c0ffee01-long-identifier"), "calic0ffee01-lo");
});

Deno.test("names of resources are labels joined by dots", () => {
  for (const good of ["a", "a-b", "a.b", "0", "a.b.c-d"]) assert.ok(isResourceName(good), good);
  for (const bad of ["", "A", "-a", "a-", "a..b", "a_b", ".a", "a."]) assert.ok(!isResourceName(bad), bad);
});

Deno.test("policies have names of one label, two, or a prefix of another system", () => {
  for (const good of ["a", "tier.a", "knp.default.a.b.c", "ossg.default.a"]) assert.match(good, networkPolicyPattern);
  for (const bad of ["a.b.c", "knp.a.b", "A"]) assert.doesNotMatch(bad, networkPolicyPattern);
  assert.match("tier.a", globalPolicyPattern);
  assert.doesNotMatch("knp.default.a", globalPolicyPattern);
});

Deno.test("names of ports and labels follow Kubernetes", () => {
  for (const good of ["http", "a1", "1a", "http-alt"]) assert.ok(isPortName(good), good);
  for (const bad of ["", "HTTP", "80", "a--b", "-a", "a-", "a".repeat(16)]) assert.ok(!isPortName(bad), bad);
  for (const good of ["a", "A_b.c", "example.com/a"]) assert.ok(isQualifiedName(good), good);
  for (const bad of ["", "/a", "a/", "a/b/c", "-a", "Example.com/a", "a".repeat(64)]) {
    assert.ok(!isQualifiedName(bad), bad);
  }
});

Deno.test("any text survives being a part of a key", () => {
  fc.assert(fc.property(fc.string(), (text) => {
    assert.equal(unescapePart(escapePart(text)), text);
    assert.ok(!escapePart(text).includes("/"));
  }));
});
