/** Runs inside the emulated machine, whose kernel has WireGuard: two hosts, a pod each, and what is on the wire between them. */
import assert from "node:assert/strict";
import { privateKeyOf, publicKeyOf } from "../../lib/wireguard_key.ts";
import { Capture, type Captured } from "../lab/capture.ts";
import { hostValues, makeEmulatedPair, stored } from "../lab/qemu/network.ts";
import { wait } from "../lab/wait.ts";

await using pair = await makeEmulatedPair(Deno.args[0]!);
const { wire, one, two, both, tell } = pair;
const felix = (more: Record<string, unknown> = {}, annotations?: Record<string, string>) =>
  stored(
    "FelixConfiguration",
    "felixconfigurations",
    "default",
    {
      ...{ wireguardEnabled: true, interfaceRefreshInterval: "1s", ...more },
    },
    undefined,
    annotations,
  );
const mandatory = { "config.projectcalico.org/TortieWireguardMandatory": "true" };
/** Key 3 is the one that host 2 changes to. */
const secret = (n: number) => privateKeyOf(new Uint8Array(32).fill(n));
const key = (n: number) => publicKeyOf(secret(n));
const values = (n: number, publicKey = key(n), publicKeyV6?: string) =>
  hostValues(n, {
    bgp: { ipv4Address: `172.30.0.${n}/24`, ipv6Address: `fd00:30::${n}/64` },
    wireguard: { interfaceIPv4Address: `10.65.${n}.1`, interfaceIPv6Address: `fd00:65::${n}:1` },
  }, { wireguardPublicKey: publicKey, wireguardPublicKeyV6: publicKeyV6 });

assert.deepEqual(await one.tell([], { keys: { 4: secret(1) } }), []);
assert.deepEqual(await two.tell([], { keys: { 4: secret(2) } }), []);
const pools = [["p", "10.65.0.0/16"], ["p6", "fd00:65::/48"]].map(([name, cidr]) =>
  stored("IPPool", "ippools", name!, { cidr })
);
assert.deepEqual(await both([...pools, felix(), ...values(1), ...values(2)]), []);
tell("all that is asked for is in the kernel");

const isEncrypted = (p: Captured) => p.protocol === 17 && p.port === 51820 && p.from.startsWith("172.30.0.");
await carriedBy(isEncrypted);
assert.match(
  await one.space.ip("-d addr show dev wireguard.cali"),
  /mtu 1440[\s\S]*inet 10\.65\.1\.1\/32 scope global/,
);
assert.match(await one.space.ip("rule"), /99:\s+not from all fwmark 0x200000\/0x200000 lookup 1/);
const table = await one.space.ip("-N route show table 1");
assert.match(table, /^10\.65\.2\.0\/26 dev wireguard\.cali proto 80 scope 253/m);
assert.match(table, /^9 10\.65\.1\.0\/26 proto 80/m, "what is here is thrown back to the main table");
const shown = await wg("show", "wireguard.cali", "dump");
assert.match(shown, /^\S+\t\S+\t51820\t0x200000\n/);
assert.match(shown, /\t172\.30\.0\.2:51820\t10\.65\.2\.\S+,10\.65\.2\.\S+\t[1-9]\d*\t/, "a handshake took place");
tell("pods talk encrypted, and nothing is in clear");

await one.space.ip("rule del priority 99");
await one.space.ip("route flush table 1");
assert.deepEqual(await one.tell([]), []);
await one.space.ip("link del wireguard.cali");
await wait("the device", async () => /wireguard\.cali/.test(await one.space.ip("link")));
assert.deepEqual(await one.tell([]), []);
await carriedBy(isEncrypted);
await wg("set", "wireguard.cali", "peer", key(2), "remove");
await wg("set", "wireguard.cali", "fwmark", "0", "listen-port", "7777", "peer", key(9));
await wait("what others set is set back", async () => {
  const now = await wg("show", "wireguard.cali", "dump");
  return now.includes(key(2)) && !now.includes(key(9)) && now.includes("\t51820\t0x200000\n");
});
await carriedBy(isEncrypted);
tell("what others take away comes back");

const flood = one.pod.run("ping", ["-n", "-q", "-c", "100", "-i", "0.05", "-W", "8", two.podAddress]);
assert.deepEqual(await two.tell([], { keys: { 4: secret(3) } }), []);
assert.deepEqual(await both(values(2, key(3))), []);
assert.match((await flood).stdout, /100 received, 0% packet loss/);
assert.ok((await wg("show", "wireguard.cali", "peers")).trim() === key(3));
await carriedBy(isEncrypted);
tell("a host changes its key and no packet is lost");

assert.deepEqual(await both(values(2, "")), []);
assert.deepEqual(await two.tell([], { keys: {} }), []);
assert.equal(await wg("show", "wireguard.cali", "peers"), "");
assert.match(await one.space.ip("-N route show table 1"), /^9 10\.65\.2\.0\/26/m);
await carriedBy((p) => p.protocol === 1);
assert.deepEqual(await two.tell([], { keys: { 4: secret(3) } }), []);
assert.deepEqual(await both(values(2, key(3))), []);
await carriedBy(isEncrypted);
tell("a node without a key is reached in clear, and encrypted again when it has one");

{
  const told = await one.metrics(),
    [received, sent] = (await wg("show", "wireguard.cali", "transfer")).trim().split("\t").slice(1);
  assert.ok(Number(received) > 0 && Number(sent) > 0);
  assert.deepEqual(told.filter((l) => l.startsWith("wireguard_bytes")), [
    `wireguard_bytes_rcvd ${key(3)} ${received}`,
    `wireguard_bytes_sent ${key(3)} ${sent}`,
  ]);
  assert.ok(told.includes("wireguard_meta wireguard.cali 1"));
  assert.match(told.join("\n"), new RegExp(`handshake_seconds ${key(3).replaceAll("+", "\\+")} [1-9]\\d{9}$`, "m"));
}
tell("the metrics of the peer say what the kernel counted");

