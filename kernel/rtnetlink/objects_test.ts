import assert from "node:assert/strict";
import { parseIp } from "../../lib/ip.ts";
import { addAddress, addressKey, addressType, decodeAddress, removeAddress } from "./address.ts";
import { decode } from "./changes.ts";
import { attributesOf, encodeRequests, type Message, readU32 } from "./message.ts";
import { decodeNeighbour, neighbourKey, removeNeighbour, setNeighbour } from "./neighbour.ts";
import { addRule, decodeRule, removeRule, type Rule, ruleKey } from "./rule.ts";

const hex = (text: string) => Uint8Array.from(text.match(/../g)!, (b) => parseInt(b, 16));
const message = (type: number, body: Uint8Array): Message => ({ type, flags: 0, sequence: 1, port: 0, body });

const address =
  "0218800003000000080001000a000001080002000a0000010700030076300000080008008000000014000600ffffffffffffffff" +
  "bbe70400bbe70400";
const neighbour = "020000000300000080000001080001000a4100020a000200aabbccddee01000008000400000000001400030001000000" +
  "010000000100000000000000";
const rule =
  "02000000010000010200000008000f000100000008000e00ffffffff0500150050000000080006006300000008000a0000002000" +
  "0800100000002000";

Deno.test("decodeAddress() reads what the kernel says of an address", () => {
  const found = decodeAddress(message(20, hex(address)))!;
  assert.deepEqual(found, { index: 3, ip: parseIp("10.0.0.1"), len: 24, scope: 0, flags: 0x80 });
  assert.equal(addressKey(found), "3 10.0.0.1/24");
});

Deno.test("an address that is written is read back as the same; IPv6 skips duplicate detection", () => {
  const a = { index: 7, ip: parseIp("fd00::1"), len: 128, scope: 0 };
  assert.deepEqual(decodeAddress(message(20, addAddress(a).body)), { ...a, flags: 2 });
  assert.deepEqual(decodeAddress(message(20, removeAddress(a).body)), { ...a, flags: 0 });
  assert.equal(removeAddress(a).type, addressType.deleted);
});

Deno.test("decodeNeighbour() reads what the kernel says of a permanent neighbour", () => {
  const found = decodeNeighbour(message(28, hex(neighbour)))!;
  assert.deepEqual(found, {
    index: 3,
    ip: parseIp("10.65.0.2"),
    mac: "aa:bb:cc:dd:ee:01",
    permanent: true,
    proxy: false,
  });
  assert.equal(neighbourKey(found), "3 10.65.0.2");
});

Deno.test("a neighbour that is written is read back as the same", () => {
  const n = { index: 7, ip: parseIp("10.65.0.9"), mac: "02:00:00:00:00:01" };
  const found = { ...n, permanent: true, proxy: false };
  assert.deepEqual(decodeNeighbour(message(28, setNeighbour(n).body)), found);
  assert.deepEqual(decodeNeighbour(message(28, removeNeighbour(n).body)), { ...found, mac: undefined });
});

Deno.test("decodeRule() reads what the kernel says of a rule with a mark", () => {
  const want: Rule = { family: 4, priority: 99, table: 1, mark: 0x200000, mask: 0x200000, invert: true, protocol: 80 };
  assert.deepEqual(decodeRule(message(32, hex(rule))), want);
  assert.equal(ruleKey(want), "4 99 not 2097152/2097152 1");
});

Deno.test("a rule that is written is read back as the same, high tables too", () => {
  const r: Rule = { family: 6, priority: 5, table: 1000, mark: 0, mask: 0, invert: false, protocol: 80 };
  assert.deepEqual(decodeRule(message(32, addRule(r).body)), r);
  assert.deepEqual(decodeRule(message(32, removeRule(r).body)), r);
});

Deno.test("other families are passed over", () => {
  const bridge = (text: string) => hex("07" + text.slice(2));
  assert.equal(decodeAddress(message(20, bridge(address))), undefined);
  assert.equal(decodeNeighbour(message(28, bridge(neighbour))), undefined);
  assert.equal(decodeRule(message(32, bridge(rule))), undefined);
});

Deno.test("notifications become changes; those that mean nothing to us are left out", () => {
  const bodies: [number, Uint8Array][] = [
    [21, hex(address)],
    [28, hex(neighbour)],
    [80, hex("0200000008000100030000000800020001000000")],
    [2, new Uint8Array(20)],
    [77, new Uint8Array(4)],
  ];
  const found = decode(encodeRequests(bodies.map(([type, body]) => ({ type, flags: 0, body })), 1));
  assert.deepEqual(found.map((c) => [c.what, "removed" in c && c.removed]), [
    ["address", true],
    ["neighbour", false],
    ["sysctl", false],
  ]);
  assert.equal(found[2]!.what === "sysctl" && found[2]!.index, 3);
});

Deno.test("requests ask for what they mean", () => {
  assert.deepEqual([setNeighbour({ index: 1, ip: parseIp("1.1.1.1"), mac: "02:00:00:00:00:01" }).flags], [0x500]);
  const mark = attributesOf(
    addRule({ family: 4, priority: 1, table: 2, mark: 3, mask: 4, invert: false, protocol: 5 }).body,
    12,
  );
  assert.deepEqual([readU32(mark.get(10)), readU32(mark.get(16))], [3, 4]);
});
