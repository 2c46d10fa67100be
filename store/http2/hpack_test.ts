import assert from "node:assert/strict";
import fc from "fast-check";
import { fromHuffman, HeaderReader, type Headers, writeHeaders } from "./hpack.ts";

const hex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (x) => parseInt(x, 16));
const request = (path: string, scheme = "http"): Headers => [
  [":method", "GET"],
  [":scheme", scheme],
  [":path", path],
  [":authority", "www.example.com"],
];

Deno.test("the requests of RFC 7541 C.3 and C.4 are read, with and without Huffman texts, the table kept between them", () => {
  const plain = ["828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865"];
  plain.push("828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565");
  const huffman = ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf"];
  huffman.push("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf");
  for (const blocks of [plain, huffman]) {
    const reader = new HeaderReader();
    assert.deepEqual(blocks.map((b) => reader.read(hex(b))), [
      request("/"),
      [...request("/"), ["cache-control", "no-cache"]],
      [...request("/index.html", "https"), ["custom-key", "custom-value"]],
    ]);
  }
});

Deno.test("entries leave a table that is full, as in RFC 7541 C.5", () => {
  const reader = new HeaderReader(256);
  const date = "4d6f6e2c203231204f637420323031332032303a31333a323120474d54";
  const first = reader.read(
    hex("4803333032580770726976617465611d" + date + "6e1768747470733a2f2f7777772e6578616d706c652e636f6d"),
  );
  assert.deepEqual(first.map(([name]) => name), [":status", "cache-control", "date", "location"]);
  // ":status: 307" takes the place of ":status: 302", the oldest.
  assert.deepEqual(reader.read(hex("4803333037c1c0bf")), [[":status", "307"], ...first.slice(1)]);
});

Deno.test("what is written is read, whatever came before", () => {
  const text = fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((c) => String.fromCharCode(c)),
    maxLength: 300,
  });
  fc.assert(fc.property(fc.array(fc.tuple(text, text)), (headers) => {
    assert.deepEqual(new HeaderReader().read(writeHeaders(headers)), headers);
  }));
});

Deno.test("malformed blocks are refused: unknown index, cut off, bad padding, a table beyond its limit", () => {
  for (const block of ["80", "ff80808080808001", "c0", "41", "0005", "400a6375", "3fe21f", "4182f1"]) {
    assert.throws(() => new HeaderReader().read(hex(block)), RangeError, block);
  }
  assert.throws(() => fromHuffman(hex("ffffffff")), RangeError, "the end's code");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (garbage) => {
    try {
      new HeaderReader().read(garbage);
    } catch (error) {
      assert.ok(error instanceof RangeError, String(error));
    }
  }));
});
