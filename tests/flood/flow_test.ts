import assert from "node:assert/strict";
import { internetChecksum } from "../packets/checksums.ts";
import { type Flow, readMark, stamp, templateOf } from "./flow.ts";

const flows: Flow[] = [
  { name: "a", from: "x", src: "10.0.0.1", dst: "10.0.0.2", protocol: "udp", dstPort: 80 },
  { name: "b", from: "x", src: "10.0.0.1", dst: "10.0.0.2", protocol: "tcp", dstPort: 80 },
  { name: "c", from: "x", src: "fd00::1", dst: "fd00::2", protocol: "udp", dstPort: 80, srcPort: 7000 },
];

Deno.test("a packet keeps a right checksum whatever its number, and tells flow and number", () => {
  flows.forEach((flow, id) => {
    const template = templateOf(flow, id);
    for (const number of [0, 1, 511, 65_536, 0xfffffffe]) {
      stamp(template, number);
      const { bytes, family, transportAt } = template;
      const addresses = family === 4 ? bytes.subarray(12, 20) : bytes.subarray(8, 40);
      const body = bytes.subarray(transportAt);
      const pseudo = new Uint8Array([0, 0, 0, body.length, 0, 0, 0, flow.protocol === "tcp" ? 6 : 17]);
      // Over a body that has its checksum in it the sum is 0.
      assert.equal(internetChecksum(addresses, pseudo, body), 0);
      assert.deepEqual(readMark(new DataView(bytes.buffer), bytes.length), { flow: id, number });
    }
  });
});

Deno.test("what is no packet of the flood is not read", () => {
  assert.equal(readMark(new DataView(new ArrayBuffer(60)), 60), undefined);
  assert.equal(readMark(new DataView(new ArrayBuffer(60)), 5), undefined);
});
