import assert from "node:assert/strict";
import { protocolTable } from "./calico_sockets.ts";

const rows = `device1    Device     ---        up     2026-11-20 15:15:10
direct1    Direct     ---        up     2026-11-21 15:15:10
kernel4    Kernel     master4    up     2026-11-21 15:15:10
kernel6    Kernel     master6    up     2026-11-21 15:15:10
Global_10_0_0_9_port_178 BGP        ---        start  2026-11-21 15:15:10  Active        Socket: Connection refused
Mesh_fd00__2 BGP        ---        up     2026-11-20 09:00:00  Established`;

Deno.test("protocolTable() gives each family its sessions under BIRD 1.6's names, with times of one word", () => {
  const reply = { code: 0, lines: rows.split("\n").map((text) => ({ code: 1002, text })) };
  const words = (v: 4 | 6) => protocolTable(reply, v, "2026-11-21").trimEnd().split("\n").map((l) => l.split(/\s+/));
  assert.deepEqual(words(4), [
    ["2002-name", "proto", "table", "state", "since", "info"],
    ["1002-device1", "Device", "---", "up", "2026-11-20"],
    ["", "direct1", "Direct", "master", "up", "15:15:10"],
    ["", "kernel1", "Kernel", "master", "up", "15:15:10"],
    "|Global_10_0_0_9_port_178|BGP|master|start|15:15:10|Active|Socket:|Connection|refused".split("|"),
    ["0000"],
  ]);
  assert.deepEqual(words(6).at(-2), ["", "Mesh_fd00__2", "BGP", "master", "up", "2026-11-20", "Established"]);
});
