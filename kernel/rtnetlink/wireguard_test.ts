import assert from "node:assert/strict";
import { type Cidr, ipAt, parseCidr, parseIp } from "../../lib/ip.ts";
import { decodeFamily, familyQuery } from "./generic.ts";
import { attribute, encodeRequests, join, type Message, type Request, text, u16, u32 } from "./message.ts";
import { decodeWireguard, removePeer, samePeer, setPeer, setWireguard, type WireguardPeer } from "./wireguard.ts";

const secret = new Uint8Array(32).fill(0x48).toBase64();
const publicKey = new Uint8Array(32).fill(0x11).toBase64(), other = new Uint8Array(32).fill(0x22).toBase64();
const hex = (bytes: Uint8Array) => bytes.toHex();
/** The kernel answers with the attributes that it is set by. */
const answer = ({ type, body }: Request): Message => ({ type, flags: 2, sequence: 1, port: 0, body });
const peer = (parts: Partial<WireguardPeer> = {}): WireguardPeer => ({
  device: "wireguard.cali",
  publicKey,
  endpoint: { ip: parseIp("192.0.2.7"), port: 51820 },
  keepaliveSeconds: 25,
  allowed: [parseCidr("10.65.2.0/26"), parseCidr("fd00::/122")],
  ...parts,
});
const read = (...requests: Request[]) => {
  const head = answer(setWireguard(30, "wireguard.cali", { privateKey: secret, port: 51820, mark: 0x200000 }));
  return decodeWireguard([head, ...requests.map(answer)])!;
};

Deno.test("a family is asked for as the kernel's header says, and its number read from the answer", () => {
  assert.equal(
    hex(encodeRequests([familyQuery("wireguard")], 1)),
    "2400000010000100010000000000000003010000" + "0e000200" + "776972656775617264000000",
  );
  assert.equal(
    decodeFamily(join(Uint8Array.of(1, 2, 0, 0), attribute(2, text("wireguard")), attribute(1, u16(0x1f)))),
    31,
  );
  assert.equal(decodeFamily(new Uint8Array(4)), undefined);
});

Deno.test("a device is set in linux/wireguard.h's numbers", () => {
  const { type, body } = setWireguard(30, "wg0", { privateKey: secret, port: 51820, mark: 0x200000 });
  assert.equal(type, 30);
  assert.equal(
    hex(body),
    "01010000" + "08000200" + "77673000" + "24000300" + "48".repeat(32) + "06000600" + "6cca0000" + "08000700" +
      "00002000",
  );
});

Deno.test("a peer is set with its networks replaced, and removed by its key alone", () => {
  const [request] = setPeer(30, peer({ device: "wg0", allowed: [parseCidr("10.65.2.0/26")] }));
  const net = "1c000080" + "06000100" + "02000000" + "08000200" + "0a410200" + "05000300" + "1a000000";
  assert.equal(
    hex(request!.body),
    "01010000" + "08000200" + "77673000" + "70000880" + "6c000080" + "24000100" + "11".repeat(32) + "08000300" +
      "02000000" + "14000400" + "0200ca6c" + "c0000207" + "0".repeat(16) + "06000500" + "19000000" + "20000980" + net,
  );
  assert.equal(
    hex(removePeer(30, "wg0", publicKey).body),
    "01010000" + "08000200" + "77673000" + "34000880" + "30000080" + "24000100" + "11".repeat(32) + "08000300" +
      "01000000",
  );
});

Deno.test("what is written of a device and its peers is read back", () => {
  const second = peer({ publicKey: other, endpoint: { ip: parseIp("2001:db8::7"), port: 51821 }, allowed: [] });
  const state = read(...setPeer(30, peer()), ...setPeer(30, second));
  assert.deepEqual(state.device, { privateKey: secret, port: 51820, mark: 0x200000 });
  assert.deepEqual([...state.peers.keys()], [publicKey, other]);
  assert.ok(samePeer(state.peers.get(publicKey)!, peer()));
  assert.ok(samePeer(state.peers.get(other)!, second));
  assert.deepEqual(state.peers.get(other)!.endpoint, second.endpoint);
});

Deno.test("a peer with more networks than a message holds goes on in the next, and is read as one", () => {
  const base = parseCidr("fd00::/64");
  const allowed = Array.from({ length: 2500 }, (_, i): Cidr => ({ ...ipAt(base, i), len: 128 }));
  const requests = setPeer(30, peer({ allowed }));
  assert.equal(requests.length, 3);
  assert.ok(requests.every(({ body }) => body.length < 48 * 1024));
  const flags = requests.map(({ body }) => body.indexOf(0x11) + 32).map((at, i) => requests[i]!.body[at + 4]);
  assert.deepEqual(flags, [2, 4, 4], "only the first replaces");
  assert.ok(samePeer(read(...requests).peers.get(publicKey)!, peer({ allowed })));
});

Deno.test("traffic and the last handshake are read", () => {
  const time = join(u32(1700000000), new Uint8Array(12));
  const counted = join(attribute(6, time), attribute(7, join(u32(5), u32(0))), attribute(8, join(u32(0), u32(1))));
  const [{ type, body }] = setPeer(30, peer({ allowed: [] })) as [Request];
  // The peer stands last: its attributes may go on behind it, when its lengths and those around it grow with them.
  const longer = join(body, counted), view = new DataView(longer.buffer);
  const [peers, one] = [4 + 20, 4 + 20 + 4];
  for (const at of [peers, one]) view.setUint16(at, view.getUint16(at, true) + counted.length, true);
  const found = read({ type, flags: 0, body: longer }).peers.get(publicKey)!;
  assert.deepEqual([found.handshakeSeconds, found.receivedBytes, found.sentBytes], [1700000000, 5n, 1n << 32n]);
});

Deno.test("two peers are the same whatever the order of their networks; every field counts", () => {
  assert.ok(samePeer(peer(), peer({ allowed: peer().allowed.toReversed() })));
  const others: Partial<WireguardPeer>[] = [
    { device: "x" },
    { publicKey: other },
    { endpoint: undefined },
    { endpoint: { ip: parseIp("192.0.2.7"), port: 1 } },
    { keepaliveSeconds: 0 },
    { allowed: [parseCidr("10.65.2.0/26")] },
    { allowed: [parseCidr("10.65.2.0/26"), parseCidr("fd00::/123")] },
  ];
  for (const parts of others) assert.ok(!samePeer(peer(), peer(parts)), JSON.stringify(Object.keys(parts)));
});

Deno.test("nothing is read where there is no device, and what is no key is not sent", () => {
  assert.equal(decodeWireguard([]), undefined);
  assert.throws(() => setWireguard(30, "wg0", { privateKey: "", port: 1, mark: 0 }), /not a WireGuard key/);
  assert.throws(() => setPeer(30, peer({ publicKey: "x" })), /not a WireGuard key/);
});
