import { bits, cidrOf, type Family, type Ip, tryParseIp } from "../lib/ip.ts";
import { Problem } from "../lib/problem.ts";
import { addressFlag, listAddresses } from "../kernel/rtnetlink/address.ts";
import { listLinks } from "../kernel/rtnetlink/link.ts";
import { addressFamily, attributesOf, ipAttribute, join, readIp } from "../kernel/rtnetlink/message.ts";
import { kind, listRoutes, routeTypes, table } from "../kernel/rtnetlink/route.ts";
import type { RtSocket } from "../kernel/rtnetlink/socket.ts";
import type { LocalAddress, LocalInterface } from "./interfaces.ts";

/** All interfaces of the socket's namespace, by index. @throws Problem "kernel". */
export function readInterfaces(socket: RtSocket): LocalInterface[] {
  const addresses = Map.groupBy(listAddresses(socket), (a) => a.index);
  const routed = { 4: defaultRouteInterfaces(socket, 4), 6: defaultRouteInterfaces(socket, 6) };
  return [...listLinks(socket).values()].sort((a, b) => a.index - b.index).map((link) => ({
    name: link.name,
    index: link.index,
    kind: link.kind,
    up: link.up,
    addresses: (addresses.get(link.index) ?? []).map(({ ip, len, flags }): LocalAddress => {
      const passing = ip.v === 6 && (flags & (addressFlag.temporary | addressFlag.deprecated)) !== 0;
      return { ip, cidr: cidrOf(ip, len), ...(passing && { passing }) };
    }),
    defaultRoute: ([4, 6] as const).filter((v) => routed[v].has(link.index)),
  }));
}

/** Interfaces of the default route with the best metric. A route over several next hops names none. */
function defaultRouteInterfaces(socket: RtSocket, family: Family): Set<number> {
  const routes = listRoutes(socket, { family, table: table.main })
    .filter((r) => r.dst.len === 0 && r.kind === kind.unicast && r.index !== undefined);
  const best = Math.min(...routes.map((r) => r.metric));
  return new Set(routes.filter((r) => r.metric === best).map((r) => r.index!));
}

const RTA_DST = 1;
const RTA_PREFSRC = 7;

/**
 * The address that the kernel would send from to `destination`, an address or a host name: what connect() of a UDP socket
 * would choose, without a socket. Undefined when there is no route, or no address of the family behind the name.
 */
export async function sourceAddress(socket: RtSocket, destination: string, family: Family): Promise<Ip | undefined> {
  const to = tryParseIp(destination) ?? await resolve(destination, family);
  if (!to || to.v !== family) return undefined;
  const head = new Uint8Array(12);
  head[0] = addressFamily(family);
  head[1] = bits(family);
  const body = join(head, ipAttribute(RTA_DST, to));
  const { error, messages } = socket.batch([{ type: routeTypes.get, flags: 0, body }])[0]!;
  if (error || !messages[0]) return undefined;
  return readIp(attributesOf(messages[0].body, 12).get(RTA_PREFSRC));
}

async function resolve(name: string, family: Family): Promise<Ip | undefined> {
  const { lookup } = await import("node:dns/promises");
  try {
    return tryParseIp((await lookup(name, { family })).address);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause) return undefined;
    throw new Problem({ code: "unavailable", what: "host name cannot be resolved", where: name, cause });
  }
}
