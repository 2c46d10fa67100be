import assert from "node:assert/strict";
import fc from "fast-check";
import { type Cluster, outcomeOf, twoNodes } from "./_fixtures.ts";
import { sealOf } from "./bird_config.ts";

const cluster: Required<Cluster> = {
  nodes: {
    ...twoNodes,
    n3: { bgp: { ipv4Address: "10.0.0.3/24", ipv6Address: "fd00::3/64" }, labels: { rack: "a" } },
    n4: { bgp: { ipv4Address: "10.0.0.4/24", asNumber: 64999 } },
  },
  configurations: { default: { serviceClusterIPs: [{ cidr: "10.96.0.0/12" }] }, "node.n3": { listenPort: 178 } },
  peers: {
    a: { peerIP: "10.0.0.9", asNumber: 65010, filters: ["f", "g"] },
    b: { peerIP: "10.0.0.9", asNumber: 65011 },
    c: { nodeSelector: "all()", peerSelector: "rack == 'a'" },
  },
  filters: { f: { exportV4: [{ action: "Reject" }] }, g: { importV4: [{ action: "Accept" }] } },
  pools: { p: { cidr: "10.65.0.0/16" }, q: { cidr: "10.66.0.0/16", disableBGPExport: true } },
  affinities: { "10.65.0.0/26": "confirmed", "10.65.1.0/26": "", "fd65::/122": "confirmed" },
};

Deno.test("the text does not depend on the order in which objects arrive", () => {
  const expected = outcomeOf(cluster).text;
  const shuffled = fc.record(
    Object.fromEntries(
      Object.entries(cluster).map(([member, objects]) => {
        const entries = Object.entries(objects);
        const any = fc.shuffledSubarray(entries, { minLength: entries.length });
        return [member, any.map((list) => Object.fromEntries(list))];
      }),
    ),
  );
  fc.assert(fc.property(shuffled, (any) => assert.equal(outcomeOf(any as Cluster).text, expected)), { numRuns: 50 });
});

Deno.test("the seal names the text: equal texts have the same, any change another", () => {
  const { text } = outcomeOf(cluster);
  assert.match(sealOf(text)!, /^[0-9a-f]{32}$/);
  const other = outcomeOf({ ...cluster, affinities: {} }).text;
  assert.notEqual(sealOf(other), sealOf(text));
  assert.equal(sealOf("router id 1.2.3.4;"), undefined);
});

Deno.test("a family without an address of ours has no session, but its static and kernel routes stay", () => {
  const { text } = outcomeOf({ nodes: { n1: { bgp: {} }, n2: twoNodes.n2 }, affinities: cluster.affinities });
  assert.doesNotMatch(text, /protocol bgp|template bgp/);
  assert.match(text, /route 10\.65\.0\.0\/26 blackhole;/);
  assert.match(text, /protocol kernel kernel4/);
  assert.match(text, /^router id \d+\.\d+\.\d+\.\d+;$/m);
});

Deno.test("a network that is a block and a service range, or a peer that two objects reach, is one static route", () => {
  const { text } = outcomeOf({
    configurations: { default: { serviceClusterIPs: [{ cidr: "10.65.0.0/26" }], nodeToNodeMeshEnabled: false } },
    affinities: { "10.65.0.0/26": "confirmed" },
    peers: {
      a: { peerIP: "10.9.0.1:179", asNumber: 1, reachableBy: "10.0.0.254" },
      b: { peerIP: "10.9.0.1:180", asNumber: 1, reachableBy: "10.0.0.253" },
    },
  });
  assert.equal(text.split("route 10.65.0.0/26").length, 2);
  assert.equal(text.split("route 10.9.0.1/32").length, 2);
  assert.match(text, /route 10\.9\.0\.1\/32 via 10\.0\.0\.254;/);
});

Deno.test("annotations bring BFD and long-lived graceful restart to their sessions only; a bad one is named", () => {
  const { text, problems } = outcomeOf({
    peers: {
      fast: { peerIP: "10.0.0.9", asNumber: 1, annotations: { "tortie/bfd": "on" } },
      long: { peerIP: "10.0.0.8", asNumber: 1, annotations: { "tortie/long-lived-graceful-restart": "1h" } },
      odd: { peerIP: "10.0.0.7", asNumber: 1, annotations: { "tortie/bfd": "yes" } },
    },
  });
  const session = (name: string) => text.slice(text.indexOf(`protocol bgp ${name} `)).split("\n}\n")[0]!;
  assert.match(session("Global_10_0_0_9"), /bfd on;/);
  assert.match(session("Global_10_0_0_8"), /long lived stale time 3600;/);
  assert.doesNotMatch(session("Mesh_10_0_0_2"), /bfd|long lived/);
  assert.match(text, /multihop \{ interval 300 ms; multiplier 3; \};/);
  assert.match(problems[0]!, /^BGPPeer odd, annotation tortie\/bfd/);
  assert.doesNotMatch(outcomeOf({}).text, /protocol bfd/);
});

Deno.test("a thousand nodes with their blocks give a text in less than a second", () => {
  const nodes = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => {
    const bgp = { ipv4Address: `10.0.${i >> 8}.${i & 255}/16`, ipv6Address: `fd00::${(i + 1).toString(16)}/64` };
    return [`n${i}`, { bgp, labels: { rack: `r${i % 20}` } }];
  }));
  const peers = { tor: { nodeSelector: "rack == 'r1'", peerIP: "10.9.0.1", asNumber: 65010 } };
  const affinities = Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`10.65.${i}.0/26`, "confirmed"]));
  const begin = performance.now();
  const { text } = outcomeOf({ nodes, peers, affinities, pools: { p: { cidr: "10.64.0.0/10" } } });
  assert.ok(performance.now() - begin < 1000);
  assert.equal(text.match(/^protocol bgp Mesh_/gm)!.length, 1998);
});
