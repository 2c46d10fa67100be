import assert from "node:assert/strict";
import fc from "fast-check";
import { parseIp } from "../../lib/ip.ts";
import {
  attribute,
  attributesOf,
  decodeMessages,
  encodeRequests,
  join,
  macBytes,
  nested,
  readIp,
  readMac,
  readText,
  readU32,
  text,
  u16,
  u32,
  u8,
} from "./message.ts";

const bytes = fc.uint8Array({ maxLength: 40 });

Deno.test("requests come out of their bytes as they went in, numbered in order", () => {
  fc.assert(fc.property(
    fc.array(fc.record({ type: fc.nat(0xffff), flags: fc.nat(0xffff), body: bytes })),
    fc.nat(1_000_000),
    (requests, first) => {
      const messages = [...decodeMessages(encodeRequests(requests, first))];
      assert.deepEqual(
        messages.map((m) => ({ type: m.type, flags: m.flags, body: Uint8Array.from(m.body), sequence: m.sequence })),
        requests.map((r, i) => ({ ...r, flags: r.flags | 1, sequence: first + i })),
      );
    },
  ));
});

Deno.test("attributes come out of their bytes as they went in", () => {
  fc.assert(fc.property(
    fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), bytes), { selector: ([type]) => type }),
    bytes,
    (all, head) => {
      const found = attributesOf(join(head, ...all.map(([type, value]) => attribute(type, value))), head.length);
      assert.deepEqual([...found].map(([type, value]) => [type, Uint8Array.from(value)]), all);
    },
  ));
});

Deno.test("no bytes make the decoders fail or loop", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
    for (const message of decodeMessages(garbage)) attributesOf(message.body);
    attributesOf(garbage, 3);
  }));
});

Deno.test("a nested attribute is found under its plain number", () => {
  const inner = attributesOf(attributesOf(nested(18, attribute(1, text("veth")))).get(18)!);
  assert.equal(readText(inner.get(1)), "veth");
});

Deno.test("values of attributes are read as they are written", () => {
  assert.equal(readU32(u32(0xfffffffe)), 0xfffffffe);
  assert.deepEqual([...u16(0x1234)], [0x34, 0x12]);
  assert.deepEqual([...u8(7)], [7]);
  assert.equal(readMac(macBytes("AA-bb:cc:dd:ee:0f")), "aa:bb:cc:dd:ee:0f");
  assert.deepEqual(readIp(new Uint8Array([10, 0, 0, 1])), parseIp("10.0.0.1"));
  assert.deepEqual(
    [readU32(undefined), readU32(u8(1)), readText(undefined), readMac(u8(1)), readIp(u8(1))],
    Array(5).fill(undefined),
  );
  assert.throws(() => macBytes("aa:bb"), /"aa:bb" is not a MAC address/);
});
