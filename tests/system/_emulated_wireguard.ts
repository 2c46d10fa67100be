/** Runs inside the emulated machine, whose kernel has WireGuard: two hosts, a pod each, and what is on the wire between them. */
import assert from "node:assert/strict";
import { privateKeyOf, publicKeyOf } from "../../lib/wireguard_key.ts";
import { Capture, type Captured } from "../lab/capture.ts";
import { makeNamespace } from "../lab/namespaces.ts";
import { hostValues, makeEmulatedHost, stored } from "../lab/qemu/network.ts";
import { wait } from "../lab/wait.ts";

const begin = performance.now();
const tell = (what: string) => console.log(`ok ${what} (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
const [agent] = Deno.args as [string];

await using wire = await makeNamespace("em-w");
await wire.ip("link add wire0 type bridge");
await wire.ip("link set wire0 up");
const made = await Promise.all([1, 2].map((n) => makeEmulatedHost(wire, n, agent)));
await using one = made[0]!;
await using two = made[1]!;
const both = async (set: [string, unknown][]) => (await Promise.all([one, two].map((h) => h.tell(set)))).flat();
const felix = (more: Record<string, unknown> = {}) =>
  stored("FelixConfiguration", "felixconfigurations", "default", {
    ...{ wireguardEnabled: true, interfaceRefreshInterval: "1s", ...more },
  });
/** Key 3 is the one that host 2 changes to. */
const secret = (n: number) => privateKeyOf(new Uint8Array(32).fill(n));
const key = (n: number) => publicKeyOf(secret(n));
const values = (n: number, publicKey = key(n)) =>
  hostValues(n, {
    bgp: { ipv4Address: `172.30.0.${n}/24` },
    wireguard: { interfaceIPv4Address: `10.65.${n}.1` },
  }, { wireguardPublicKey: publicKey });

assert.deepEqual(await one.tell([], { keys: { 4: secret(1) } }), []);
assert.deepEqual(await two.tell([], { keys: { 4: secret(2) } }), []);
const pool = stored("IPPool", "ippools", "p", { cidr: "10.65.0.0/16", vxlanMode: "CrossSubnet" });
assert.deepEqual(await both([pool, felix(), ...values(1), ...values(2)]), []);
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
async function carriedBy(isExpected: (p: Captured) => boolean): Promise<void> {
  using seen = new Capture(wire.path, "h1");
  assert.equal(await one.ping(two.podAddress), 3);
  const packets = seen.take().filter((p) => p.from.startsWith("10.65.") || p.from.startsWith("172.30."));
  assert.ok(packets.length >= 6 && packets.every(isExpected), JSON.stringify(packets));
}
