import assert from "node:assert/strict";
import { nameParts, parseRoutes, parseRow, parseSessions, parseState } from "./bird_status.ts";

/** Lines as `ask()` gives them: those without a code carry the one before. */
const lines = (code: number, text: string) => text.split("\n").map((t) => ({ code, text: t }));

Deno.test("nameParts() takes family, address and port out of a protocol's name", () => {
  assert.deepEqual(nameParts("Mesh_10_0_0_2"), { kind: "Mesh", v: 4, address: "10.0.0.2", port: undefined });
  assert.deepEqual(nameParts("Node_fd00_10__c_port_178"), { kind: "Node", v: 6, address: "fd00:10::c", port: 178 });
  assert.deepEqual(nameParts("Local_Workload_10_65_3_64")?.kind, "Local_Workload");
  assert.equal(nameParts("kernel4"), undefined);
});

Deno.test("parseRow() reads times of one word and of two", () => {
  assert.equal(parseRow("a BGP --- up 2026-11-21 15:56:14  Established").since, "2026-11-21 15:56:14");
  assert.equal(parseRow("a BGP --- up 15:56:14.032  Established").info, "Established");
  assert.deepEqual(parseRow("device1    Device     ---        up     2026-11-21  ").info, "");
});

Deno.test("parseSessions() reads BIRD 2.0.12's `show protocols all`", () => {
  const answer = `Mesh_10_99_0_2 BGP        ---        up     2026-11-21 15:56:16  Established
  BGP state:          Established
    Neighbor address: 10.99.0.2
    Neighbor AS:      64512
  Channel ipv4
    State:          UP
    Routes:         12 imported, 3 exported, 11 preferred

Global_10_99_0_77 BGP        ---        start  2026-11-21 15:56:14  Connect       Socket: No route to host
  BGP state:          Connect
    Neighbor address: 10.99.0.77
    Neighbor AS:      65010
    Last error:       Socket: No route to host`;
  const head = { code: 2002, text: "Name       Proto      Table      State  Since         Info" };
  const sessions = parseSessions([
    head,
    ...answer.split("\n").map((text) => ({ code: /^\S/.test(text) ? 1002 : 1006, text })),
  ]);
  assert.deepEqual(sessions.map((s) => [s.name, s.peer, s.asNumber, s.state, s.lastError, s.routes]), [
    ["Mesh_10_99_0_2", "10.99.0.2", 64512, "Established", undefined, { imported: 12, exported: 3, preferred: 11 }],
    ["Global_10_99_0_77", "10.99.0.77", 65010, "Connect", "Socket: No route to host", undefined],
  ]);
});

Deno.test("parseState() knows a recovery from a graceful restart by its code", () => {
  const text = `BIRD 2.0.12
Router ID is 10.99.0.1
Last reboot on 2026-11-21 15:56:37.402
Last reconfiguration on 2026-11-21 15:57:00.001`;
  assert.deepEqual(parseState([...lines(1011, text), { code: 24, text: "Graceful restart recovery in progress" }]), {
    version: "2.0.12",
    routerId: "10.99.0.1",
    startedAt: "2026-11-21 15:56:37.402",
    reconfiguredAt: "2026-11-21 15:57:00.001",
    recovering: true,
  });
});

Deno.test("parseRoutes() reads spare routes of a network, several gateways, and the one that tells a route", () => {
  const routes = parseRoutes(lines(
    1007,
    `Table master4:
10.65.7.0/26         unicast [Mesh_192_168_10_12 15:30:40.997] ! (100) [i]
\tvia 192.168.10.12 on eth0
                     unicast [kernel4 15:30:40.249] (10)
\tdev tunl0
172.31.0.0/16        unicast [Mesh_192_168_10_101 15:30:41.045 from 192.168.10.101] * (100) [AS65020i]
\tvia 192.168.10.1 on eth0 weight 1
\tvia 192.168.10.2 on eth1 weight 1
10.65.3.64/26        blackhole [static4 15:30:40.243] * (200)`,
  ));
  assert.deepEqual(routes.map((r) => [r.net, r.protocol, r.from, r.primary]), [
    ["10.65.7.0/26", "Mesh_192_168_10_12", undefined, true],
    ["10.65.7.0/26", "kernel4", undefined, false],
    ["172.31.0.0/16", "Mesh_192_168_10_101", "192.168.10.101", true],
    ["10.65.3.64/26", "static4", undefined, true],
  ]);
  assert.deepEqual(routes[2]!.gateways.map((g) => g.interface), ["eth0", "eth1"]);
  assert.deepEqual(routes[1]!.gateways, [{ via: undefined, interface: "tunl0" }]);
  assert.equal(routes[3]!.type, "blackhole");
});
