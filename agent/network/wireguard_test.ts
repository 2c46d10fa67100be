import assert from "node:assert/strict";
import { type Cidr, formatCidr, formatIp, parseCidr } from "../../lib/ip.ts";
import { privateKeyOf, publicKeyOf } from "../../lib/wireguard_key.ts";
import type { Link } from "../../kernel/rtnetlink/link.ts";
import { kind } from "../../kernel/rtnetlink/route.ts";
import type { Desired } from "../desired.ts";
import { clusterNode, resolveNodes } from "./cluster_nodes.ts";
import { Interfaces } from "./interfaces.ts";
import { podMtu } from "./mtu.ts";
import { networkSettings } from "./settings.ts";
import { unencrypted, wantedWireguard, wireguardPlan } from "./wireguard.ts";

const secret = (n: number) => privateKeyOf(new Uint8Array(32).fill(n));
const key = (n: number) => publicKeyOf(secret(n));
const settingsOf = (env: Record<string, string> = {}) =>
  networkSettings({ env: (name) => ({ FELIX_WIREGUARDENABLED: "true", ...env })[name] });
const on = settingsOf().settings;
const withHosts = settingsOf({ FELIX_WIREGUARDHOSTENCRYPTIONENABLED: "true" }).settings;
const node = (n: number, status: Record<string, unknown> = { wireguardPublicKey: key(n) }, more = {}) =>
  clusterNode(`h${n}`, {
    bgp: { ipv4Address: `192.0.2.${n}/24`, ipv6Address: `2001:db8::${n}/64` },
    wireguard: { interfaceIPv4Address: `10.65.${n}.1` },
    ...more,
  }, status);
const block = (n: number) => ({ dst: parseCidr(`10.65.${n}.0/26`), node: `h${n}` });
const texts = (nets: readonly Cidr[]) => nets.map(formatCidr).sort();

/** Of host 1. */
function plan(nodes: ReturnType<typeof node>[], owned = [1, 2, 3].map(block), settings = on) {
  const resolved = resolveNodes(nodes, "h1");
  const { ip, peers, bypassed } = wireguardPlan(4, owned, resolved, settings.wireguard);
  return {
    ip: ip && formatIp(ip),
    peers: Object.fromEntries(peers.map((p) => [p.node, [p.publicKey, formatIp(p.endpoint), ...texts(p.allowed)]])),
    bypassed: texts(bypassed),
    findings: resolved.findings.map(({ node, why }) => `${node}: ${why}`),
  };
}

Deno.test("a peer has its node's key and address, and as networks its blocks and tunnels' addresses; the rest goes past", () => {
  assert.deepEqual(plan([node(1), node(2), node(3, {})]), {
    ip: "10.65.1.1",
    peers: { h2: [key(2), "192.0.2.2", "10.65.2.0/26", "10.65.2.1/32"] },
    bypassed: ["10.65.1.0/26", "10.65.1.1/32", "10.65.3.0/26", "10.65.3.1/32"],
    findings: [],
  });
});

Deno.test("what a node borrowed of another's block is the borrower's; a node without an address, or of zeros, is no peer", () => {
  const borrowed = { dst: parseCidr("10.65.2.9/32"), node: "h3" };
  const homeless = clusterNode("h3", {}, { wireguardPublicKey: key(3) });
  assert.deepEqual(plan([node(1), node(2), node(3)], [block(2), borrowed]).peers.h3!.slice(2), [
    "10.65.2.9/32",
    "10.65.3.1/32",
  ]);
  assert.deepEqual(Object.keys(plan([node(1), node(2), homeless]).peers), ["h2"]);
  const zeros = node(2, { wireguardPublicKey: new Uint8Array(32).toBase64() });
  assert.deepEqual([plan([node(1), zeros]).peers, plan([node(1), zeros]).findings], [{}, []]);
});

