import assert from "node:assert/strict";
import { formatCidr, formatIp, parseCidr, parseIp } from "../../lib/ip.ts";
import type { Problem } from "../../lib/problem.ts";
import { type ConnectRequest, Wiring } from "../../agent/endpoints/wiring.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { enterOwnNetns, kernelHandles } from "./_own_netns.ts";

const v4 = parseIp("10.65.0.2"), v6 = parseIp("fd00:65::2");
const request = (pod: Namespace, parts: Partial<ConnectRequest> = {}): ConnectRequest => ({
  netns: pod.path,
  interfaceName: "eth0",
  hostInterface: "calih4a",
  addresses: [v4, v6],
  ...parts,
});
const links = async (ns: Namespace) => (await ns.ipJson<{ ifname: string }[]>("link")).map((l) => l.ifname).sort();
/** `ip route` without what depends on the other side being up. */
const routes4 = async (ns: Namespace) => (await ns.ip("route")).replaceAll(" linkdown", "").replaceAll(" \n", "\n");
const is = (code: string, words: RegExp) => (p: Problem) => {
  assert.equal(p.code, code);
  assert.match(p.message, words);
  return true;
};

Deno.test("a pod gets its addresses, routes and next hop, and talks once its host side is raised and routed", async () => {
  await using host = await enterOwnNetns("h4w");
  await using pod = await makeNamespace("h4p");
  await using wiring = new Wiring();
  const { mac } = await wiring.connect(request(pod, { mtu: 1400, mac: "02:AA:00:00:00:01", queues: 2 }));
  assert.equal(mac, "02:aa:00:00:00:01");
  const [down] = await host.ipJson<{ flags: string[]; mtu: number; address: string }[]>("link show dev calih4a");
  assert.ok(!down!.flags.includes("UP"), "no packet before raise()");
  assert.deepEqual([down!.mtu, down!.address], [1400, "ee:ee:ee:ee:ee:ee"]);
  assert.equal(
    await routes4(pod),
    "default via 169.254.1.1 dev eth0\n169.254.1.1 dev eth0 scope link\n",
  );
  assert.match(await pod.ip("-6 route"), /^default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024/m);
  assert.match(await pod.ip("neigh"), /^169\.254\.1\.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT/m);
  await wiring.raise("calih4a");
  await wiring.raise("calih4a");
  for (const words of ["addr add 192.0.2.1/32 dev lo", "addr add 2001:db8::1/128 dev lo"]) await host.ip(words);
  for (const words of ["route add 10.65.0.2 dev calih4a", "-6 route add fd00:65::2 dev calih4a"]) await host.ip(words);
  for (const to of ["192.0.2.1", "2001:db8::1"]) await pod.runOk("ping", ["-c1", "-W2", to]);
});

