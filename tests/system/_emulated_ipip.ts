/** Runs inside the emulated machine, whose kernel has IPIP: two hosts, a pod each, and what is on the wire between them. */
import assert from "node:assert/strict";
import { Capture, type Captured } from "../lab/capture.ts";
import { hostValues, makeEmulatedPair, stored } from "../lab/qemu/network.ts";

await using pair = await makeEmulatedPair(Deno.args[0]!);
const { wire, one, two, both, tell } = pair;
const pool = (modes: Record<string, string>) => stored("IPPool", "ippools", "p", { cidr: "10.65.0.0/16", ...modes });
const node = (n: number) => ({
  bgp: { ipv4Address: `172.30.0.${n}/24`, ipv4IPIPTunnelAddr: `10.65.${n}.0` },
  ipv4VXLANTunnelAddr: `10.65.${n}.1`,
});

assert.deepEqual(await both([pool({ ipipMode: "Always" }), ...hostValues(1, node(1)), ...hostValues(2, node(2))]), []);
tell("all that is asked for is in the kernel");

await carriedBy("IPIP", (p) => p.protocol === 4 && p.from.startsWith("172.30.0.") && p.inner !== undefined);
assert.match(await one.space.ip("-d addr show dev tunl0"), /mtu 1480[\s\S]*inet 10\.65\.1\.0\/32 scope global tunl0/);
assert.match(await one.space.ip("-N route"), /10\.65\.2\.0\/26 via 172\.30\.0\.2 dev tunl0 proto 80 onlink mtu 1480/);
tell("Always: pods talk through tunl0");

await one.space.ip("route flush dev tunl0");
await one.space.ip("addr flush dev tunl0");
await one.space.ip("link set tunl0 down");
assert.deepEqual(await one.tell([]), []);
await carriedBy("IPIP", (p) => p.protocol === 4);
tell("what others take away comes back");

assert.deepEqual(await both([pool({ ipipMode: "CrossSubnet" })]), []);
await carriedBy("nothing", (p) => p.protocol === 1);
assert.match(await one.space.ip("-N route"), /10\.65\.2\.0\/26 via 172\.30\.0\.2 dev eth0 proto 80 onlink/);
tell("CrossSubnet: a neighbour is reached without the tunnel");

assert.deepEqual(await both([pool({ vxlanMode: "Always" })]), []);
await carriedBy("VXLAN", (p) => p.vxlan !== undefined);
assert.equal(await one.space.ip("route show dev tunl0"), "");
assert.doesNotMatch(await one.space.ip("addr show dev tunl0"), /inet /);
tell("the pool turned into VXLAN: nothing is left on tunl0");

/** Pings between the pods; all that carries them must be as expected. */
async function carriedBy(what: string, isExpected: (p: Captured) => boolean): Promise<void> {
  using seen = new Capture(wire.path, "h1");
  assert.equal(await one.ping(two.podAddress), 3, `pings in ${what}`);
  const isPods = (p: Captured) => [p.from, p.to].every((a) => a === one.podAddress || a === two.podAddress);
  const pings = seen.take().filter((p) => isPods(p) || (p.inner && isPods(p.inner)));
  assert.ok(pings.length >= 6 && pings.every(isExpected), JSON.stringify(pings));
}
