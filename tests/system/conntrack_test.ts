import assert from "node:assert/strict";
import { deleteFlowsOf, listFlows } from "../../kernel/netfilter/conntrack.ts";
import { NETLINK_NETFILTER } from "../../kernel/netfilter/set_messages.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { formatIp, parseIp } from "../../lib/ip.ts";
import { addFlows, type FlowWords } from "./_flows.ts";
import { enterOwnNetns } from "./_own_netns.ts";

const seen = async (socket: RtSocket, family: 4 | 6) =>
  (await listFlows(socket, family)).map(({ original: o }) =>
    `${formatIp(o.source)}>${formatIp(o.destination)}:${o.destinationPort}`
  ).sort();

Deno.test("flows of an address go wherever it stands, in both families, and the others stay", async () => {
  await using _host = await enterOwnNetns("h9");
  using socket = RtSocket.open(undefined, NETLINK_NETFILTER);
  addFlows(socket, [
    ["10.0.0.1", "10.0.0.2", 1],
    ["10.0.0.2", "10.0.0.1", 2],
    ["10.0.0.3", "10.96.0.1", 3, "10.0.0.1"],
    ["10.0.0.3", "10.0.0.2", 4],
    ["fd00::1", "fd00::2", 5],
    ["fd00::3", "fd00::2", 6],
  ]);
  assert.equal((await seen(socket, 4)).length, 4);
  assert.equal(await deleteFlowsOf(socket, [parseIp("10.0.0.1"), parseIp("fd00::1")]), 4);
  assert.deepEqual(await seen(socket, 4), ["10.0.0.3>10.0.0.2:4"]);
  assert.deepEqual(await seen(socket, 6), ["fd00::3>fd00::2:6"]);
  assert.equal(await deleteFlowsOf(socket, [parseIp("10.0.0.1"), parseIp("192.0.2.1")]), 0, "nothing there is fine");
});

Deno.test("flows of many addresses are found by one look at all", async () => {
  await using _host = await enterOwnNetns("h9");
  using socket = RtSocket.open(undefined, NETLINK_NETFILTER);
  addFlows(socket, Array.from({ length: 20 }, (_, i) => [`10.0.0.${i + 1}`, "10.1.0.1", i + 1]));
  const gone = Array.from({ length: 12 }, (_, i) => parseIp(`10.0.0.${i + 1}`));
  assert.equal(await deleteFlowsOf(socket, gone), 12);
  assert.equal((await seen(socket, 4)).length, 8);
});

Deno.test("where there is no flow nothing is looked for", async () => {
  await using _host = await enterOwnNetns("h9");
  using socket = RtSocket.open(undefined, NETLINK_NETFILTER);
  assert.equal(await deleteFlowsOf(socket, [parseIp("10.0.0.1"), parseIp("fd00::1")]), 0);
  addFlows(socket, [["fd00::1", "fd00::2", 5]]);
  assert.equal(await deleteFlowsOf(socket, [parseIp("10.0.0.1"), parseIp("fd00::1")]), 1);
});

Deno.test("of 20,000 flows those of one address are found by the kernel, not by us", async () => {
  await using _host = await enterOwnNetns("h9");
  using socket = RtSocket.open(undefined, NETLINK_NETFILTER);
  const flows = Array.from({ length: 20_000 }, (_, i): FlowWords => [`10.0.${i >> 8}.${i & 255}`, "192.0.2.1", 53]);
  assert.equal(addFlows(socket, flows), 20_000);
  const start = performance.now();
  assert.equal(await deleteFlowsOf(socket, [parseIp("10.0.0.77")]), 1);
  console.log(`      one address of 20,000 flows: ${(performance.now() - start).toFixed(1)} ms`);
  assert.equal((await listFlows(socket, 4)).length, 19_999);
});
