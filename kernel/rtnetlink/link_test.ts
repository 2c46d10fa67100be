import assert from "node:assert/strict";
import { attributesOf, type Message, readMac, readText, readU32, type Request } from "./message.ts";
import { createVeth, decodeLink, deleteGroup, deleteLink, linkQuery, setLink } from "./link.ts";

/** The beginning of what Linux 6.18 said of `v0`, a veth with MTU 1450, and the end that says its kind and peer. */
const veth = "00000100030000004310010000000000070003007630000008000d00e80300000500100006000000" +
  "08000400aa05000008001b00070000000a000100eeeeeeeeeeee0000080005000200000008002500010000001000120009000100766574680000" +
  "0000";

const hex = (text: string) => Uint8Array.from(text.match(/../g)!, (b) => parseInt(b, 16));
const message = (body: Uint8Array): Message => ({ type: 16, flags: 0, sequence: 1, port: 0, body });
const head = (r: Request) => {
  const view = new DataView(r.body.buffer);
  return { index: view.getInt32(4, true), flags: view.getUint32(8, true), change: view.getUint32(12, true) };
};

Deno.test("decodeLink() reads what the kernel says of a veth", () => {
  assert.deepEqual(decodeLink(message(hex(veth))), {
    index: 3,
    name: "v0",
    kind: "veth",
    mac: "ee:ee:ee:ee:ee:ee",
    mtuBytes: 1450,
    up: true,
    operUp: true,
    loopback: false,
    group: 7,
    master: undefined,
    peerIndex: 2,
    peerNsid: 1,
  });
});

Deno.test("decodeLink() passes over ports of bridges, which come as links of another family", () => {
  const body = hex(veth);
  body[0] = 7;
  assert.equal(decodeLink(message(body)), undefined);
});

Deno.test("createVeth() names both ends, the far one in its namespace", () => {
  const request = createVeth({ name: "cali1", mac: "ee:ee:ee:ee:ee:ee" }, { name: "eth0", netnsFd: 9 }, {
    mtuBytes: 1400,
    queues: 4,
  });
  assert.deepEqual([request.type, request.flags], [16, 0x600]);
  const own = attributesOf(request.body, 16);
  assert.deepEqual([readText(own.get(3)), readMac(own.get(1)), readU32(own.get(4))], [
    "cali1",
    "ee:ee:ee:ee:ee:ee",
    1400,
  ]);
  assert.deepEqual([own.get(28), readU32(own.get(31)), readU32(own.get(32))], [undefined, 4, 4]);
  const info = attributesOf(own.get(18)!);
  assert.equal(readText(info.get(1)), "veth");
  const peer = attributesOf(attributesOf(info.get(2)!).get(1)!, 16);
  assert.deepEqual([readText(peer.get(3)), peer.get(1), readU32(peer.get(28))], ["eth0", undefined, 9]);
});

Deno.test("setLink() changes the up flag only when asked", () => {
  assert.deepEqual(head(setLink(3, { up: true })), { index: 3, flags: 1, change: 1 });
  assert.deepEqual(head(setLink(3, { up: false })), { index: 3, flags: 0, change: 1 });
  const group = setLink(3, { group: 5 });
  assert.deepEqual(head(group), { index: 3, flags: 0, change: 0 });
  assert.equal(readU32(attributesOf(group.body, 16).get(27)), 5);
});

Deno.test("deletions and queries name their link by index, name or group", () => {
  assert.deepEqual([deleteLink(4).type, head(deleteLink(4)).index], [17, 4]);
  assert.deepEqual([head(deleteGroup(5)).index, readU32(attributesOf(deleteGroup(5).body, 16).get(27))], [0, 5]);
  assert.deepEqual([head(linkQuery(4)).index, attributesOf(linkQuery(4).body, 16).get(3)], [4, undefined]);
  assert.equal(readText(attributesOf(linkQuery("eth0").body, 16).get(3)), "eth0");
});
