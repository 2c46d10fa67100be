import assert from "node:assert/strict";
import { parseRoutes, parseSessions } from "./bird_status.ts";
import { type BirdView, nodeStatus } from "./node_status.ts";

const session = (text: string) => parseSessions([{ code: 1002, text }])[0]!;
const view: BirdView = {
  state: {
    ...{ version: "2.0.12", routerId: "10.0.0.1", recovering: false },
    ...{ startedAt: "2026-11-21 15:56:37.402", reconfiguredAt: "2026-11-21 15:57:00.001" },
  },
  sessions: [
    session("Mesh_10_0_0_2 BGP --- up 2026-11-21 15:56:16  Established"),
    session("Global_10_0_0_9_port_1790 BGP --- start 2026-11-21 15:56:14  Passive"),
    session("Node_fd00__9 BGP --- down 2026-11-21 15:56:14"),
    session("Local_Workload_10_65_3_64 BGP --- up 2026-11-21 15:56:14  Established"),
  ],
  routes: parseRoutes(
    `10.65.7.0/26         unicast [Mesh_10_0_0_2 15:30:40.997] * (100) [i]
\tvia 10.0.0.2 on eth0
                     unicast [kernel4 15:30:40.249] (10)
\tdev tunl0
172.31.0.0/16        unicast [Global_10_0_0_9_port_1790 15:30:41.045 from 10.0.0.3] * (100) [AS65020i]
\tvia 10.0.0.4 on eth0 weight 1
\tvia 10.0.0.5 on eth1 weight 1
fd65::/122           blackhole [static6 15:30:40.243] * (200)`.split("\n").map((text) => ({ code: 1007, text })),
  ),
};

Deno.test("Agent: one BIRD is both daemons; none that answers is not ready", () => {
  const ready = {
    ...{ state: "Ready", version: "2.0.12", routerID: "10.0.0.1" },
    ...{ lastBootTime: "2026-11-21 15:56:37.402", lastReconfigurationTime: "2026-11-21 15:57:00.001" },
  };
  assert.deepEqual(nodeStatus(["Agent"], view), { agent: { birdV4: ready, birdV6: ready } });
  const gone = nodeStatus(["Agent", "BGP"], { state: undefined, sessions: [], routes: [] });
  assert.deepEqual(gone.agent?.birdV6, { state: "NotReady" });
  assert.deepEqual([gone.bgp?.numberEstablishedV4, gone.bgp?.peersV4], [0, undefined]);
});

Deno.test("BGP: sessions by family, established where the protocol is up, without those of local workloads", () => {
  const { bgp } = nodeStatus(["BGP"], view);
  assert.deepEqual(bgp, {
    ...{ numberEstablishedV4: 1, numberNotEstablishedV4: 1, numberEstablishedV6: 0, numberNotEstablishedV6: 1 },
    peersV4: [
      { peerIP: "10.0.0.2", type: "NodeMesh", state: "Established", since: "2026-11-21 15:56:16" },
      { peerIP: "10.0.0.9", type: "GlobalPeer", state: "Active", since: "2026-11-21 15:56:14" },
    ],
    peersV6: [{ peerIP: "fd00::9", type: "NodePeer", since: "2026-11-21 15:56:14" }],
  });
});

Deno.test("Routes: each way of a route, whether the kernel has it, and from whom it is", () => {
  const { routes } = nodeStatus(["Routes"], view);
  const peer = { sourceType: "BGPPeer", peerIP: "10.0.0.3" };
  assert.deepEqual(routes?.routesV4?.map((r) => [r.type, r.destination, r.gateway, r.interface, r.learnedFrom]), [
    ["FIB", "10.65.7.0/26", "10.0.0.2", "eth0", { sourceType: "NodeMesh", peerIP: "10.0.0.2" }],
    ["RIB", "10.65.7.0/26", "N/A", "tunl0", { sourceType: "Kernel" }],
    ["FIB", "172.31.0.0/16", "10.0.0.4", "eth0", peer],
    ["FIB", "172.31.0.0/16", "10.0.0.5", "eth1", peer],
  ]);
  assert.deepEqual(routes?.routesV6?.map((r) => [r.type, r.destination, r.gateway, r.interface, r.learnedFrom]), [
    ["FIB", "fd65::/122", "N/A", "blackhole", { sourceType: "Static" }],
  ]);
});

Deno.test("classes that nobody knows are passed over", () => {
  assert.deepEqual(nodeStatus(["Weather"], view), {});
});
