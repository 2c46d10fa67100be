import { hostMac } from "../../agent/network/sysctls.ts";
import { Wiring } from "../../agent/endpoints/wiring.ts";
import { type Family, parseIp } from "../../lib/ip.ts";
import { connect, makeNamespace, type Namespace } from "../lab/namespaces.ts";
import { type End } from "./prober.ts";
import { HostWire, InterfaceWire } from "./sockets.ts";

/** Router, pods and what lies outside. */
export interface PodNetwork extends AsyncDisposable {
  router: Namespace;
  /** Pods as the agent wires them, `pod0` with 10.65.0.10 and fd00:65::10, and so on; host side `cali0`, … */
  pods: End[];
  /** One place that answers to every address that is not a pod's. */
  outside: End;
  /** The router's own stack: 192.0.2.1, 2001:db8::1. */
  host: End;
}

/** Addresses of pod number `i`. */
export const podAddresses = (i: number): [string, string] => [`10.65.0.${10 + i}`, `fd00:65::${10 + i}`];

/**
 * Builds a host with pods in `router`, the calling thread's own namespace. No limits on ICMP errors: each refused packet
 * is to be told.
 */
export async function makePodNetwork(router: Namespace, count: number): Promise<PodNetwork> {
  await using made = new AsyncDisposableStack();
  const wiring = made.use(new Wiring());
  await router.runOk("sysctl", ["-qw", ...forwards, ...talkative]);
  const pods: End[] = [];
  for (let i = 0; i < count; i++) {
    const pod = made.use(await makeNamespace("h10-pod"));
    const addresses = podAddresses(i).map((text) => parseIp(text));
    const hostInterface = `cali${i}`;
    await wiring.connect({ netns: pod.path, interfaceName: "eth0", hostInterface, addresses });
    await wiring.raise(hostInterface);
    await pod.runOk("sysctl", ["-qw", ...talkative]);
    const mac = (await linkOf(pod, "eth0")).mac;
    for (const address of podAddresses(i)) {
      const family = address.includes(":") ? "-6 " : "";
      await router.ip(`${family}route add ${address} dev ${hostInterface}`);
      await router.ip(`neigh replace ${address} lladdr ${mac} dev ${hostInterface} nud permanent`);
    }
    const wire = made.use(new InterfaceWire(pod.path, await linkOf(pod, "eth0"), hostMac));
    pods.push({ name: `pod${i}`, wire, home: { 4: addresses[0]!, 6: addresses[1]! } });
  }
  const outside = await addOutside(router, made);
  const host: End = {
    name: "host",
    wire: made.use(new HostWire(router.path)),
    home: { 4: parseIp("192.0.2.1"), 6: parseIp("2001:db8::1") },
  };
  const all = made.move();
  return { router, pods, outside, host, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

/**
 * Switches of a router. Connection tracking checks UDPLite with UDP's number in the pseudo header, and takes every such
 * packet for broken whose checksum was not left to the hardware; so it does not look at checksums.
 */
export const forwards = [
  "net.ipv4.ip_forward=1",
  "net.ipv6.conf.all.forwarding=1",
  "net.netfilter.nf_conntrack_checksum=0",
];

/** Answers are not rationed. */
export const talkative = [
  "net.ipv4.icmp_ratelimit=0",
  "net.ipv4.icmp_msgs_per_sec=1000000",
  "net.ipv4.icmp_msgs_burst=10000",
  "net.ipv6.icmp.ratelimit=0",
];

/** Index and MAC of an interface. */
export async function linkOf(ns: Namespace, name: string): Promise<{ index: number; mac: string }> {
  const [link] = await ns.ipJson<{ ifindex: number; address: string }[]>(`link show dev ${name}`);
  return { index: link!.ifindex, mac: link!.address };
}

async function addOutside(router: Namespace, made: AsyncDisposableStack): Promise<End> {
  const space = made.use(await makeNamespace("h10-out"));
  await connect(
    { in: router, name: "eth0", addresses: ["192.0.2.1/24", "2001:db8::1/64"] },
    { in: space, name: "eth0", addresses: ["192.0.2.2/24", "2001:db8::2/64"] },
  );
  const [inner, outer] = [await linkOf(router, "eth0"), await linkOf(space, "eth0")];
  await answerForAll(space, inner.mac, { 4: "192.0.2.1", 6: "2001:db8::1" });
  for (const [family, via] of [[4, "192.0.2.2"], [6, "2001:db8::2"]] as const) {
    await router.ip(`neigh replace ${via} lladdr ${outer.mac} dev eth0 nud permanent`);
    await router.ip(`${family === 6 ? "-6 " : ""}route add default via ${via} dev eth0`);
  }
  const wire = made.use(new InterfaceWire(space.path, outer, inner.mac));
  return { name: "outside", wire, home: { 4: parseIp("192.0.2.2"), 6: parseIp("2001:db8::2") } };
}

/**
 * Makes a namespace with an `eth0` take every packet for its own, and answer by way of a gateway. All addresses are in its
 * local table, as the kernel answers only from such; that table is asked for what comes in, and no longer before the others.
 */
export async function answerForAll(space: Namespace, gatewayMac: string, via: Record<Family, string>): Promise<void> {
  const off = ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"];
  await space.runOk("sysctl", ["-qw", ...off, ...talkative]);
  for (const family of [4, 6] as const) {
    const v = family === 6 ? "-6 " : "";
    await space.ip(`neigh replace ${via[family]} lladdr ${gatewayMac} dev eth0 nud permanent`);
    await space.ip(`${v}route replace default via ${via[family]} dev eth0`);
    await space.ip(`${v}route add local default dev lo table local`);
    await space.ip(`${v}rule add pref 1 iif eth0 lookup local`);
    await space.ip(`${v}rule add pref 2 lookup main`);
    await space.ip(`${v}rule del pref 0`);
  }
}
