import assert from "node:assert/strict";
import fc from "fast-check";
import { messages as m, type RangeRequest } from "./messages.ts";

const hex = (text: string) => Uint8Array.from(text.match(/../g) ?? [], (x) => parseInt(x, 16));
const int64 = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n });
const bytes = fc.uint8Array({ maxLength: 200 });

const keyValue = fc.record({
  ...{ key: bytes, value: bytes },
  ...{ create_revision: int64, mod_revision: int64, version: int64, lease: int64 },
}, { noNullPrototype: true });

Deno.test("what is written is read back: 64-bit numbers exactly, nested and repeated messages in order", () => {
  const header = fc.record({
    ...{ cluster_id: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), member_id: fc.bigInt({ min: 0n, max: 1n << 63n }) },
    ...{ revision: int64, raft_term: fc.bigInt({ min: 0n, max: 200n }) },
  }, { noNullPrototype: true });
  const response = fc.record({ header, kvs: fc.array(keyValue), more: fc.boolean(), count: int64 }, {
    noNullPrototype: true,
  });
  fc.assert(fc.property(response, fc.nat(9), (value, before) => {
    const encoded = m.rangeResponse.encode(value, before);
    assert.deepEqual(m.rangeResponse.decode(encoded.subarray(before)), value);
  }));
});

Deno.test("bytes are those of the Protocol Buffers encoding", () => {
  // protoc's: key "a", range_end one zero byte, limit 300, revision -1, count_only.
  const request: RangeRequest = {
    ...m.rangeRequest.decode(new Uint8Array(0)),
    ...{ key: hex("61"), range_end: hex("00"), limit: 300n, revision: -1n, count_only: true },
  };
  const expected = hex("0a0161" + "120100" + "18ac02" + "20ffffffffffffffffff01" + "4801");
  assert.deepEqual(m.rangeRequest.encode(request), expected);
  assert.deepEqual(m.rangeRequest.decode(expected), request);
});

Deno.test("unknown fields are passed over, packed and single numbers of a list are both read", () => {
  const unknown = "b80601" + "b906" + "00".repeat(8) + "ba0603616263" + "bd0600000000";
  assert.deepEqual(m.putRequest.decode(hex(unknown + "0a0161" + unknown)).key, hex("61"));
  const create = (filters: string) =>
    m.watchRequest.decode(hex("0a" + (filters.length / 2).toString(16).padStart(2, "0") + filters));
  assert.deepEqual(create("2a020001").create_request?.filters, [0, 1]);
  assert.deepEqual(create("28002801").create_request?.filters, [0, 1]);
});

Deno.test("bytes that are no message are refused, never read beyond their end", () => {
  for (const text of ["0a", "0a05", "0a0561", "08", "0fff", "20ffffffffffffffffffffff01", "ba06ff"]) {
    assert.throws(() => m.putRequest.decode(hex(text)), RangeError, text);
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (garbage) => {
    try {
      m.txnRequest.decode(garbage);
    } catch (error) {
      assert.ok(error instanceof RangeError, String(error));
    }
  }));
});
