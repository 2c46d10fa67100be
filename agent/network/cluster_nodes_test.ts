import assert from "node:assert/strict";
import { formatIp } from "../../lib/ip.ts";
import { clusterNode, derivedMac, resolveNodes } from "./cluster_nodes.ts";

const vtepNode = (name: string, host: string, tunnel: string, mac?: string) =>
  clusterNode(name, {
    bgp: { ipv4Address: host },
    ipv4VXLANTunnelAddr: tunnel,
    ...(mac ? { vxlanTunnelMACAddr: mac } : {}),
  });

Deno.test("a VTEP's MAC is 66: and the first five bytes of SHA-1 of the node's name", () => {
  // From Calico's felix/calc/states_for_test.go.
  assert.equal(derivedMac("remotehostname", 4), "66:3e:ca:a4:db:65");
  assert.equal(derivedMac("remotehostname2", 4), "66:40:18:59:1f:16");
  assert.notEqual(derivedMac("remotehostname", 6), derivedMac("remotehostname", 4));
});

Deno.test("a node's address is that for BGP; without one the internal, then the external; and it has no VTEP then", () => {
  const addresses = [{ address: "192.0.2.9", type: "ExternalIP" }, { address: "192.0.2.8", type: "InternalIP" }];
  const { address, vtep } = clusterNode("a", { addresses, ipv4VXLANTunnelAddr: "10.0.0.1" });
  assert.equal(formatIp(address[4]!.ip), "192.0.2.8");
  assert.deepEqual(vtep, {});
  const both = clusterNode("a", { addresses, bgp: { ipv4Address: "192.0.2.1/24", ipv6Address: "fd00::1/64" } });
  assert.deepEqual([formatIp(both.address[4]!.ip), both.address[4]!.cidr.len], ["192.0.2.1", 24]);
});

Deno.test("a field that is not understood is named and the rest of the node holds", () => {
  const { address, vtep, faults } = clusterNode("a", {
    bgp: { ipv4Address: "192.0.2.1/24", ipv6Address: "nonsense", ipv4IPIPTunnelAddr: "fd00::1" },
    ipv4VXLANTunnelAddr: "10.0.0.1",
    vxlanTunnelMACAddr: "zz",
  });
  assert.deepEqual([address[6], vtep, formatIp(address[4]!.ip)], [undefined, {}, "192.0.2.1"]);
  assert.deepEqual(faults, [
    'spec.vxlanTunnelMACAddr: "zz" is not understood',
    'spec.bgp.ipv6Address: "nonsense" is not understood',
    'spec.bgp.ipv4IPIPTunnelAddr: "fd00::1" is not understood',
  ]);
});

Deno.test("of two VTEPs with one MAC or address the first by name stays, this node's own above all", () => {
  const nodes = [
    vtepNode("c", "192.0.2.3/24", "10.0.0.3", "02:00:00:00:00:01"),
    vtepNode("b", "192.0.2.2/24", "10.0.0.2", "02:00:00:00:00:01"),
    vtepNode("d", "192.0.2.4/24", "10.0.0.2"),
    vtepNode("e", "192.0.2.5/24", "10.0.0.5"),
    vtepNode("z", "192.0.2.6/24", "10.0.0.5"),
  ];
  const { own, others, findings } = resolveNodes(nodes, "z");
  assert.equal(own?.name, "z");
  const usable = [...others.values()].filter((n) => n.vtep[4]).map((n) => n.name);
  assert.deepEqual(usable, ["b"]);
  assert.deepEqual(findings.map(({ node, why }) => `${node}: ${why}`), [
    "c: VXLAN MAC of IPv4 02:00:00:00:00:01 is also that of node b",
    "d: VXLAN address 10.0.0.2 is also that of node b",
    "e: VXLAN address 10.0.0.5 is also that of node z",
  ]);
});

Deno.test("another node that claims this node's address is not sent to; two others that share one are told and stay", () => {
  const nodes = [
    vtepNode("own", "192.0.2.1/24", "10.0.0.1"),
    vtepNode("thief", "192.0.2.1/24", "10.0.0.2"),
    vtepNode("new", "192.0.2.3/24", "10.0.0.3"),
    vtepNode("old", "192.0.2.3/24", "10.0.0.4"),
  ];
  const { others, findings } = resolveNodes(nodes, "own");
  assert.deepEqual([others.get("thief")!.address[4], others.get("thief")!.vtep[4]], [undefined, undefined]);
  assert.ok(others.get("new")!.vtep[4] && others.get("old")!.vtep[4]);
  assert.deepEqual(findings.map((f) => f.node), ["old", "thief"]);
});
