import assert from "node:assert/strict";
import { formatIp, parseCidr, parseIp } from "../../lib/ip.ts";
import type { Problem } from "../../lib/problem.ts";
import { inNetns, isOwnNetns, openNetns } from "../../kernel/netns.ts";
import { readSysctl, writeSysctl } from "../../kernel/sysctl.ts";
import { addAddress, addressPort, listAddresses, removeAddress } from "../../kernel/rtnetlink/address.ts";
import { type Change, changes } from "../../kernel/rtnetlink/changes.ts";
import {
  createVeth,
  deleteGroup,
  deleteLink,
  getLink,
  linkStatePort,
  listLinks,
  setLink,
} from "../../kernel/rtnetlink/link.ts";
import { neighbourPort } from "../../kernel/rtnetlink/neighbour.ts";
import { addRoute, kind, listRoutes, removeRoute, route, routeKey, routePort } from "../../kernel/rtnetlink/route.ts";
import { rulePort } from "../../kernel/rtnetlink/rule.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { makeNamespace } from "../lab/namespaces.ts";
import { wait } from "../lab/wait.ts";
import { enterOwnNetns, kernelHandles } from "./_own_netns.ts";

/** A pair whose ends are both in the namespace, up; the index of the first. */
function pair(socket: RtSocket, a: string, b: string): number {
  socket.one(createVeth({ name: a }, { name: b }), a);
  const index = getLink(socket, a)!.index;
  socket.batch([setLink(index, { up: true }), setLink(getLink(socket, b)!.index, { up: true })]);
  return index;
}
const none = (failed: Map<unknown, Error>) => assert.deepEqual([...failed], []);

Deno.test("a veth is born with its far end in another namespace, with MAC, MTU and queues", async () => {
  await using _host = await enterOwnNetns("h4r");
  await using pod = await makeNamespace("h4p");
  using netns = openNetns(pod.path);
  using socket = RtSocket.open(), inside = RtSocket.open(netns);
  const both = { mtuBytes: 1400, queues: 2 };
  socket.one(createVeth({ name: "a", mac: "ee:ee:ee:ee:ee:ee" }, { name: "eth0", netnsFd: netns.fd }, both), "veth a");
  const near = getLink(socket, "a")!, far = getLink(inside, "eth0")!;
  assert.deepEqual([near.kind, near.mac, near.mtuBytes, near.up], ["veth", "ee:ee:ee:ee:ee:ee", 1400, false]);
  assert.deepEqual([far.kind, far.mtuBytes, far.up], ["veth", 1400, false]);
  assert.deepEqual([near.peerIndex, far.peerIndex], [far.index, near.index]);
  assert.deepEqual(getLink(socket, near.index), near);
  const [shown] = await pod.ipJson<{ num_tx_queues: number }[]>("-d link show eth0");
  assert.equal(shown!.num_tx_queues, 2);
  assert.equal(getLink(socket, "eth0"), undefined);
  socket.one(deleteLink(near.index), "deleting");
  assert.equal(getLink(inside, "eth0"), undefined);
});

Deno.test("a batch goes on after a refused request and says which was refused, in the kernel's words", async () => {
  await using _host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b");
  const answers = socket.batch([
    setLink(index, { mtuBytes: 1300 }),
    setLink(9999, { mtuBytes: 1300 }),
    addRoute(route({ dst: parseCidr("10.0.0.0/24"), index, via: parseIp("192.0.2.1") })),
    setLink(index, { group: 9 }),
  ]);
  assert.deepEqual(answers.map((a) => a.error?.symbol), [undefined, "ENODEV", "ENETUNREACH", undefined]);
  assert.match(answers[2]!.error!.message, /Nexthop has invalid gateway/);
  assert.deepEqual([getLink(socket, index)!.mtuBytes, getLink(socket, index)!.group], [1300, 9]);
  assert.throws(
    () => socket.one(deleteLink(9999), "deleting it"),
    (p: Problem) => p.code === "kernel" && /deleting it was refused.*ENODEV/.test(p.message),
  );
});

Deno.test("links of a group go in one request", async () => {
  await using _host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  for (let i = 0; i < 5; i++) socket.one(setLink(pair(socket, `a${i}`, `b${i}`), { group: i < 3 ? 77 : 78 }), "group");
  const [answer] = await socket.batchLater([deleteGroup(77)]);
  assert.equal(answer!.error, undefined);
  const names = [...listLinks(socket).values()].map((l) => l.name).sort();
  assert.deepEqual(names, ["a3", "a4", "b3", "b4", "lo"]);
});