Deno.test("switches of both sides are Calico's", async () => {
  await using host = await enterOwnNetns("h4w");
  await using pod = await makeNamespace("h4p");
  await using wiring = new Wiring();
  await pod.runOk("sysctl", ["-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]);
  await wiring.connect(request(pod));
  const read = async (ns: Namespace, path: string) => (await ns.runOk("cat", [`/proc/sys/net/${path}`])).trim();
  const wanted: [Namespace, string, string][] = [
    [host, "ipv4/conf/calih4a/route_localnet", "1"],
    [host, "ipv4/conf/calih4a/proxy_arp", "1"],
    [host, "ipv4/conf/calih4a/forwarding", "1"],
    [host, "ipv4/neigh/calih4a/proxy_delay", "0"],
    [host, "ipv6/conf/calih4a/accept_ra", "0"],
    [host, "ipv6/conf/calih4a/accept_dad", "0"],
    [host, "ipv6/conf/calih4a/proxy_ndp", "1"],
    [host, "ipv6/conf/calih4a/forwarding", "1"],
    [pod, "ipv4/ip_forward", "0"],
    [pod, "ipv6/conf/all/forwarding", "0"],
    [pod, "ipv6/conf/eth0/disable_ipv6", "0"],
    [pod, "ipv6/conf/eth0/accept_dad", "0"],
  ];
  for (const [ns, path, value] of wanted) assert.equal(await read(ns, path), value, path);
});

Deno.test("only the versions that have addresses are set up; forwarding and own routes as asked", async () => {
  await using _host = await enterOwnNetns("h4w");
  await using pod = await makeNamespace("h4p");
  await using wiring = new Wiring();
  const routes = [{ dst: parseCidr("10.0.0.0/8"), mtu: 1300 }, { dst: parseCidr("192.0.2.0/24"), metric: 7 }];
  await wiring.connect(request(pod, { addresses: [v4], routes, ipForwarding: true }));
  assert.equal(
    await routes4(pod),
    "10.0.0.0/8 via 169.254.1.1 dev eth0 mtu 1300\n169.254.1.1 dev eth0 scope link\n" +
      "192.0.2.0/24 via 169.254.1.1 dev eth0 metric 7\n",
  );
  assert.equal((await pod.runOk("cat", ["/proc/sys/net/ipv4/ip_forward"])).trim(), "1");
  assert.ok(!(await pod.ip("-6 route")).includes("default"));
});

Deno.test("inspect() tells what is there and what is not", async () => {
  await using host = await enterOwnNetns("h4w");
  await using pod = await makeNamespace("h4p");
  await using wiring = new Wiring();
  const where = { netns: pod.path, interfaceName: "eth0", hostInterface: "calih4a" };
  assert.deepEqual(await wiring.inspect(where), { netnsExists: true, pod: undefined, host: undefined, paired: false });
  const { mac } = await wiring.connect(request(pod));
  await wiring.raise("calih4a");
  await host.ip("route add 10.65.0.2 dev calih4a");
  const found = await wiring.inspect(where);
  assert.deepEqual([found.paired, found.pod?.mac, found.host?.mac], [true, mac, "ee:ee:ee:ee:ee:ee"]);
  assert.deepEqual([found.pod?.up, found.host?.up, found.pod?.kind], [true, true, "veth"]);
  assert.deepEqual(found.pod?.addresses.map((a) => `${formatIp(a.ip)}/${a.len}`), ["10.65.0.2/32", "fd00:65::2/128"]);
  assert.deepEqual(found.pod?.routes.map((r) => `${formatCidr(r.dst)} ${r.via ? formatIp(r.via) : "-"}`), [
    "0.0.0.0/0 169.254.1.1",
    "169.254.1.1/32 -",
    "::/0 fe80::ecee:eeff:feee:eeee",
  ]);
  assert.deepEqual(found.host?.routes.map((r) => formatCidr(r.dst)), ["10.65.0.2/32"]);
  await pod.ip("addr del 10.65.0.2/32 dev eth0");
  assert.equal((await wiring.inspect(where)).pod?.addresses.length, 1);
  assert.equal((await wiring.inspect({ ...where, netns: "/run/netns/h4-none" })).netnsExists, false);
  await assert.rejects(wiring.inspect({ ...where, netns: host.path }), is("bad-input", /the host's own/));
  await pod.ip("link add other type veth peer name calih4b");
  assert.equal((await wiring.inspect({ ...where, interfaceName: "other" })).paired, false);
});

Deno.test("what cannot be is refused in words, and nothing half-made stays", async () => {
  await using host = await enterOwnNetns("h4w");
  await using pod = await makeNamespace("h4p");
  await using wiring = new Wiring();
  const refused: [Partial<ConnectRequest>, string, RegExp][] = [
    [{ netns: "/run/netns/h4-none" }, "not-found", /^network namespace does not exist \(\/run\/netns\/h4-none\)/],
    [{ netns: host.path }, "bad-input", /^network namespace is the host's own/],
    [{ netns: "/proc/thread-self/ns/net" }, "bad-input", /^network namespace is the host's own/],
    [{ netns: "/etc/passwd" }, "bad-input", /^not a network namespace \(\/etc\/passwd\)/],
    [{ interfaceName: "" }, "bad-input", /cannot be an interface name/],
    [{ interfaceName: "a/b" }, "bad-input", /"a\/b" cannot be an interface name/],
    [{ hostInterface: "cali567890123456" }, "bad-input", /1 to 15 bytes/],
    [{ interfaceName: "lo" }, "exists", /^pod already has an interface lo/],
    [{ hostInterface: "lo" }, "exists", /^host has another interface of this name/],
    [{ mtu: 67 }, "bad-input", /^MTU 67 is not between 1280 and 65535/],
    [{ mac: "01:00:00:00:00:01" }, "bad-input", /cannot be an interface's MAC/],
    [{ mac: "nonsense" }, "bad-input", /"nonsense" cannot be/],
    [{ queues: 1.5 }, "bad-input", /queues/],
    [{ addresses: [v4], routes: [{ dst: parseCidr("::/0") }] }, "bad-input", /route for IPv6/],
    [{ routes: [{ dst: parseCidr("10.0.0.0/8") }, { dst: parseCidr("10.0.0.0/8") }] }, "kernel", /a route of.*EEXIST/],
  ];
  const handles = kernelHandles();
  for (const [parts, code, words] of refused) {
    await assert.rejects(wiring.connect(request(pod, parts)), is(code, words), JSON.stringify(Object.keys(parts)));
    assert.deepEqual([await links(host), await links(pod)], [["lo"], ["lo"]], String(words));
  }
  await assert.rejects(wiring.raise("calih4a"), is("not-found", /host interface does not exist/));
  assert.equal(kernelHandles(), handles, "no file stays open");
});

Deno.test("another pod's host interface is not touched; an older sandbox's of the same pod is replaced", async () => {
  await using host = await enterOwnNetns("h4w");
  await using old = await makeNamespace("h4p");
  await using young = await makeNamespace("h4p");
  await using wiring = new Wiring();
  await wiring.connect(request(old));
  await assert.rejects(
    wiring.connect(request(young)),
    is("exists", /^host interface belongs to another pod \(calih4a\)/),
  );
  assert.deepEqual(await links(old), ["eth0", "lo"]);
  const { mac } = await wiring.connect(request(young, { replaceHostInterface: true }));
  assert.deepEqual([await links(old), await links(young)], [["lo"], ["eth0", "lo"]]);
  assert.equal((await wiring.inspect({ ...request(young) })).pod?.mac, mac);
  // The old sandbox's DEL comes after the new one's ADD: it must not hit the new pair.
  await wiring.disconnect({ netns: old.path, interfaceName: "eth0" });
  assert.deepEqual(await links(host), ["calih4a", "lo"]);
});

Deno.test("undo() and disconnect() leave nothing, and may be repeated", async () => {
  await using host = await enterOwnNetns("h4w");
  await using pod = await makeNamespace("h4p");
  await using wiring = new Wiring();
  const { undo } = await wiring.connect(request(pod));
  await undo();
  await undo();
  assert.deepEqual([await links(host), await links(pod)], [["lo"], ["lo"]]);
  await wiring.connect(request(pod));
  const gone = { netns: pod.path, interfaceName: "eth0" };
  await wiring.disconnect(gone);
  await wiring.disconnect(gone);
  assert.deepEqual([await links(host), await links(pod)], [["lo"], ["lo"]]);
});

Deno.test("disconnect() without a namespace goes by the host's name, and spares what is no veth", async () => {
  await using host = await enterOwnNetns("h4w");
  await using pod = await makeNamespace("h4p");
  await using wiring = new Wiring();
  await wiring.connect(request(pod));
  for (const netns of [undefined, "", "/run/netns/h4-none"]) {
    await wiring.disconnect({ netns, interfaceName: "eth0" });
    assert.deepEqual(await links(host), ["calih4a", "lo"], "nobody said that the host side is ours");
  }
  await wiring.disconnect({ netns: "/run/netns/h4-none", interfaceName: "eth0", hostInterface: "calih4a" });
  assert.deepEqual([await links(host), await links(pod)], [["lo"], ["lo"]]);
  await host.ip("link add calih4b type bridge");
  await wiring.disconnect({ interfaceName: "eth0", hostInterface: "calih4b" });
  assert.deepEqual(await links(host), ["calih4b", "lo"]);
});

Deno.test("disconnect() removes an interface of the pod that has no end on this host", async () => {
  await using _host = await enterOwnNetns("h4w");
  await using pod = await makeNamespace("h4p");
  await using wiring = new Wiring();
  await pod.ip("link add eth0 type veth peer name eth1");
  await wiring.disconnect({ netns: pod.path, interfaceName: "eth0" });
  assert.deepEqual(await links(pod), ["lo"]);
});

Deno.test("disconnect() refuses the host's own namespace and leaves its interfaces", async () => {
  await using host = await enterOwnNetns("h4w");
  await using wiring = new Wiring();
  await host.ip("link add eth0 type bridge");
  const own = { netns: host.path, interfaceName: "eth0" };
  await assert.rejects(wiring.disconnect(own), is("bad-input", /the host's own/));
  assert.deepEqual(await links(host), ["eth0", "lo"]);
});

Deno.test("thirty pods are wired and removed at once, removals together", async () => {
  await using host = await enterOwnNetns("h4w");
  await using wiring = new Wiring();
  await using pods = new AsyncDisposableStack();
  const spaces: Namespace[] = [];
  for (let i = 0; i < 30; i++) spaces.push(pods.use(await makeNamespace("h4p")));
  const addresses = (i: number) => [{ v: 4 as const, n: v4.n + BigInt(i) }];
  await Promise.all(
    spaces.map((pod, i) => wiring.connect(request(pod, { hostInterface: `calih4${i}`, addresses: addresses(i) }))),
  );
  await Promise.all(spaces.map((_, i) => wiring.raise(`calih4${i}`)));
  assert.equal((await links(host)).length, 31);
  await Promise.all(spaces.map((pod) => wiring.disconnect({ netns: pod.path, interfaceName: "eth0" })));
  assert.deepEqual(await links(host), ["lo"]);
  for (const pod of spaces) assert.deepEqual(await links(pod), ["lo"]);
});
