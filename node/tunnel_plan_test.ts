import assert from "node:assert/strict";
import { formatIp, parseCidr, parseIp } from "../lib/ip.ts";
import type { Json } from "../lib/json64.ts";
import { parseSelector } from "../datastore/selector/index.ts";
import type { Pool } from "../ipam/pools/pool.ts";
import {
  candidatePools,
  type Holder,
  nextStep,
  tunnelAddress,
  type TunnelKind,
  tunnelKinds,
  type TunnelView,
  withTunnelAddress,
} from "./tunnel_plan.ts";

const kindOf = (type: string): TunnelKind => tunnelKinds.find((k) => k.type === type)!;
const ipip = kindOf("ipipTunnelAddress");
const vxlan = kindOf("vxlanTunnelAddress");
const wireguard = kindOf("wireguardTunnelAddress");

const pool = (text: string, more: Partial<Pool> = {}): Pool => ({
  name: text,
  cidr: parseCidr(text),
  text,
  blockSize: 26,
  enabled: true,
  uses: ["Workload", "Tunnel"],
  natOutgoing: false,
  manual: false,
  nodeSelector: parseSelector(""),
  namespaceSelector: undefined,
  key: "",
  revision: 1n,
  ipipMode: "Always",
  ...more,
});

function view(address: string, more: Partial<TunnelView> & { held?: Record<string, Holder> } = {}): TunnelView {
  const resource: Record<string, Json> = {
    metadata: { name: "alpha", labels: { rack: "r1" } },
    spec: { bgp: { ipv4Address: "192.0.2.2/24", ...(address && { ipv4IPIPTunnelAddr: address }) } },
  };
  return {
    node: "alpha",
    resource,
    pools: [pool("10.65.0.0/16")],
    hostEncryption: false,
    holder: (ip) => more.held?.[formatIp(ip)],
    handleExists: () => false,
    ...more,
  };
}

const ours: Holder = { handle: "ipip-tunnel-addr-alpha", attributes: { node: "alpha", type: "ipipTunnelAddress" } };
const assign = { do: "assign", pools: ["10.65.0.0/16"] };

Deno.test("no address in the Node: release what the handle may have, then assign", () => {
  assert.deepEqual(nextStep(ipip, view("", { handleExists: (h) => h === "ipip-tunnel-addr-alpha" })), {
    do: "release handle",
    clear: false,
  });
  assert.deepEqual(nextStep(ipip, view("")), assign);
});

Deno.test("an address of ours is kept in a candidate pool, and given up outside", () => {
  const held = { "10.65.0.1": ours, "10.99.0.1": ours };
  assert.equal(nextStep(ipip, view("10.65.0.1", { held })), undefined);
  assert.deepEqual(nextStep(ipip, view("10.99.0.1", { held })), { do: "release handle", clear: true });
});

Deno.test("an address without handle and attributes is released and taken again", () => {
  const held = { "10.65.0.1": { handle: undefined, attributes: {} } };
  assert.deepEqual(nextStep(ipip, view("10.65.0.1", { held })), {
    do: "release address",
    ip: parseIp("10.65.0.1"),
    handle: undefined,
    clear: false,
  });
  const retake = parseIp("10.65.0.1");
  assert.deepEqual(nextStep(ipip, view("10.65.0.1"), retake), { do: "take", ip: retake });
});

Deno.test("an address that somebody else has is left to him and a new one is assigned", () => {
  const others: Holder[] = [
    { handle: "net.abc", attributes: {} },
    { handle: "x", attributes: { node: "beta", type: "ipipTunnelAddress" } },
    { handle: "y", attributes: { node: "alpha", type: "vxlanTunnelAddress" } },
  ];
  for (const holder of others) {
    assert.deepEqual(nextStep(ipip, view("10.65.0.1", { held: { "10.65.0.1": holder } })), assign);
  }
});

Deno.test("an address that nobody has is replaced, the handle released first", () => {
  assert.deepEqual(nextStep(ipip, view("10.65.0.1")), assign);
  assert.deepEqual(nextStep(ipip, view("10.65.0.1", { handleExists: () => true })), {
    do: "release handle",
    clear: false,
  });
  assert.deepEqual(nextStep(ipip, view("nonsense")), assign);
});