Deno.test("of nodes with one key none is a peer and each is named; a key that is none is named too", () => {
  const twice = plan([node(1), node(2), node(3, { wireguardPublicKey: key(2) })]);
  assert.deepEqual(twice.peers, {});
  assert.deepEqual(twice.findings, [
    `h2: WireGuard key of IPv4 ${key(2)} is also that of node h3`,
    `h3: WireGuard key of IPv4 ${key(2)} is also that of node h2`,
  ]);
  assert.deepEqual(plan([node(1), node(2, { wireguardPublicKey: key(1) })]).peers, {}, "ours");
  assert.deepEqual(plan([node(1), node(2, { wireguardPublicKey: "x" }), node(3)]).findings, [
    'h2: status.wireguardPublicKey: "x" is not understood',
  ]);
});

Deno.test("a host's own address goes through WireGuard with host encryption only, and then the device may have the host's", () => {
  const hostInPool = { dst: parseCidr("192.0.2.2/32"), node: "h2" };
  const without = node(1, undefined, { wireguard: undefined });
  assert.ok(!JSON.stringify(plan([node(1), node(2)], [hostInPool])).includes("192.0.2.2/32"));
  const encrypted = plan([without, node(2)], [block(2)], withHosts);
  assert.deepEqual(encrypted.peers.h2!.slice(2), ["10.65.2.0/26", "10.65.2.1/32", "192.0.2.2/32"]);
  assert.deepEqual([encrypted.ip, encrypted.bypassed], ["192.0.2.1", []]);
  assert.equal(plan([without, node(2)]).ip, undefined);
});

const desired = (settings = on, pools: Cidr[] = []): Desired => {
  const nodes = resolveNodes([node(1), node(2), node(3, {})], "h1");
  const wireguard = { 4: wireguardPlan(4, [1, 2, 3].map(block), nodes, settings.wireguard, pools) };
  return { settings, wireguard, endpoints: new Map() } as unknown as Desired;
};
const interfaces = (...links: Partial<Link>[]) => {
  const all = new Interfaces();
  all.replace(links.map((l) => ({ up: true, mtuBytes: 1440, ...l })) as Link[], 0);
  return all;
};

Deno.test("a device comes first; once it is up, its settings, peers, routes and the rule", () => {
  const before = wantedWireguard(desired(), interfaces(), 1500, { 4: secret(1) });
  assert.deepEqual([...before.devices], [["wireguard.cali", { kind: "wireguard", mtuBytes: 1440, up: true }]]);
  assert.deepEqual([before.settings.size, before.peers.size, before.rules[4].size], [0, 0, 0]);
  const wanted = wantedWireguard(desired(), interfaces({ index: 7, name: "wireguard.cali" }), 1500, { 4: secret(1) });
  assert.deepEqual([...wanted.settings], [["wireguard.cali", { privateKey: secret(1), port: 51820, mark: 0x200000 }]]);
  assert.deepEqual([...wanted.peers.keys()], [`wireguard.cali ${key(2)}`]);
  assert.deepEqual([...wanted.addresses.keys()], ["7 10.65.1.1/32"]);
  const routes = [...wanted.routes[4].values()].map((r) => [formatCidr(r.dst), r.table, r.kind, r.index]);
  assert.deepEqual(routes.slice(0, 3), [
    ["10.65.2.0/26", 1, kind.unicast, 7],
    ["10.65.2.1/32", 1, kind.unicast, 7],
    ["10.65.1.0/26", 1, kind.throw, undefined],
  ]);
  assert.deepEqual([...wanted.rules[4].values()], [
    { family: 4, priority: 99, table: 1, mark: 0x200000, mask: 0x200000, invert: true, protocol: 80 },
  ]);
});

Deno.test("without a private key, or switched off, WireGuard wants nothing", () => {
  const up = interfaces({ index: 7, name: "wireguard.cali" });
  const none = wantedWireguard(desired(), up, 1500, {});
  const off = wantedWireguard({ ...desired(), wireguard: {} }, up, 1500, { 4: secret(1) });
  for (const { devices, settings, peers, rules } of [none, off]) {
    assert.deepEqual([devices.size, settings.size, peers.size, rules[4].size], [0, 0, 0, 0]);
  }
});

Deno.test("a peer with the device's own key is left out, because the kernel would drop it silently", () => {
  const up = interfaces({ index: 7, name: "wireguard.cali" });
  assert.equal(wantedWireguard(desired(), up, 1500, { 4: secret(2) }).peers.size, 0);
});

