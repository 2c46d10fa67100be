import type { Family, Ip } from "../lib/ip.ts";

/** A socket of this network namespace, as `/proc/net` lists it. */
export interface Socket {
  protocol: "TCP" | "UDP";
  local: Ip;
  localPort: number;
  /** All zero when there is no other end. */
  remote: Ip;
  remotePort: number;
  /** `listening`: waits for others (TCP), or takes what comes from anybody (UDP). */
  state: "established" | "listening" | "other";
  /** By which `/proc/PID/fd` names it. */
  inode: string;
}

/** Of Linux' include/net/tcp_states.h. An unconnected UDP socket is in the last. */
const established = "01", listening = "0A", unconnected = "07";

/**
 * Sockets of one of `/proc/net/{tcp,tcp6,udp,udp6}`. Addresses stand there as hexadecimal words in the byte order of the
 * machine, little-endian on all that this program runs on; an IPv4 address in an IPv6 socket is taken as what it is.
 * Source: proc(5). Lines that are not as expected are left out.
 */
export function parseSockets(text: string, protocol: Socket["protocol"]): Socket[] {
  return text.split("\n").slice(1).flatMap((line): Socket[] => {
    const [, from, to, code, , , , , , inode] = line.trim().split(/\s+/);
    const local = endOf(from), remote = endOf(to);
    if (!local || !remote || !inode) return [];
    const waits = code === (protocol === "TCP" ? listening : unconnected);
    const state = waits ? "listening" : code === established ? "established" : "other";
    return [{
      protocol,
      local: local.ip,
      localPort: local.port,
      remote: remote.ip,
      remotePort: remote.port,
      state,
      inode,
    }];
  });
}

function endOf(text: string | undefined): { ip: Ip; port: number } | undefined {
  const [, hex, port] = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/i.exec(text ?? "") ?? [];
  return hex === undefined ? undefined : { ip: addressOf(hex), port: parseInt(port!, 16) };
}

function addressOf(hex: string): Ip {
  const words = hex.match(/.{8}/g)!.map((word) => word.match(/../g)!.reverse().join(""));
  const isMapped = words.length === 4 && /^0{16}0000ffff$/i.test(words.slice(0, 3).join(""));
  const v: Family = words.length === 4 && !isMapped ? 6 : 4;
  return { v, n: BigInt(`0x${isMapped ? words[3]! : words.join("")}`) };
}

/** All TCP and UDP sockets of this network namespace. */
export function readSockets(): Socket[] {
  return (["TCP", "UDP"] as const).flatMap((protocol) =>
    ["", "6"].flatMap((v) => parseSockets(readProc(`net/${protocol.toLowerCase()}${v}`) ?? "", protocol))
  );
}

/** Inodes of the sockets that a process holds; none when it has ended or may not be looked at. */
export function socketsOf(pid: number | string): string[] {
  const links = unlessGone(() => [...Deno.readDirSync(`/proc/${pid}/fd`)]) ?? [];
  return links.flatMap(({ name }) => {
    const target = unlessGone(() => Deno.readLinkSync(`/proc/${pid}/fd/${name}`));
    return /^socket:\[(\d+)\]$/.exec(target ?? "")?.[1] ?? [];
  });
}

/** A file below `/proc`; undefined when it is not there, not any more, or not for us. */
export const readProc = (path: string): string | undefined => unlessGone(() => Deno.readTextFileSync(`/proc/${path}`));

function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    const expected = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
    if (expected || error instanceof Error && "code" in error && error.code === "ESRCH") return undefined;
    throw error;
  }
}