Deno.test("the address port makes and removes ours, and leaves the others", async () => {
  await using host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b");
  await host.ip("addr add 192.0.2.9/24 dev b");
  const port = addressPort(socket, (a) => a.index === index && a.scope !== 253);
  const entry = (text: string, len: number) => ({ index, ip: parseIp(text), len, scope: 0, flags: 0 });
  const four = entry("10.0.0.1", 32), six = entry("fd00::1", 128);
  none(await port.apply([["4", four], ["6", six]], []));
  assert.deepEqual([...(await port.list()).keys()].sort(), [`${index} 10.0.0.1/32`, `${index} fd00::1/128`]);
  assert.match(await host.ip("-6 addr show dev a"), /fd00::1\/128 scope global nodad/);
  none(await port.apply([], [`${index} 10.0.0.1/32`, `${index} fd00::1/128`, "not there"]));
  assert.equal((await port.list()).size, 0);
  assert.ok(listAddresses(socket).some((a) => formatIp(a.ip) === "192.0.2.9"));
  assert.equal(socket.batch([removeAddress(four)])[0]!.error?.symbol, "EADDRNOTAVAIL");
  assert.equal(socket.batch([addAddress(four), addAddress(four)])[1]!.error, undefined, "again is fine");
});

Deno.test("the route port makes, replaces and removes ours of both versions", async () => {
  await using host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b");
  for (const [family, dst, other] of [[4, "10.1.0.0/24", "10.2.0.0/24"], [6, "fd01::/64", "fd02::/64"]] as const) {
    const port = routePort(socket, { family, owns: (r) => r.protocol === 80 });
    const first = route({ dst: parseCidr(dst), index, protocol: 80 });
    const hole = route({ dst: parseCidr(other), kind: kind.blackhole, protocol: 80 });
    const key = routeKey(first), holeKey = routeKey(hole);
    none(await port.apply([[key, first], [holeKey, hole]], []));
    let found = await port.list();
    assert.deepEqual([...found.keys()].sort(), [key, holeKey].sort());
    assert.ok(port.same(found.get(key)!, first) && port.same(found.get(holeKey)!, hole), JSON.stringify(dst));
    const changed = { ...first, mtuBytes: 1300 };
    none(await port.apply([[key, changed]], [holeKey, "not there"]));
    found = await port.list();
    assert.deepEqual([found.size, port.same(found.get(key)!, changed)], [1, true]);
    none(await port.apply([], [key]));
    assert.equal((await port.list()).size, 0);
  }
  assert.equal((await host.ip("route")).trim(), "");
});

Deno.test("the route port never takes a foreign route's place, nor removes one", async () => {
  await using host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b");
  const port = routePort(socket, { family: 4, owns: (r) => r.protocol === 80 });
  await host.ip("route add 10.1.0.0/24 dev b proto static");
  const mine = route({ dst: parseCidr("10.1.0.0/24"), index, protocol: 80 });
  const failed = await port.apply([[routeKey(mine), mine]], []);
  assert.match(
    failed.get(routeKey(mine))!.message,
    /^a foreign route is in the way: 10\.1\.0\.0\/24 interface \d+ protocol 4/,
  );
  none(await port.apply([], [routeKey(mine)]));
  assert.match(await host.ip("route"), /10\.1\.0\.0\/24 dev b proto static/);
});

Deno.test("a second route of ours in one place is seen, and removed exactly", async () => {
  await using host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  pair(socket, "a", "b");
  await host.ip("route add 10.1.0.0/24 dev a proto 80");
  await host.ip("route append 10.1.0.0/24 dev b proto 80");
  const port = routePort(socket, { family: 4, owns: (r) => r.protocol === 80 });
  assert.deepEqual([...(await port.list()).keys()], ["254 10.1.0.0/24 0 0", "254 10.1.0.0/24 0 0 #2"]);
  none(await port.apply([], ["254 10.1.0.0/24 0 0 #2"]));
  assert.equal((await host.ip("route")).trim(), "10.1.0.0/24 dev a proto 80 scope link");
});

Deno.test("routes of another table: empty before it is used, then listed, by protocol and interface too", async () => {
  await using _host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b");
  assert.deepEqual(listRoutes(socket, { family: 4, table: 1000 }), []);
  const mine = route({ table: 1000, dst: parseCidr("10.1.0.0/24"), index, protocol: 80 });
  socket.one(addRoute(mine), "route");
  const count = (f: object) => listRoutes(socket, { family: 4, table: 1000, ...f }).length;
  assert.deepEqual([count({}), count({ protocol: 80 }), count({ protocol: 3 }), count({ index })], [1, 1, 0, 1]);
  assert.equal(count({ index: 1 }), 0);
  socket.one(removeRoute(mine), "removal");
});

