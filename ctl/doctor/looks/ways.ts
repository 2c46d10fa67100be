import { contains, formatIp, type Ip, tryParseIp } from "../../../lib/ip.ts";
import { isProblem, Problem } from "../../../lib/problem.ts";
import { run } from "../../../lib/process.ts";
import type { Node } from "../../../datastore/kinds/node.ts";
import { findProgram } from "../../../kernel/netfilter/variant.ts";
import { kind, type Route } from "../../../kernel/rtnetlink/route.ts";
import { addressesOf } from "../checks/nodes.ts";
import type { InterfaceFacts, WayFact } from "../facts.ts";

/** Most other nodes that are tried; in a large cluster the first by name stand for all. */
const maxNodes = 16;
/** IP and ICMP headers, in bytes. */
const headers = { 4: 28, 6: 48 };
const smallBytes = 100;

/**
 * Tries the way to other nodes, to their own addresses and to those within tunnels, all at once.
 * @throws Problem "unsupported" without a program to try it with.
 */
export async function lookAtWays(
  nodes: readonly Node[],
  ownName: string,
  routes: readonly Route[],
  interfaces: InterfaceFacts,
): Promise<WayFact[]> {
  if (!findProgram("ping")) {
    throw new Problem({ code: "unsupported", what: "ping is not installed", todo: "Install iputils-ping" });
  }
  const others = nodes.filter(({ metadata }) => metadata.name !== ownName).slice(0, maxNodes);
  const tries = others.flatMap((node) => waysTo(node, routes, interfaces));
  return await Promise.all(tries.map(async ({ ip, ...way }) => {
    const [small, large] = await Promise.all([ping(ip, smallBytes), ping(ip, way.mtuBytes)]);
    return { ...way, small, large };
  }));
}

type Try = Omit<WayFact, "small" | "large"> & { ip: Ip };

function waysTo(node: Node, routes: readonly Route[], interfaces: InterfaceFacts): Try[] {
  const way = (ip: Ip | undefined, is: WayFact["is"]): Try[] => {
    const link = ip && outOf(ip, routes, interfaces);
    if (!link || interfaces.tunnels.has(link.device) !== (is === "tunnel")) return [];
    return [{ node: node.metadata.name, address: formatIp(ip), ip, is, ...link }];
  };
  const tunnel = node.spec.ipv4VXLANTunnelAddr || node.spec.bgp?.ipv4IPIPTunnelAddr;
  return [...way(addressesOf(node)[0], "host"), ...way(tunnel ? tryParseIp(tunnel) : undefined, "tunnel")];
}

/** The device by which packets to `ip` leave, and how large they may be; undefined when no route leads there. */
function outOf(
  ip: Ip,
  routes: readonly Route[],
  { links }: InterfaceFacts,
): { device: string; mtuBytes: number } | undefined {
  const best = routes.filter((r) => r.dst.v === ip.v && contains(r.dst, ip))
    .sort((a, b) => b.dst.len - a.dst.len || a.metric - b.metric)[0];
  const link = best?.kind === kind.unicast ? links.get(best.index ?? -1) : undefined;
  return link && { device: link.name, mtuBytes: best!.mtuBytes ?? link.mtuBytes };
}

/**
 * Whether one of three echo requests that may not be split is answered, or somebody on the way says that they are too
 * large: then senders learn it, and nothing hangs. @param bytes of the whole packet.
 */
async function ping(ip: Ip, bytes: number): Promise<boolean> {
  const words = [
    "-n",
    "-c",
    "3",
    "-i",
    "0.2",
    "-w",
    "2",
    "-M",
    "do",
    "-s",
    String(bytes - headers[ip.v]),
    formatIp(ip),
  ];
  try {
    const { stdout, stderr } = await run("ping", words, { timeoutMs: 10_000 });
    return Number(/(\d+) received/.exec(stdout)?.[1] ?? 0) > 0 || /frag needed|too (long|big)/i.test(stdout + stderr);
  } catch (error) {
    if (isProblem(error, "unavailable")) return false;
    throw error;
  }
}
