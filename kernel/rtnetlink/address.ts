import type { Ip } from "../../lib/ip.ts";
import type { RtSocket } from "./socket.ts";

/** An address of an interface. */
export interface Address {
  /** Index of the interface. */
  index: number;
  ip: Ip;
  /** Prefix length. */
  len: number;
  /** RT_SCOPE: 0 universe, 253 link, 254 host. */
  scope: number;
  /** IFA_F_* bits: 0x80 permanent, 0x40 tentative, 0x20 deprecated, 0x01 secondary/temporary. */
  flags: number;
}

/** All addresses of the socket's namespace, both families, in the kernel's order. @throws Problem "kernel". */
export function listAddresses(_socket: RtSocket): Address[] {
  throw new Error("not built yet");
}
