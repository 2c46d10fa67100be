import { run } from "../../../lib/process.ts";
import { decodeTunnelDevice, type TunnelDevice } from "../../../kernel/rtnetlink/tunnel_device.ts";
import { listAddresses } from "../../../kernel/rtnetlink/address.ts";
import { decodeLink, ifinfo, type Link, linkType } from "../../../kernel/rtnetlink/link.ts";
import { genericProtocol } from "../../../kernel/rtnetlink/generic.ts";
import { listRoutes, type Route, table } from "../../../kernel/rtnetlink/route.ts";
import { RtSocket } from "../../../kernel/rtnetlink/socket.ts";
import { readWireguard, type WireguardState } from "../../../kernel/rtnetlink/wireguard.ts";
import { readSysctl } from "../../../kernel/sysctl.ts";
import { findProgram } from "../../../kernel/netfilter/variant.ts";
import { isTunnelName } from "../../../agent/network/ownership.ts";
import type { NetworkSettings } from "../../../agent/desired.ts";
import type { DiskFact, Facts, InterfaceFacts } from "../facts.ts";

/** Interfaces and their addresses. @param settings tell the names of tunnels. */
export function lookAtInterfaces(settings: Pick<NetworkSettings, "wireguard">): InterfaceFacts {
  using socket = RtSocket.open();
  const links = new Map<number, Link>(), tunnels = new Map<string, TunnelDevice>();
  for (const message of socket.dump({ type: linkType.get, flags: 0, body: ifinfo() })) {
    const link = decodeLink(message);
    if (link) links.set(link.index, link);
    if (link && isTunnelName(link.name, settings)) tunnels.set(link.name, decodeTunnelDevice(message)!.device);
  }
  return { links, tunnels, addresses: listAddresses(socket) };
}

/** The main table, both families. */
export function lookAtRoutes(): Route[] {
  using socket = RtSocket.open();
  return ([4, 6] as const).flatMap((family) => listRoutes(socket, { family, table: table.main }));
}

/** WireGuard's devices; none in a kernel without it. */
export function lookAtWireguard({ wireguard }: Pick<NetworkSettings, "wireguard">): WireguardState[] {
  using socket = RtSocket.open(undefined, genericProtocol);
  return readWireguard(socket, Object.values(wireguard.deviceName));
}

/** Switches that checks look at. One that this kernel does not have is left out. */
export function lookAtSwitches(devices: Iterable<string>): Map<string, string> {
  const paths = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    ...["all", ...devices].map((name) => `net/ipv4/conf/${name}/rp_filter`),
  ];
  return new Map(paths.flatMap((path): [string, string][] => {
    const value = readSysctl(path);
    return value === undefined ? [] : [[path, value.trim()]];
  }));
}

/** Tracked flows; `max` 0 = the kernel tracks none. */
export function lookAtFlows(): Facts["flows"] {
  const number = (name: string) => Number(readSysctl(`net/netfilter/nf_conntrack_${name}`) ?? 0);
  return { count: number("count"), max: number("max") };
}

/** File systems of folders; those that do not exist are left out. */
export async function lookAtDisks(folders: readonly string[]): Promise<DiskFact[]> {
  const { stdout } = await run("df", ["-Pk", ...folders]);
  return stdout.trim().split("\n").slice(1).map((line, i) => {
    const [, , , free, percent] = line.trim().split(/\s+/);
    return { path: folders[i]!, usedPercent: parseInt(percent!), freeBytes: Number(free) * 1024 };
  });
}

/** Which programs are installed. */
export const lookAtPrograms = (names: readonly string[]): Map<string, boolean> =>
  new Map(names.map((name) => [name, findProgram(name) !== undefined]));
