import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import { formatIp } from "../../lib/ip.ts";
import { readPacket } from "./packet.ts";

const v4 = (protocol: number, rest: number[], { options = 0, fragment = 0 } = {}) =>
  new Uint8Array([
    ...[0x45 + options, 0, 0, 0, 0, 0, fragment >> 8, fragment & 255, 64, protocol, 0, 0],
    ...[10, 0, 0, 1, 10, 0, 0, 2, ...Array(options * 4).fill(1), ...rest],
  ]);
const v6 = (next: number, rest: number[]) =>
  new Uint8Array([0x60, 0, 0, 0, 0, 0, next, 64, ...Array(15).fill(0), 1, ...Array(15).fill(0), 2, ...rest]);
const syn = [0x1f, 0x90, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2];

Deno.test("a SYN is read with its addresses, ports and flags, behind options and extension headers too", () => {
  const plain = readPacket(4, v4(6, syn))!;
  deepEqual([formatIp(plain.src), formatIp(plain.dst)], ["10.0.0.1", "10.0.0.2"]);
  deepEqual([plain.srcPort, plain.dstPort, plain.flags], [8080, 80, ["SYN"]]);
  equal(readPacket(4, v4(6, syn, { options: 2 }))!.dstPort, 80);
  const behind = readPacket(6, v6(0, [60, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, ...syn]))!;
  deepEqual([behind.protocol, behind.dstPort, formatIp(behind.dst)], [6, 80, "::2"]);
});

Deno.test("a fragment without the transport's header has no ports", () => {
  equal(readPacket(4, v4(17, [0, 53, 0, 53], { fragment: 185 }))!.dstPort, 0);
  equal(readPacket(6, v6(44, [17, 0, 5, 0xc8, 0, 0, 0, 1, 0, 53, 0, 53]))!.dstPort, 0);
  equal(readPacket(6, v6(44, [17, 0, 0, 1, 0, 0, 0, 1, 0, 53, 0, 53]))!.dstPort, 53);
});

Deno.test("ICMP has type and code", () => {
  deepEqual(readPacket(4, v4(1, [3, 13, 0, 0]))!.icmp, { type: 3, code: 13 });
});

Deno.test("whatever bytes come, reading them ends and does not throw", () => {
  fc.assert(fc.property(fc.constantFrom(4 as const, 6 as const), fc.uint8Array({ maxLength: 90 }), (family, bytes) => {
    const packet = readPacket(family, bytes);
    equal(packet === undefined, bytes.length < (family === 4 ? 20 : 40));
  }));
});
