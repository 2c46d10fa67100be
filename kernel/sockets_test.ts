import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp } from "../lib/ip.ts";
import { parseSockets } from "./sockets.ts";

const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const rest = "00000000:00000000 00:00000000 00000000     0        0";

Deno.test("addresses, ports, states and inodes are read from /proc/net's words", () => {
  const text =
    `${head}   0: 0100007F:1F90 00000000:0000 0A ${rest} 11 1 x\n   1: 0B001EAC:08AE 01001EAC:C001 01 ${rest} 12 1 x\n`;
  const six =
    `${head}   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A ${rest} 13 1 x
   1: 0000000000000000FFFF00000B001EAC:0016 0000000000000000FFFF000001001EAC:C001 01 ${rest} 14 1 x
   2: 3000 00FD000000000000000011000000:0016 x 01 ${rest} 15 1 x
   3: 300000FD000000000000000011000000:0016 300000FD000000000000000001000000:D000 06 ${rest} 16 1 x\n`;
  const told = [...parseSockets(text, "TCP"), ...parseSockets(six, "TCP")].map((s) =>
    `${formatIp(s.local)} ${s.localPort} ${formatIp(s.remote)} ${s.remotePort} ${s.state} ${s.inode}`
  );
  assert.deepEqual(told, [
    "127.0.0.1 8080 0.0.0.0 0 listening 11",
    "172.30.0.11 2222 172.30.0.1 49153 established 12",
    ":: 80 :: 0 listening 13",
    "172.30.0.11 22 172.30.0.1 49153 established 14",
    "fd00:30::11 22 fd00:30::1 53248 other 16",
  ]);
  assert.equal(
    parseSockets(`${head}   0: 00000000:0044 00000000:0000 07 ${rest} 17 2 x\n`, "UDP")[0]!.state,
    "listening",
  );
});

Deno.test("any text is no reason to fail", () => {
  fc.assert(fc.property(fc.string(), (text) => void parseSockets(`${head}${text}`, "UDP")));
});
