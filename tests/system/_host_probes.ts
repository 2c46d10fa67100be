import { type Ip, parseIp } from "../../lib/ip.ts";
import { type Answer, partiesOf, type Party, pathOf } from "../../agent/why/path.ts";
import { World } from "../../agent/why/world.ts";
import { resourcePrefix } from "../../datastore/kind.ts";
import type { KeyValue } from "../../datastore/store.ts";
import type { HostNetwork } from "../packets/host_network.ts";
import type { Frame } from "../packets/packet.ts";
import type { End, Probe } from "../packets/prober.ts";

/** `left > host tcp 80`: from, to, protocol, port or ICMP type; in both families unless it says which. */
export function probes(net: HostNetwork, words: string): Probe[] {
  const parts = words.split(" "), only = parts.find((p) => /^v[46]$/.test(p));
  const [a, , b, what, number] = parts;
  return ([4, 6] as const).filter((v) => !only || only === `v${v}`).map((v) => {
    const from = net.ends.get(a!)!, to = net.ends.get(b!)!;
    const protocol = { tcp: 6, udp: 17, icmp: v === 4 ? 1 : 58 }[what!]!;
    const echo = v === 4 ? 8 : 128, named = /^\d/.test(number ?? "");
    const icmp = what === "icmp" ? { type: named ? Number(number) : echo, code: 0 } : undefined;
    // What the host sends leaves with the address that its side has there.
    const src = a === "host" && b === "right" ? parseIp(v === 4 ? "10.99.2.1" : "fd99:2::1") : from.home[v]!;
    const frame: Frame = {
      src,
      dst: to.home[v]!,
      protocol,
      srcPort: nextPort(),
      dstPort: icmp ? 0 : Number(number),
      icmp,
    };
    return { from, to, frame };
  });
}
let port = 20000;
const nextPort = () => (port = port >= 60000 ? 20001 : port + 1);

/** What is stored now, for questions about packets. */
export async function worldOf(net: HostNetwork): Promise<World> {
  const stored = [...await net.world.etcd.dump(resourcePrefix)].map(([key, value]) => ({ key, value, revision: 1n }));
  return new World(stored as KeyValue[]);
}

/** What `ctl why` says of a probe; undefined for what is only forwarded from place to place: that is no node's. */
export function answerOf(known: World, { from, to, frame }: Probe): Answer | undefined {
  const party = (end: End, address: Ip): Party =>
    end.name === "host" ? { is: "host", node: "alder", address } : partiesOf(known, "", address)[0]!;
  const lan = (end: End) => ({ left: "lan0", right: "lan1" })[end.name];
  if (lan(from) && lan(to)) return undefined;
  const ends = { from: party(from, frame.src), to: party(to, frame.dst) };
  return pathOf(known, { ...frame, ...ends, family: frame.src.v, enters: lan(from), leaves: lan(to) });
}
