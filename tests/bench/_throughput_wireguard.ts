/** Runs inside the emulated machine: iperf3 between pods through the agent's WireGuard, and through one made with `ip` and `wg`. */
import { privateKeyOf, publicKeyOf } from "../../lib/wireguard_key.ts";
import { makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { type EmulatedHost, hostValues, makeEmulatedHost, stored } from "../lab/qemu/network.ts";
import { table } from "./table.ts";
import { compared, head, type PodPair } from "./throughput.ts";

const secret = (n: number) => privateKeyOf(new Uint8Array(32).fill(n));
const key = (n: number) => publicKeyOf(secret(n));
const [agent] = Deno.args as [string];

const pairs: PodPair[] = [];
for (const made of ["agent", "hand"]) {
  const wire = await makeNamespace("em-w");
  await wire.ip("link add wire0 type bridge");
  await wire.ip("link set wire0 up");
  const hosts = [await makeEmulatedHost(wire, 1, agent), await makeEmulatedHost(wire, 2, agent)];
  for (const [i, host] of hosts.entries()) await (made === "agent" ? byAgent(host, i + 1) : byHand(host, i + 1));
  const [one, two] = hosts as [EmulatedHost, EmulatedHost];
  const run = (space: Namespace) => (program: string, args: string[]) =>
    space.run(program, args, { timeoutMs: 120_000 });
  if (await one.ping(two.podAddress) === 0) throw new Error(`${made}: the pods do not reach each other`);
  pairs.push({
    address: two.podAddress,
    first: run(one.pod),
    second: run(two.pod),
    [Symbol.asyncDispose]: async () => {},
  });
}
console.log(`${table([head, await compared("WireGuard, emulated", pairs[0]!, pairs[1]!, 3)])}\n`);
Deno.exit(0); // the machine ends, and all that is in it

async function byAgent({ tell }: EmulatedHost, n: number): Promise<void> {
  const values = (m: number) =>
    hostValues(m, {
      bgp: { ipv4Address: `172.30.0.${m}/24` },
      wireguard: { interfaceIPv4Address: `10.65.${m}.1` },
    }, { wireguardPublicKey: key(m) });
  const pool = stored("IPPool", "ippools", "p", { cidr: "10.65.0.0/16" });
  const felix = stored("FelixConfiguration", "felixconfigurations", "default", { wireguardEnabled: true });
  const missing = await tell([pool, felix, ...values(1), ...values(2)], { keys: { 4: secret(n) } });
  if (missing.length > 0) throw new Error(missing.join("; "));
}

async function byHand({ space, pod }: EmulatedHost, n: number): Promise<void> {
  const other = 3 - n;
  // As the agent does: what does not fit into the tunnel must not be sent.
  await space.ip(`link set cali${n} mtu 1440`);
  await pod.ip("link set eth0 mtu 1440");
  await space.runOk("sysctl", ["-qw", "net.ipv4.ip_forward=1", `net.ipv4.conf.cali${n}.proxy_arp=1`]);
  await space.ip(`link set cali${n} up`);
  await space.ip(`route add 10.65.${n}.2 dev cali${n}`);
  await space.ip("link add wg0 mtu 1440 type wireguard");
  await Deno.writeTextFile(`/tmp/key${n}`, secret(n));
  const peer = ["peer", key(other), "endpoint", `172.30.0.${other}:51820`, "allowed-ips", `10.65.${other}.0/24`];
  await space.runOk("wg", ["set", "wg0", "listen-port", "51820", "private-key", `/tmp/key${n}`, ...peer]);
  await space.ip("link set wg0 up");
  await space.ip(`route add 10.65.${other}.0/24 dev wg0`);
}
