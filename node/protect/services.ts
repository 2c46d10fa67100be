import type { Family, Ip } from "../../lib/ip.ts";
import type { Socket } from "../../kernel/sockets.ts";

/** A program that others can reach on a port. */
export interface Service {
  protocol: "TCP" | "UDP";
  port: number;
  /** "nginx"; "" when it is not known. */
  program: string;
  /** Families in which it listens on an address that is not this host's alone. */
  families: Family[];
}

/**
 * Services that are reachable from elsewhere, by port and program. A socket that listens on every IPv6 address takes IPv4, too,
 * as Linux does by default. @param programOf by inode.
 */
export function servicesOf(
  sockets: readonly Socket[],
  programOf: (inode: string) => string | undefined,
): Service[] {
  const services = new Map<string, Service>();
  for (const { protocol, state, local: address, localPort: port, inode } of sockets) {
    if (state !== "listening" || isLoopback(address)) continue;
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
