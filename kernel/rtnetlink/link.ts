import type { RtSocket } from "./socket.ts";

/** A network interface as the kernel describes it. */
export interface Link {
  index: number;
  name: string;
  /** "veth", "bridge", "vxlan", …; undefined for hardware and lo. */
  kind: string | undefined;
  /** `aa:bb:cc:dd:ee:ff`; undefined when the link has none. */
  mac: string | undefined;
  mtuBytes: number;
  /** IFF_UP: the administrator's wish. */
  up: boolean;
  /** IFLA_OPERSTATE is up or unknown: packets can pass (RFC 2863). */
  operUp: boolean;
  loopback: boolean;
  group: number;
  /** Index of the bridge or bond it is a port of. */
  master: number | undefined;
  /** IFLA_LINK: the other end of a veth, the parent of a VLAN; an index in namespace `peerNsid` when that is set. */
  peerIndex: number | undefined;
  peerNsid: number | undefined;
}

/** All links of the socket's namespace, by index. @throws Problem "kernel". */
export function listLinks(_socket: RtSocket): Map<number, Link> {
  throw new Error("not built yet");
}

/** One link by name; undefined when there is none. @throws Problem "kernel". */
export function getLink(_socket: RtSocket, _name: string): Link | undefined {
  throw new Error("not built yet");
}
