import type { Family, Ip } from "../../lib/ip.ts";

/** A socket that waits for others to speak to it. */
export interface Listener {
  protocol: "TCP" | "UDP";
  /** Where it listens; all zero = every address. An IPv6 one with all zero takes IPv4 too, as Linux does by default. */
  address: Ip;
  port: number;
  /** By which `/proc/PID/fd` names it. */
  inode: string;
}

/** States of Linux' include/net/tcp_states.h. An unconnected UDP socket is in the second. */
const listening = "0A", unconnected = "07";

/**
 * Sockets that wait, of one of `/proc/net/{tcp,tcp6,udp,udp6}`. Addresses stand there as hexadecimal words in the byte order
 * of the machine, little-endian on all that this program runs on. Source: proc(5). Lines that are not as expected are left out.
 */
export function parseListeners(text: string, protocol: Listener["protocol"]): Listener[] {
  return text.split("\n").slice(1).flatMap((line) => {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    const [, hex, port] = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/i.exec(local ?? "") ?? [];
    if (!hex || !port || !inode || state !== (protocol === "TCP" ? listening : unconnected)) return [];
    return [{ protocol, address: addressOf(hex), port: parseInt(port, 16), inode }];
  });
}

function addressOf(hex: string): Ip {
  const words = hex.match(/.{8}/g)!.map((word) => word.match(/../g)!.reverse().join(""));
  const mapped = words.length === 4 && /^0{8}0{8}0000ffff$/i.test(words.slice(0, 3).join(""));
  const v: Family = words.length === 4 && !mapped ? 6 : 4;
  return { v, n: BigInt(`0x${mapped ? words[3]! : words.join("")}`) };
}

/** A program that others can reach on a port. */
export interface Service {
  protocol: "TCP" | "UDP";
  port: number;
  /** "nginx"; "" when it is not known. */
  program: string;
  /** Families in which it listens on an address that is not this host's alone. */
  families: Family[];
}

/** Services that are reachable from elsewhere, by port and program. @param programOf by inode. */
export function servicesOf(
  listeners: readonly Listener[],
  programOf: (inode: string) => string | undefined,
): Service[] {
  const services = new Map<string, Service>();
  for (const { protocol, address, port, inode } of listeners) {
    if (isLoopback(address)) continue;
    const program = programOf(inode) ?? "";
    const key = `${protocol} ${port}`, known = services.get(key);
    const service = known ?? { protocol, port, program, families: [] };
    const both = address.v === 6 && address.n === 0n;
    for (const v of both ? [4, 6] as const : [address.v]) if (!service.families.includes(v)) service.families.push(v);
    service.program ||= program;
    services.set(key, service);
  }
  return [...services.values()].sort((a, b) => a.port - b.port || (a.protocol < b.protocol ? -1 : 1));
}

const isLoopback = ({ v, n }: Ip): boolean => (v === 4 ? n >> 24n === 127n : n === 1n);
