import assert from "node:assert/strict";
import { outcomeOf, resourcesOf, twoNodes } from "./_fixtures.ts";
import { hashedRouterId, inputsOf, isPattern, parseCommunity } from "./inputs.ts";
import { Findings } from "./resources.ts";

Deno.test("the router id of a node with only IPv6 is the hash of its name, below the multicast addresses", () => {
  const { speaker, text } = outcomeOf({ nodes: { n1: { bgp: { ipv6Address: "fd00::1/64" } } } });
  assert.equal(speaker.routerId, hashedRouterId("n1"));
  assert.match(text, new RegExp(`^router id ${hashedRouterId("n1").replaceAll(".", "\\.")};$`, "m"));
  for (let i = 0; i < 500; i++) assert.ok(Number(hashedRouterId(`node-${i}`).split(".")[0]) <= 223);
});

Deno.test("a CALICO_ROUTER_ID that is no address is named, and the node's address stands in", () => {
  const { speaker, problems } = outcomeOf({}, { env: { CALICO_ROUTER_ID: "rack-7" } });
  assert.equal(speaker.routerId, "10.0.0.1");
  assert.equal(problems.length, 1);
  assert.match(problems[0]!, /^CALICO_ROUTER_ID: "rack-7"/);
});

Deno.test("without a Node of our name nothing can be said, and the problem tells which name was looked for", () => {
  const findings = new Findings();
  const around = { node: "other", env: {}, peeringEndpoints: [], passwords: new Map() };
  assert.equal(inputsOf(resourcesOf({}), around, findings), undefined);
  assert.equal(findings.problems[0]!.where, "Node other");
});

Deno.test("a node with an address that cannot be read is left out alone and named", () => {
  const { peers, problems } = outcomeOf({
    nodes: { ...twoNodes, n3: { bgp: { ipv4Address: "10.0.0.300/24" } }, n4: { bgp: { ipv4Address: "fd00::4/64" } } },
  });
  assert.deepEqual(peers.map((p) => p.name), ["Mesh_10_0_0_2"]);
  assert.deepEqual(problems.map((p) => p.split(":")[0]), [
    "Node n3, spec.bgp.ipv4Address",
    "Node n4, spec.bgp.ipv4Address",
  ]);
});

Deno.test("a pending claim on a block is not announced; one that is being deleted is, with its addresses", () => {
  const affinities = { "10.65.0.0/26": "confirmed", "10.65.0.64/26": "pending", "10.65.0.128/26": "pendingDeletion" };
  const { speaker } = outcomeOf({ affinities });
  assert.deepEqual(speaker.families[4].blocks.map((b) => [b.cidr.n & 0xffn, b.confirmed]), [[0n, true], [128n, false]]);
});

Deno.test("overlapping pools are named, and the longer prefix decides about a route to the kernel", () => {
  const { text, problems } = outcomeOf({
    pools: { outer: { cidr: "10.65.0.0/16", vxlanMode: "Always" }, inner: { cidr: "10.65.4.0/24" } },
  });
  assert.match(problems[0]!, /^IPPool inner, spec.cidr: overlaps with IPPool outer/);
  const kernel = text.slice(text.indexOf("filter calico_kernel_programming4"));
  assert.ok(
    kernel.indexOf("net ~ 10.65.4.0/24) then { accept; }") < kernel.indexOf("net ~ 10.65.0.0/16) then { reject; }"),
  );
});

Deno.test("community names come from the same resource, and what is no community is left out and named", () => {
  const { speaker, problems } = outcomeOf({
    configurations: {
      default: { communities: [{ name: "far", value: "65000:1" }] },
      "node.n1": {
        communities: [{ name: "near", value: "65000:2" }],
        prefixAdvertisements: [{ cidr: "10.65.0.0/16", communities: ["near", "far", "65536:1", "1:2:3", "1:2:3"] }],
      },
    },
  });
  assert.deepEqual(speaker.families[4].advertisements, [{
    cidr: "10.65.0.0/16",
    communities: [[1, 2, 3], [65000, 2]],
  }]);
  assert.equal(problems.length, 2);
});

Deno.test("parseCommunity() takes two numbers of 16 bits or three of 32", () => {
  assert.deepEqual(parseCommunity("65535:0"), [65535, 0]);
  assert.deepEqual(parseCommunity("4294967295:0:1"), [4294967295, 0, 1]);
  for (const bad of ["65536:0", "1", "1:2:3:4", "4294967296:0:0", "a:b", "-1:2", "1 :2"]) {
    assert.equal(parseCommunity(bad), undefined, bad);
  }
});

Deno.test("an interface pattern that would end BIRD's string is refused", () => {
  assert.ok(isPattern("eth*") && isPattern("bond0.12@x"));
  for (const bad of ['a"; }', "a\nb", "", "a b", "\u0007"]) assert.ok(!isPattern(bad), JSON.stringify(bad));
  const { text, problems } = outcomeOf({
    configurations: { default: { ignoredInterfaces: ['x"; protocol', "dummy*"] } },
  });
  assert.match(text, /interface -"dummy\*", -"cali\*", -"kube-ipvs\*", "\*";/);
  assert.equal(problems.length, 1);
});