Deno.test("without candidate pools the address goes; what is another's is only forgotten", () => {
  const none = (address: string, more: Parameters<typeof view>[1] = {}) =>
    nextStep(ipip, view(address, { pools: [pool("10.65.0.0/16", { ipipMode: "Never" })], ...more }));
  assert.equal(none(""), undefined);
  assert.deepEqual(none("", { handleExists: () => true }), { do: "release handle", clear: false });
  assert.deepEqual(none("10.65.0.1", { handleExists: () => true }), { do: "release handle", clear: true });
  assert.deepEqual(none("10.65.0.1"), { do: "clear" });
  assert.deepEqual(none("10.65.0.1", { held: { "10.65.0.1": ours } }), {
    do: "release address",
    ip: parseIp("10.65.0.1"),
    handle: "ipip-tunnel-addr-alpha",
    clear: true,
  });
  assert.deepEqual(none("10.65.0.1", { held: { "10.65.0.1": { handle: "pod", attributes: {} } } }), { do: "clear" });
  assert.deepEqual(none("nonsense"), { do: "clear" });
});

Deno.test("candidates: enabled, of the family, for tunnels, for this node, with the mode", () => {
  const names = (kind: TunnelKind, pools: Pool[], more: Partial<TunnelView> = {}) =>
    candidatePools(kind, view("", { pools, ...more })).map((p) => p.text);
  const v4 = "10.65.0.0/16";
  assert.deepEqual(names(ipip, [pool(v4), pool("fd00::/48")]), [v4]);
  assert.deepEqual(names(ipip, [pool(v4, { enabled: false })]), []);
  assert.deepEqual(names(ipip, [pool(v4, { uses: ["Workload"] })]), []);
  assert.deepEqual(names(ipip, [pool(v4, { nodeSelector: parseSelector("rack == 'r2'") })]), []);
  assert.deepEqual(names(ipip, [pool(v4, { nodeSelector: parseSelector("rack == 'r1'"), manual: true })]), [v4]);
  assert.deepEqual(names(vxlan, [pool(v4)]), []);
  assert.deepEqual(names(vxlan, [pool(v4, { ipipMode: "Never", vxlanMode: "CrossSubnet" })]), [v4]);
  assert.deepEqual(names(kindOf("vxlanV6TunnelAddress"), [pool("fd00::/48", { vxlanMode: "Always" })]), ["fd00::/48"]);
});

Deno.test("WireGuard takes an address of any pool once the node has a key, unless it encrypts hosts too", () => {
  const pools = [pool("10.65.0.0/16", { ipipMode: "Never" })];
  const running = { ...view("").resource, status: { wireguardPublicKey: "k" } };
  const count = (more: Partial<TunnelView>) => candidatePools(wireguard, view("", { pools, ...more })).length;
  assert.equal(count({}), 0);
  assert.equal(count({ resource: running }), 1);
  assert.equal(count({ resource: running, hostEncryption: true }), 0);
});

Deno.test("setting and removing an address changes nothing else of the Node", () => {
  const node: Record<string, Json> = { spec: { bgp: { asNumber: 1 }, future: [1] }, other: 2n };
  const set = withTunnelAddress(ipip, node, "10.65.0.1");
  assert.deepEqual(set, { spec: { bgp: { asNumber: 1, ipv4IPIPTunnelAddr: "10.65.0.1" }, future: [1] }, other: 2n });
  assert.equal(tunnelAddress(ipip, set), "10.65.0.1");
  assert.deepEqual(withTunnelAddress(ipip, set, ""), node);
  const vx = withTunnelAddress(vxlan, node, "10.65.0.2");
  assert.deepEqual(withTunnelAddress(vxlan, vx, ""), node);
  const empty = withTunnelAddress(wireguard, withTunnelAddress(wireguard, {}, "10.65.0.3"), "");
  assert.deepEqual(empty, { spec: {} }, "an empty part goes with its last member");
});

Deno.test("handles and attribute types are Calico's", () => {
  assert.deepEqual(tunnelKinds.map((k) => [k.type, k.handle("n"), k.field.join(".")]), [
    ["wireguardTunnelAddress", "wireguard-tunnel-addr-n", "wireguard.interfaceIPv4Address"],
    ["wireguardV6TunnelAddress", "wireguard-v6-tunnel-addr-n", "wireguard.interfaceIPv6Address"],
    ["ipipTunnelAddress", "ipip-tunnel-addr-n", "bgp.ipv4IPIPTunnelAddr"],
    ["vxlanTunnelAddress", "vxlan-tunnel-addr-n", "ipv4VXLANTunnelAddr"],
    ["vxlanV6TunnelAddress", "vxlan-v6-tunnel-addr-n", "ipv6VXLANTunnelAddr"],
  ]);
});
