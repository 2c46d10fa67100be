import assert from "node:assert/strict";
import fc from "fast-check";
import { type Cidr, formatCidr, formatIp, parseCidr } from "../../lib/ip.ts";
import { decodeBlock } from "../../ipam/block.ts";
import type { Pool } from "../../ipam/pools/pool.ts";
import { clusterNode, resolveNodes } from "./cluster_nodes.ts";
import { ClusterRoutes, clusterRoutes, homeless, ownedIn, type RouteContext } from "./cluster_routes.ts";

const pool = (cidr: string, modes: Partial<Pool>): Pool => ({ cidr: parseCidr(cidr), ...modes }) as Pool;
const pools = [
  pool("10.1.0.0/16", { vxlanMode: "Always" }),
  pool("10.2.0.0/16", { vxlanMode: "CrossSubnet" }),
  pool("10.3.0.0/16", { ipipMode: "Always" }),
  pool("10.4.0.0/16", {}),
  pool("fd00:1::/48", { vxlanMode: "Always" }),
];
const node = (name: string, v4: string, n: number) =>
  clusterNode(name, {
    bgp: { ipv4Address: v4, ipv6Address: `fd99::${n}/64` },
    ipv4VXLANTunnelAddr: `10.1.${n}.0`,
    ipv6VXLANTunnelAddr: `fd00:1::${n}:0`,
  });
const context = (parts: Partial<RouteContext> = {}): RouteContext => ({
  node: "own",
  nodes: resolveNodes(
    [node("own", "192.0.2.1/24", 1), node("near", "192.0.2.2/24", 2), node("far", "198.51.100.3/24", 3)],
    "own",
  ),
  pools,
  owner: { birdRuns: false },
  ...parts,
});
const key = (cidr: string) => `/calico/ipam/v2/assignment/block/${cidr.replace("/", "-")}`;
const routesOf = (owned: [cidr: string, node: string][], at = context()) =>
  [...clusterRoutes(new Map(owned.map(([c, n]) => [key(c), [{ dst: parseCidr(c), node: n }]])), at).values()]
    .map(({ dst, by, via }) => `${formatCidr(dst)} ${by} ${via ? formatIp(via) : "-"}`).sort();

Deno.test("a block is reached as its pool says: the VTEP, the node itself, or not by the agent", () => {
  assert.deepEqual(
    routesOf([
      ["10.1.2.0/26", "near"],
      ["10.2.2.0/26", "near"],
      ["10.2.3.0/26", "far"],
      ["10.3.2.0/26", "near"],
      ["10.4.2.0/26", "near"],
      ["10.4.3.0/26", "far"],
      ["fd00:1::2:0/122", "near"],
      ["10.1.1.0/26", "own"],
      ["10.1.9.0/26", "stranger"],
      ["172.16.0.0/26", "near"],
    ]),
    [
      "10.1.2.0/26 vxlan 10.1.2.0",
      "10.2.2.0/26 direct 192.0.2.2",
      "10.2.3.0/26 vxlan 10.1.3.0",
      "10.3.2.0/26 ipip 192.0.2.2",
      "10.4.2.0/26 direct 192.0.2.2",
      "fd00:1::2:0/122 vxlan fd00:1::2:0",
    ],
  );
  assert.deepEqual(routesOf([["10.4.2.0/26", "far"]], context({ owner: { felix: "Enabled", birdRuns: true } })), [
    "10.4.2.0/26 direct 198.51.100.3",
  ]);
  assert.deepEqual(routesOf([["10.4.2.0/26", "near"]], context({ owner: { birdRuns: true } })), [], "BIRD's");
});

Deno.test("a VTEP's own address lies on the tunnel itself; a host's address never goes into one", () => {
  const host = node("far", "10.1.7.7/24", 3), own = node("own", "192.0.2.1/24", 1);
  const at = context({ nodes: resolveNodes([own, host, node("near", "192.0.2.2/24", 2)], "own") });
  assert.deepEqual(routesOf([["10.1.2.0/32", "near"], ["10.1.7.7/32", "far"]], at), ["10.1.2.0/32 vxlan -"]);
});

Deno.test("addresses that a node borrowed from another's block are its own; those that cool down are nobody's", () => {
  const attributes = [
    { handle_id: "a", secondary: { node: "near" } },
    { handle_id: "b", secondary: { node: "far" } },
    { releasedAt: "2026-01-02T03:04:05Z", secondary: { node: "far" } },
    { handle_id: "c", secondary: {} },
  ];
  const block = (affinity: string | null) =>
    ownedIn(decodeBlock(
      JSON.stringify({ cidr: "10.1.2.0/30", affinity, allocations: [0, 1, 2, 3], unallocated: [], attributes }),
      "key",
    )).map((o) => `${formatCidr(o.dst)} ${o.node}`);
  assert.deepEqual(block("host:near"), ["10.1.2.0/30 near", "10.1.2.1/32 far"]);
  assert.deepEqual(block(null), ["10.1.2.0/32 near", "10.1.2.1/32 far"]);
  assert.deepEqual(block("virtual:load-balancer"), ["10.1.2.0/32 near", "10.1.2.1/32 far"]);
});

Deno.test("a node that has a block and no address of its version is named, once", () => {
  const nodes = resolveNodes(
    [node("own", "192.0.2.1/24", 1), clusterNode("h", { bgp: { ipv6Address: "fd99::7/64" } })],
    "own",
  );
  const owned = ["10.1.2.0/26", "10.1.3.0/26", "fd00:1::/122"].map((cidr) => ({ dst: parseCidr(cidr), node: "h" }));
  assert.deepEqual(homeless([...owned, { dst: parseCidr("10.1.4.0/26"), node: "gone" }], { nodes }), [
    { node: "h", why: "it has no IPv4 address that can be used, and 10.1.2.0/26 is behind it" },
  ]);
});

Deno.test("after any sequence of changes the routes are those from scratch, and the same object when nothing changed", () => {
  const cidrs = ["10.1.2.0/26", "10.1.2.0/32", "10.2.0.0/26", "10.3.0.64/26", "fd00:1::40/122"];
  const owned = fc.record({ cidr: fc.constantFrom(...cidrs), node: fc.constantFrom("own", "near", "far", "gone") });
  const step = fc.oneof(
    fc.record({ put: owned, borrowed: fc.option(fc.constantFrom("near", "far")) }),
    fc.record({ drop: fc.constantFrom(...cidrs) }),
    fc.record({ without: fc.constantFrom("near", "far", "nobody") }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
    const incremental = new ClusterRoutes(), blocks = new Map<string, { dst: Cidr; node: string }[]>();
    let at = context();
    for (const s of steps) {
      if ("put" in s) {
        const dst = parseCidr(s.put.cidr), all = [{ dst, node: s.put.node }];
        if (s.borrowed && dst.len < 32) all.push({ dst: { ...dst, len: 32 }, node: s.borrowed });
        blocks.set(key(s.put.cidr), all);
        incremental.set(key(s.put.cidr), all);
      } else if ("drop" in s) {
        blocks.delete(key(s.drop));
        incremental.set(key(s.drop), undefined);
      } else {
        const nodes = [
          node("own", "192.0.2.1/24", 1),
          node("near", "192.0.2.2/24", 2),
          node("far", "198.51.100.3/24", 3),
        ];
        at = context({ nodes: resolveNodes(nodes.filter((n) => n.name !== s.without), "own") });
      }
      const found = incremental.flush(at);
      assert.deepEqual(new Map([...found].sort()), new Map([...clusterRoutes(blocks, at)].sort()));
      assert.equal(incremental.flush(at), found);
    }
  }));
});