Deno.test("the neighbour port makes permanent entries, also of learned ones, and removes only permanent ones of ours", async () => {
  await using host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b"), foreign = getLink(socket, "b")!.index;
  await host.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:09 dev a nud stale");
  await host.ip("neigh add 10.0.0.3 lladdr 02:00:00:00:00:09 dev b nud permanent");
  const port = neighbourPort(socket, 4, (n) => n.index !== foreign);
  assert.equal((await port.list()).size, 0);
  const mine = { index, ip: parseIp("10.0.0.2"), mac: "02:00:00:00:00:01" };
  none(await port.apply([[`${index} 10.0.0.2`, mine]], []));
  assert.deepEqual([...(await port.list()).values()], [mine]);
  none(await port.apply([], [`${index} 10.0.0.2`, `${foreign} 10.0.0.3`, "not there"]));
  assert.equal((await host.ip("neigh show nud permanent")).trim(), "10.0.0.3 dev b lladdr 02:00:00:00:00:09 PERMANENT");
});

Deno.test("the link port raises what is down and leaves what nobody asks about", async () => {
  await using _host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b");
  socket.batch([setLink(index, { up: false }), setLink(getLink(socket, "b")!.index, { up: false })]);
  const port = linkStatePort(socket, () => [index, 9999]);
  assert.deepEqual([...await port.list()], [[index, { up: false, mtuBytes: 1500 }]]);
  const failed = await port.apply([[index, { up: true }], [9999, { up: true }]], []);
  assert.deepEqual([...failed].map(([i, e]) => [i, e.message]), [[9999, "ENODEV"]]);
  assert.deepEqual([getLink(socket, "a")!.up, getLink(socket, "b")!.up], [true, false]);
});

Deno.test("the rule port makes and removes rules with our number", async () => {
  await using host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  await host.ip("rule add from all lookup 7 priority 50");
  const port = rulePort(socket, 4, (r) => r.protocol === 80);
  const mine = { family: 4 as const, priority: 99, table: 1, mark: 1 << 21, mask: 1 << 21, invert: true, protocol: 80 };
  none(await port.apply([["k", mine]], []));
  assert.match(await host.ip("rule"), /99:\tnot from all fwmark 0x200000\/0x200000 lookup 1 proto 80/);
  const found = await port.list();
  assert.deepEqual([...found.values()], [mine]);
  none(await port.apply([], [...found.keys()]));
  assert.match(await host.ip("rule"), /50:\tfrom all lookup 7/);
  assert.equal((await port.list()).size, 0);
});

/** Collects changes until the test ends. */
function collect(options?: Parameters<typeof changes>[1]) {
  const stop = new AbortController();
  const found: Change[] = [];
  const done = (async () => {
    for await (const batch of changes(stop.signal, options)) found.push(...batch);
  })();
  return {
    found,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
    },
  };
}

Deno.test("changes() tells of everything once, then of each change by others", async () => {
  await using host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  pair(socket, "a", "b");
  await using heard = collect();
  const saw = (what: string, is: (c: Change) => boolean) => wait(what, () => heard.found.some(is), { everyMs: 2 });
  await saw("the first answer", (c) => c.what === "everything");
  await host.ip("link set dev b down");
  await saw("link b down", (c) => c.what === "link" && c.link.name === "b" && !c.link.up);
  await host.ip("addr add 10.0.0.1/24 dev a");
  await saw("the address", (c) => c.what === "address" && !c.removed && formatIp(c.address.ip) === "10.0.0.1");
  await host.ip("route add 10.7.0.0/24 dev a proto 44");
  await saw("the route", (c) => c.what === "route" && !c.removed && c.route.protocol === 44);
  await host.ip("route del 10.7.0.0/24");
  await saw("the removal", (c) => c.what === "route" && c.removed && c.route.protocol === 44);
  await host.ip("neigh add 10.0.0.2 lladdr 02:00:00:00:00:09 dev a");
  await saw("the neighbour", (c) => c.what === "neighbour" && c.neighbour.mac === "02:00:00:00:00:09");
  await host.runOk("sysctl", ["-qw", "net.ipv4.conf.a.forwarding=1"]);
  const index = getLink(socket, "a")!.index;
  await saw("the switch", (c) => c.what === "sysctl" && c.index === index);
  await host.ip("link del dev a");
  await saw("the end of b", (c) => c.what === "link" && c.removed && c.link.name === "b");
});