assert.deepEqual(await both([felix({}, mandatory)]), []);
await carriedBy(isEncrypted);
await nothingLeaves("the device is taken away under a flood", async () => {
  const flood = one.pod.run("ping", ["-n", "-q", "-c", "60", "-i", "0.02", "-W", "4", two.podAddress]);
  for (let i = 0; i < 3; i++) {
    await one.space.ip("link del wireguard.cali");
    await wait("the device", async () => /wireguard\.cali/.test(await one.space.ip("link")));
  }
  const [, received] = /, (\d+) received/.exec((await flood).stdout)!;
  assert.ok(Number(received) > 0, "some passed, encrypted");
});
assert.deepEqual(await both(values(2, "")), []);
assert.deepEqual(await one.tell([], { keys: {} }), []);
await nothingLeaves("the peer, and then we too, have no key", async () => {
  assert.equal(await one.ping(two.podAddress), 0);
  assert.equal(await one.ping("10.65.9.9"), 0, "nobody's address of the pool");
  assert.equal((await one.space.run("ping", ["-n", "-c", "1", "-W", "2", one.podAddress])).code, 0, "own pods");
  assert.equal((await one.space.run("ping", ["-n", "-c", "1", "-W", "2", "172.30.0.2"])).code, 0, "hosts");
});
assert.match((await one.pod.run("ping", ["-n", "-c", "1", "-W", "2", two.podAddress])).stdout, /Packet filtered/);
assert.deepEqual(await one.tell([], { keys: { 4: secret(1) } }), []);
assert.deepEqual(await both([...values(2, key(3)), felix()]), []);
await carriedBy(isEncrypted);
tell("mandatory: what would leave in clear does not leave, with or without device and keys");

assert.deepEqual(await one.tell([], { keys: { 4: secret(1), 6: secret(4) } }), []);
assert.deepEqual(await two.tell([], { keys: { 4: secret(3), 6: secret(5) } }), []);
await carriedBy((p) => p.protocol === 58, one.podAddress6, two.podAddress6);
const dual = [
  felix({ wireguardEnabledV6: true }, mandatory),
  ...values(1, key(1), key(4)),
  ...values(2, key(3), key(5)),
];
assert.deepEqual(await both(dual), []);
await carriedBy(
  (p) => p.protocol === 17 && p.port === 51821 && p.from.startsWith("fd00:30::"),
  one.podAddress6,
  two.podAddress6,
);
await carriedBy(isEncrypted);
assert.match(await one.space.ip("-6 rule"), /99:\s+not from all fwmark 0x200000\/0x200000 lookup 2/);
assert.match(await one.space.ip("-d addr show dev wg-v6.cali"), /mtu 1420[\s\S]*inet6 fd00:65::1:1\/128 scope global/);
assert.deepEqual(await both(values(2, key(3))), []);
await nothingLeaves("the peer has no key for IPv6", async () => assert.equal(await one.ping(two.podAddress6), 0));
await carriedBy(isEncrypted);
assert.deepEqual(await both([felix(), ...values(2, key(3))]), []);
tell("IPv6 has a device of its own, and is closed by itself");

assert.deepEqual(await both([felix({ wireguardHostEncryptionEnabled: true })]), []);
{
  using seen = new Capture(wire.path, "h1");
  assert.match((await one.space.run("ping", ["-n", "-q", "-c", "3", "-i", "0.2", "172.30.0.2"])).stdout, /3 received/);
  const packets = seen.take().filter((p) => p.from.startsWith("172."));
  assert.ok(packets.length >= 6 && packets.every(isEncrypted), JSON.stringify(packets));
}
tell("with host encryption the hosts' own packets are encrypted too");

assert.deepEqual(await both([felix({ wireguardEnabled: false })]), []);
assert.doesNotMatch(await one.space.ip("link"), /wireguard/);
assert.doesNotMatch(await one.space.ip("rule"), /0x200000/);
assert.equal(await one.space.ip("route show table 1").catch(() => ""), "");
await carriedBy((p) => p.protocol === 1);
tell("switched off, nothing of it is left");

async function wg(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await one.space.run("wg", words);
  assert.equal(code, 0, stderr);
  return stdout;
}

/** Pings between the pods; all that passes between the hosts must be as expected. */
async function carriedBy(
  isExpected: (p: Captured) => boolean,
  from = one.podAddress,
  to = two.podAddress,
): Promise<void> {
  using seen = new Capture(wire.path, "h1");
  assert.equal(await one.ping(to), 3);
  const v6 = from.includes(":");
  const packets = seen.take().filter((p) => p.from.includes(":") === v6 && !isNeighbourTalk(p));
  assert.ok(packets.length >= 6 && packets.every(isExpected), JSON.stringify(packets));
}

/** Hosts looking for each other, and talking to all routers: ICMPv6 that is no pod's. */
function isNeighbourTalk({ protocol, from }: Captured): boolean {
  return protocol === 58 && !from.startsWith("fd00:65:");
}

/** While `work` goes on, no packet of a pod is on the wire in clear. */
async function nothingLeaves(when: string, work: () => Promise<unknown>): Promise<void> {
  using seen = new Capture(wire.path, "h1");
  await work();
  const isPods = (a: string) => a.startsWith("10.65.") || a.startsWith("fd00:65:");
  const clear = seen.take().filter((p) => isPods(p.from) || isPods(p.to));
  assert.deepEqual(clear, [], `in clear while ${when}`);
}
