import type { Family, Ip } from "../../lib/ip.ts";
import type { Packet } from "../calc/verdict.ts";

/** The beginning of a packet, in words of policy. */
export interface SeenPacket extends Packet {
  /** TCP's flags: `SYN`, `ACK`, … */
  flags: string[];
}

const flagNames = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
/** Hop-by-hop, routing, fragment, destination options (RFC 8200). */
const extensions = new Set([0, 43, 44, 60]);
const FRAGMENT = 44;

/**
 * Reads IP and transport headers (RFC 791, 8200, 9293, 768, 792, 4443). Ports are 0 where the protocol has none, where the
 * bytes end before them, and in fragments but the first.
 * @returns undefined when not even the addresses are there.
 */
export function readPacket(family: Family, bytes: Uint8Array): SeenPacket | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const head = family === 4 ? head4(view) : head6(view);
  return head && { ...head.ends, ...transport(head.ends.protocol, head.at, view) };
}

/** `at` = where the transport's header begins; undefined for a fragment without one. */
interface Head {
  ends: Pick<Packet, "src" | "dst" | "protocol">;
  at: number | undefined;
}

function head4(view: DataView): Head | undefined {
  if (view.byteLength < 20) return undefined;
  const address = (at: number): Ip => ({ v: 4, n: BigInt(view.getUint32(at)) });
  const isFirst = (view.getUint16(6) & 0x1fff) === 0;
  const ends = { src: address(12), dst: address(16), protocol: view.getUint8(9) };
  return { ends, at: isFirst ? (view.getUint8(0) & 15) * 4 : undefined };
}

function head6(view: DataView): Head | undefined {
  if (view.byteLength < 40) return undefined;
  const address = (at: number): Ip => ({ v: 6, n: (view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8) });
  let protocol = view.getUint8(6), at = 40, isFirst = true;
  while (extensions.has(protocol) && at + 8 <= view.byteLength) {
    if (protocol === FRAGMENT) isFirst = (view.getUint16(at + 2) & 0xfff8) === 0;
    const length = protocol === FRAGMENT ? 8 : (view.getUint8(at + 1) + 1) * 8;
    protocol = view.getUint8(at);
    at += length;
  }
  return { ends: { src: address(8), dst: address(24), protocol }, at: isFirst ? at : undefined };
}

function transport(
  protocol: number,
  at: number | undefined,
  view: DataView,
): Pick<SeenPacket, "srcPort" | "dstPort" | "icmp" | "flags"> {
  const none = { srcPort: 0, dstPort: 0, flags: [] };
  if (at === undefined || at + 4 > view.byteLength) return none;
  if (protocol === 1 || protocol === 58) {
    return { ...none, icmp: { type: view.getUint8(at), code: view.getUint8(at + 1) } };
  }
  if (![6, 17, 132, 136].includes(protocol)) return none;
  const flags = protocol === 6 && at + 14 <= view.byteLength
    ? flagNames.filter((_, bit) => (view.getUint8(at + 13) >> bit) & 1)
    : [];
  return { srcPort: view.getUint16(at), dstPort: view.getUint16(at + 2), flags };
}