Deno.test("settings: mark and tables come from the masks and ranges; without room WireGuard stays off and it is told", () => {
  const of = (env: Record<string, string>) => settingsOf(env).settings.wireguard;
  assert.deepEqual([of({}).mark, of({}).table], [0x200000, { 4: 1, 6: 2 }]);
  assert.equal(of({ FELIX_IPTABLESMARKMASK: "0x3f" }).mark, 0x20);
  assert.deepEqual(of({ FELIX_ROUTETABLERANGES: "252-255,300-310" }).table, { 4: 252, 6: 300 });
  assert.deepEqual(of({ FELIX_ROUTETABLERANGE: "10-20" }).table, { 4: 10, 6: 11 });
  assert.equal(of({ FELIX_WIREGUARDPERSISTENTKEEPALIVE: "25" }).keepaliveSeconds, 25);
  for (const env of [{ FELIX_IPTABLESMARKMASK: "0x1f" }, { FELIX_ROUTETABLERANGES: "9-9" }]) {
    const { settings, problems } = settingsOf(env as unknown as Record<string, string>);
    assert.deepEqual([settings.wireguard.enabled[4], problems.length], [false, 1]);
  }
});

Deno.test("pods' MTU leaves room for WireGuard's headers", () => {
  assert.equal(podMtu(1500, new Set(), on), 1440);
  assert.equal(podMtu(1500, new Set(), settingsOf({ FELIX_WIREGUARDENABLEDV6: "true" }).settings), 1420);
  assert.equal(podMtu(1500, new Set(), settingsOf({ FELIX_WIREGUARDMTU: "1300" }).settings), 1300);
});

Deno.test("IPv6 has its own device, key, table and port; a node without an IPv6 address is no peer there", () => {
  const { wireguard } = settingsOf({ FELIX_WIREGUARDENABLEDV6: "true" }).settings,
    status = { wireguardPublicKeyV6: key(2) };
  const only4 = clusterNode("h3", { bgp: { ipv4Address: "192.0.2.3/24" } }, { wireguardPublicKeyV6: key(3) });
  const nodes = resolveNodes([node(1), node(2, status), only4], "h1");
  const owned = [2, 3].map((n) => ({ dst: parseCidr(`fd00:${n}::/122`), node: `h${n}` }));
  const plan = wireguardPlan(6, [...owned, block(2)], nodes, wireguard);
  assert.deepEqual(plan.peers.map((p) => [p.node, formatIp(p.endpoint), ...texts(p.allowed)]), [
    ["h2", "2001:db8::2", "fd00:2::/122"],
  ]);
  assert.deepEqual(texts(plan.bypassed), ["fd00:3::/122"]);
  const want = { settings: { ...on, wireguard }, wireguard: { 6: plan }, endpoints: new Map() } as unknown as Desired;
  const wanted = wantedWireguard(want, interfaces({ index: 8, name: "wg-v6.cali" }), 1500, { 6: secret(1) });
  assert.deepEqual([...wanted.devices], [["wg-v6.cali", { kind: "wireguard", mtuBytes: 1420, up: true }]]);
  assert.equal(wanted.settings.get("wg-v6.cali")?.port, 51821);
  assert.deepEqual([...wanted.rules[6].values()].map((r) => [r.family, r.table]), [[6, 2]]);
  assert.deepEqual([...wanted.routes[6].values()].map((r) => [formatCidr(r.dst), r.table, r.kind]), [
    ["fd00:2::/122", 2, kind.unicast],
    ["fd00:3::/122", 2, kind.throw],
  ]);
});

const closing = settingsOf({ TORTIE_WIREGUARD_MANDATORY: "true" }).settings;
const pool = parseCidr("10.65.0.0/16");