Deno.test("changes() says everything when the kernel had to drop some", async () => {
  await using _host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b");
  await using heard = collect({ of: ["route"], receiveBytes: 4096 });
  await wait("the first answer", () => heard.found.length > 0);
  const many = Array.from(
    { length: 2000 },
    (_, i) => addRoute(route({ dst: { v: 4, n: BigInt(0x0a000000 + i), len: 32 }, index })),
  );
  socket.batch(many);
  await wait("that some were lost", () => heard.found.filter((c) => c.what === "everything").length > 1);
});

Deno.test("changes() ends at once when aborted while it waits, and before it began", async () => {
  await using _host = await enterOwnNetns("h4r");
  const before = kernelHandles();
  {
    await using heard = collect();
    await wait("the first answer", () => heard.found.length > 0);
  }
  for await (const _ of changes(AbortSignal.abort())) assert.fail("it was aborted");
  for await (const _ of changes(new AbortController().signal)) break;
  assert.equal(kernelHandles(), before);
});

Deno.test("10,000 routes are made, told of and removed without a loss", async () => {
  await using _host = await enterOwnNetns("h4r");
  using socket = RtSocket.open();
  const index = pair(socket, "a", "b");
  await using heard = collect({ of: ["route"] });
  await wait("the first answer", () => heard.found.length > 0);
  const port = routePort(socket, { family: 4, owns: (r) => r.protocol === 80 });
  const all = Array.from(
    { length: 10_000 },
    (_, i) => route({ dst: { v: 4, n: BigInt(0x0a000000 + i), len: 32 }, index, protocol: 80, metric: 1024 }),
  );
  none(await port.apply(all.map((r) => [routeKey(r), r]), []));
  assert.equal((await port.list()).size, 10_000);
  const told = () => heard.found.filter((c) => c.what === "route" && !c.removed && c.route.protocol === 80).length;
  await wait("10,000 changes", () => told() === 10_000);
  none(await port.apply([], all.map(routeKey)));
  assert.equal((await port.list()).size, 0);
  assert.ok(!heard.found.slice(1).some((c) => c.what === "everything"), "nothing was dropped");
});

Deno.test("inNetns() works in the other namespace and comes back, also from a failure", async () => {
  await using host = await enterOwnNetns("h4r");
  await using other = await makeNamespace("h4p");
  const before = kernelHandles();
  {
    using netns = openNetns(other.path);
    assert.deepEqual([isOwnNetns(host.path), isOwnNetns(other.path)], [true, false]);
    assert.deepEqual(inNetns(netns, () => [isOwnNetns(host.path), isOwnNetns(other.path)]), [false, true]);
    assert.throws(() => inNetns(netns, () => assert.fail("inside")), /inside/);
    assert.throws(() => inNetns(netns, () => Promise.resolve()), /must not be asynchronous/);
    assert.equal(isOwnNetns(host.path), true);
  }
  assert.equal(kernelHandles(), before);
});

Deno.test("a path that is no namespace is refused in words", async () => {
  await using host = await enterOwnNetns("h4r");
  const code = (expected: string) => (p: Problem) => p.code === expected;
  assert.throws(() => openNetns("/run/netns/h4-none"), code("not-found"));
  assert.throws(() => isOwnNetns("/run/netns/h4-none"), code("not-found"));
  using file = openNetns("/etc/passwd");
  assert.throws(() => inNetns(file, () => 0), code("bad-input"));
  assert.equal(isOwnNetns(host.path), true);
});

Deno.test("sysctls are those of the thread's namespace, and are written only when they differ", async () => {
  await using _host = await enterOwnNetns("h4r");
  const path = "net/ipv4/conf/lo/proxy_arp";
  assert.equal(readSysctl(path), "0");
  assert.deepEqual([writeSysctl({ path, value: "1" }), writeSysctl({ path, value: "1" })], [true, false]);
  assert.equal(readSysctl(path), "1");
  assert.equal(readSysctl("net/ipv4/conf/none/proxy_arp"), undefined);
  assert.equal(writeSysctl({ path: "net/ipv4/conf/none/proxy_arp", value: "1", optional: true }), false);
  assert.throws(() => writeSysctl({ path: "net/ipv4/conf/none/proxy_arp", value: "1" }), /no such switch/);
});
