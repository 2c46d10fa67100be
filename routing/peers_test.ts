import assert from "node:assert/strict";
import { type Cluster, outcomeOf, twoNodes } from "./_fixtures.ts";
import { parseAddressPort } from "./peerings.ts";

const noMesh = { default: { nodeToNodeMeshEnabled: false } };

Deno.test("parseAddressPort() reads what Calico allows as peerIP", () => {
  assert.deepEqual(parseAddressPort("10.0.0.1"), { v: 4, address: "10.0.0.1", port: undefined });
  assert.deepEqual(parseAddressPort("10.0.0.1:179"), { v: 4, address: "10.0.0.1", port: 179 });
  assert.deepEqual(parseAddressPort("[fd00::0001]:1790"), { v: 6, address: "fd00::1", port: 1790 });
  assert.deepEqual(parseAddressPort("fd00::1"), { v: 6, address: "fd00::1", port: undefined });
  for (const bad of ["", "tor", "10.0.0.1:99999", "10.0.0.1:", "[fd00::1]", "10.0.0.1/32"]) {
    assert.equal(parseAddressPort(bad), undefined, bad);
  }
});

Deno.test("of each pair of mesh nodes exactly one waits for the other, whatever their addresses", () => {
  const addresses = ["10.0.0.9", "10.0.0.11", "10.0.0.101", "9.0.0.1"];
  const passive = (own: string, other: string) => {
    const nodes = { n1: { bgp: { ipv4Address: `${own}/8` } }, n2: { bgp: { ipv4Address: `${other}/8` } } };
    return outcomeOf({ nodes }).peers[0]!.passive;
  };
  for (const a of addresses) {
    for (const b of addresses) if (a !== b) assert.notEqual(passive(a, b), passive(b, a), `${a} ${b}`);
  }
});

Deno.test("two nodes with one address do not break the configuration, and both are named", () => {
  const bgp = { ipv4Address: "10.0.0.2/24" };
  const { peers, problems } = outcomeOf({ nodes: { ...twoNodes, n3: { bgp }, n4: { bgp: twoNodes.n1.bgp } } });
  assert.deepEqual(peers.map((p) => p.name), ["Mesh_10_0_0_2"]);
  assert.match(problems[0]!, /^Node n4: has the same IPv4 address as this node n1/);
  assert.match(problems[1]!, /^Node n3, 10.0.0.2: has the same address as Node n2/);
});

Deno.test("of two peers with one address the first stays, by name, and the other one is named", () => {
  const peer = (asNumber: number) => ({ peerIP: "10.0.0.99", asNumber });
  const { peers, problems } = outcomeOf({ configurations: noMesh, peers: { b: peer(2), a: peer(1) } });
  assert.deepEqual(peers.map((p) => [p.name, p.asNumber]), [["Global_10_0_0_99", 1]]);
  assert.deepEqual(problems, ["BGPPeer b: has the same address and port as BGPPeer a, which stays"]);
});

Deno.test("peers that cannot be used are left out and named; the others stay", () => {
  const { peers, problems } = outcomeOf({
    configurations: noMesh,
    peers: {
      noAs: { peerIP: "10.0.0.9" },
      noAddress: { asNumber: 1 },
      gateway: { peerIP: "10.9.0.1", asNumber: 1, reachableBy: "fd00::1" },
      selector: { peerSelector: "rack ==", nodeSelector: "all()" },
      good: { peerIP: "10.0.0.8", asNumber: 65010 },
    },
  });
  assert.deepEqual(peers.map((p) => p.name), ["Global_10_0_0_8"]);
  const where = problems.map((p) => p.split(": ")[0]);
  assert.deepEqual(where, [
    "BGPPeer gateway, spec.reachableBy",
    "BGPPeer noAddress, spec.peerIP",
    "BGPPeer noAs, spec.asNumber",
    "BGPPeer selector, spec.peerSelector",
  ]);
});

Deno.test("a node that another node's peer means peers back, unless reversePeering is Manual", () => {
  const cluster = (reversePeering?: string): Cluster => ({
    configurations: noMesh,
    peers: { p: { node: "n2", peerIP: "10.0.0.1", asNumber: 64512, reversePeering, keepaliveTime: "10s" } },
  });
  assert.deepEqual(outcomeOf(cluster()).peers.map((p) => [p.name, p.keepaliveS]), [["Node_10_0_0_2", 10]]);
  assert.deepEqual(outcomeOf(cluster("Manual")).peers, []);
});

Deno.test("a password that BIRD cannot hold means no session, and it appears in no message", () => {
  const password = { secretKeyRef: { name: "bgp", key: "tor" } };
  const cluster = { configurations: noMesh, peers: { tor: { peerIP: "10.0.0.9", asNumber: 1, password } } };
  for (const bad of ['a"b', "a\nb", "", "x".repeat(81)]) {
    const { peers, text, problems } = outcomeOf(cluster, { passwords: new Map([["bgp/tor", bad]]) });
    assert.deepEqual(peers, []);
    assert.match(problems[0]!, /^BGPPeer tor, spec.password: password bgp\/tor/);
    assert.ok(bad === "" || !(text + problems).includes(bad));
  }
  const { text, problems } = outcomeOf(cluster, { passwords: new Map([["bgp/tor", "fine pass#word"]]) });
  assert.match(text, /password "fine pass#word";/);
  assert.deepEqual(problems, []);
});

Deno.test("a peering beside the mesh with the same node is told: BIRD runs one of the two", () => {
  const { peers, problems } = outcomeOf({ peers: { all: { nodeSelector: "all()", peerSelector: "all()" } } });
  assert.deepEqual(peers.map((p) => p.name), ["Mesh_10_0_0_2", "Node_10_0_0_2"]);
  assert.match(problems[0]!, /BGPPeer all and Node n2: only one of Mesh_10_0_0_2 and Node_10_0_0_2/);
});

Deno.test("a selector peer with listenPort carries the port in its name, a mesh peer does not", () => {
  const peers = { all: { nodeSelector: "all()", peerSelector: "all()" } };
  const { peers: found } = outcomeOf({ configurations: { default: { listenPort: 178 } }, peers });
  assert.deepEqual(found.map((p) => [p.name, p.port]), [["Mesh_10_0_0_2", 178], ["Node_10_0_0_2_port_178", 178]]);
});
