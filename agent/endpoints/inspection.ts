import { type Cidr, cidrOf, contains, type Ip, parseCidr } from "../../lib/ip.ts";
import { listAddresses } from "../../kernel/rtnetlink/address.ts";
import { getLink, type Link } from "../../kernel/rtnetlink/link.ts";
import { listRoutes, table } from "../../kernel/rtnetlink/route.ts";
import type { RtSocket } from "../../kernel/rtnetlink/socket.ts";

/** One side of a pair, or any other link of that name, as the kernel has it. */
export interface FoundInterface {
  index: number;
  kind: string | undefined;
  mac: string | undefined;
  mtuBytes: number;
  /** IFF_UP. */
  up: boolean;
  /** Addresses with their prefix lengths; link-local ones of IPv6 are left out. */
  addresses: { ip: Ip; len: number }[];
  /** Routes of the main table over this interface; IPv6's own for link-local and for each address are left out. */
  routes: { dst: Cidr; via: Ip | undefined }[];
}

/** What is really there; a missing part is undefined. */
export interface Inspection {
  netnsExists: boolean;
  pod: FoundInterface | undefined;
  host: FoundInterface | undefined;
  /** The two are the ends of one pair. */
  paired: boolean;
}

const linkLocal = parseCidr("fe80::/10");
const madeByKernel = 2;

/** Looks at both sides. @param pod undefined = the namespace does not exist. @throws Problem "kernel". */
export function inspectPair(
  host: RtSocket,
  hostInterface: string,
  pod: RtSocket | undefined,
  interfaceName: string,
): Inspection {
  const hostLink = getLink(host, hostInterface);
  const podLink = pod && getLink(pod, interfaceName);
  return {
    netnsExists: pod !== undefined,
    pod: podLink && describe(pod, podLink),
    host: hostLink && describe(host, hostLink),
    // Indexes alone could agree by chance; a peer in this very namespace has no namespace id.
    paired: !!hostLink && !!podLink && hostLink.kind === "veth" && hostLink.peerIndex === podLink.index &&
      podLink.peerIndex === hostLink.index && hostLink.peerNsid !== undefined && podLink.peerNsid !== undefined,
  };
}

function describe(socket: RtSocket, link: Link): FoundInterface {
  const addresses = listAddresses(socket).filter((a) => a.index === link.index && !contains(linkLocal, a.ip));
  const routes = ([4, 6] as const).flatMap((family) =>
    listRoutes(socket, { family, table: table.main, index: link.index })
  ).filter((r) => !(r.dst.v === 6 && r.protocol === madeByKernel));
  return {
    index: link.index,
    kind: link.kind,
    mac: link.mac,
    mtuBytes: link.mtuBytes,
    up: link.up,
    addresses: addresses.map(({ ip, len }) => ({ ip, len })),
    routes: routes.map(({ dst, via }) => ({ dst: cidrOf(dst, dst.len), via })),
  };
}