Deno.test("mandatory: what is of no peer is closed, pools as a whole; own networks and hosts' addresses are not", () => {
  const nodes = resolveNodes(
    [node(1), node(2), node(3, {}), node(4, {}, { addresses: [{ address: "10.65.7.7" }] })],
    "h1",
  );
  const owned = [block(1), block(2), block(3), { dst: parseCidr("172.16.3.0/26"), node: "h3" }];
  const { peers, bypassed, closed } = wireguardPlan(4, owned, nodes, closing.wireguard, [pool, parseCidr("fd00::/48")]);
  assert.deepEqual(peers.map((p) => p.node), ["h2"]);
  assert.deepEqual(texts(bypassed), ["10.65.1.0/26", "10.65.1.1/32", "10.65.7.7/32"]);
  assert.deepEqual(texts(closed), ["10.65.0.0/16", "10.65.3.0/26", "10.65.3.1/32", "10.65.4.1/32", "172.16.3.0/26"]);
  const encrypted = { ...closing.wireguard, hostEncryption: true };
  assert.ok(texts(wireguardPlan(4, owned, nodes, encrypted, [pool]).bypassed).includes("192.0.2.3/32"), "hosts stay");
});

Deno.test("mandatory: closed networks come last in the table, and are there without device and key", () => {
  const up = interfaces({ index: 7, name: "wireguard.cali" });
  const kinds = (w: ReturnType<typeof wantedWireguard>) =>
    [...w.routes[4].values()].map((r) => `${formatCidr(r.dst)} ${r.kind} ${r.metric}`).sort();
  const shut = ["10.65.0.0/16 8 2147483647", "10.65.1.0/26 9 0", "10.65.1.1/32 9 0", "10.65.3.0/26 8 2147483647"];
  const bare = wantedWireguard(desired(closing, [pool]), interfaces(), 1500, {});
  assert.deepEqual(kinds(bare), [...shut, "10.65.3.1/32 8 2147483647"]);
  assert.deepEqual([bare.devices.size, bare.peers.size, bare.rules[4].size], [0, 0, 1]);
  const whole = kinds(wantedWireguard(desired(closing, [pool]), up, 1500, { 4: secret(1) }));
  assert.deepEqual(whole.filter((k) => !kinds(bare).includes(k)), ["10.65.2.0/26 1 0", "10.65.2.1/32 1 0"]);
});

Deno.test("mandatory: pods here with addresses of nobody's block stay reachable", () => {
  const endpoints = new Map([["e", {
    nets: ["10.65.1.2/32", "10.65.9.9/32", "10.9.0.1/32"].map((net) => parseCidr(net)),
  }]]);
  const want = { ...desired(closing, [pool]), endpoints } as unknown as Desired;
  const thrown = [...wantedWireguard(want, interfaces(), 1500, {}).routes[4].values()].filter((r) =>
    r.kind === kind.throw
  );
  assert.deepEqual(texts(thrown.map((r) => r.dst)), ["10.65.1.0/26", "10.65.1.1/32", "10.65.9.9/32"]);
});

Deno.test("mandatory: nodes without a key are named, and the switch alone is told of", () => {
  const nodes = resolveNodes([node(1), node(2), node(3, {})], "h1");
  assert.deepEqual(unencrypted(nodes, closing.wireguard).map((f) => f.node), ["h3"]);
  assert.deepEqual(unencrypted(nodes, on.wireguard), []);
  const alone = settingsOf({ FELIX_WIREGUARDENABLED: "false", TORTIE_WIREGUARD_MANDATORY: "true" });
  assert.deepEqual(alone.problems.map((p) => p.setting), ["tortieWireguardMandatory (WireGuard is off)"]);
});

Deno.test("ten thousand blocks of a thousand nodes are planned well within a second", () => {
  const nodes = resolveNodes(
    Array.from(
      { length: 1000 },
      (_, n) =>
        clusterNode(`h${n}`, { bgp: { ipv4Address: `172.16.${n >> 8}.${n & 255}/16` } }, {
          wireguardPublicKey: new Uint8Array(32).fill(1).fill(n >> 8, 0, 1).fill(n & 255, 1, 2).toBase64(),
        }),
    ),
    "h0",
  );
  const owned = Array.from({ length: 10_000 }, (_, i) => ({
    dst: parseCidr(`10.${i >> 10}.${(i >> 2) & 255}.${(i & 3) * 64}/26`),
    node: `h${i % 1000}`,
  }));
  const begin = performance.now();
  const { peers, bypassed } = wireguardPlan(4, owned, nodes, on.wireguard);
  const ms = performance.now() - begin;
  assert.deepEqual([peers.length, bypassed.length], [999, 10]);
  assert.ok(ms < 1000, `${ms} ms`);
});
