import { type Family, type Ip, ipBytes, ipFromBytes } from "../../lib/ip.ts";
import { crc32c, internetChecksum } from "./checksums.ts";

/** IP protocol numbers that the harness knows the insides of. */
export const protocols = { icmp: 1, ipip: 4, tcp: 6, udp: 17, icmpv6: 58, sctp: 132, udplite: 136 } as const;

/** RFC 3692: for experiments. Rules of the harness let it pass everywhere, see prober.ts. */
export const sentinelProtocol = 253;

/** A packet to be sent. Ports are 0 where the protocol has none. */
export interface Frame {
  src: Ip;
  dst: Ip;
  protocol: number;
  srcPort: number;
  dstPort: number;
  /** A first packet of its kind: type and code; the identifier is `srcPort`. */
  icmp?: { type: number; code: number };
  /** TCP flags; default SYN. */
  tcpFlags?: number;
  /** TTL or hop limit; default 64. */
  hops?: number;
}

/** A packet that came in. */
export interface Seen extends Frame {
  /** What the harness wrote into it; for an ICMP error that of the packet it is about. */
  number: number | undefined;
  /** TOS or traffic class. */
  tos: number;
  /** ICMP error: the packet that it is about. */
  about?: Seen;
}

const magic = new TextEncoder().encode("prob");
/** Bits of the TCP flags. */
export const tcpFlag = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;

/** The packet's bytes, IP header first, checksums right. @param number told again by readPacket(), 32 bits. */
export function writePacket(frame: Frame, number: number): Uint8Array<ArrayBuffer> {
  const body = transport(frame, number);
  const family = frame.src.v;
  const packet = new Uint8Array((family === 4 ? 20 : 40) + body.length);
  const view = new DataView(packet.buffer);
  const hops = frame.hops ?? 64;
  if (family === 4) {
    packet.set([0x45, 0]);
    view.setUint16(2, packet.length);
    view.setUint16(6, 0x4000); // do not fragment
    packet.set([hops, frame.protocol], 8);
    packet.set(ipBytes(frame.src), 12);
    packet.set(ipBytes(frame.dst), 16);
    view.setUint16(10, internetChecksum(packet.subarray(0, 20)));
  } else {
    packet[0] = 0x60;
    view.setUint16(4, body.length);
    packet.set([frame.protocol, hops], 6);
    packet.set(ipBytes(frame.src), 8);
    packet.set(ipBytes(frame.dst), 24);
  }
  packet.set(body, packet.length - body.length);
  return packet;
}

function transport(frame: Frame, number: number): Uint8Array {
  const mark = numberMark(number);
  const { srcPort, dstPort, protocol } = frame;
  switch (protocol) {
    case protocols.tcp: {
      const body = joined(20, mark), view = new DataView(body.buffer);
      view.setUint32(0, (srcPort << 16 | dstPort) >>> 0);
      view.setUint32(4, number);
      body.set([0x50, frame.tcpFlags ?? tcpFlag.syn, 0x40, 0], 12);
      view.setUint16(16, pseudoChecksum(frame, body));
      return body;
    }
    case protocols.udp:
    case protocols.udplite: {
      const body = joined(8, mark), view = new DataView(body.buffer);
      view.setUint32(0, (srcPort << 16 | dstPort) >>> 0);
      view.setUint16(4, body.length);
      view.setUint16(6, pseudoChecksum(frame, body) || 0xffff);
      return body;
    }
    case protocols.icmp:
    case protocols.icmpv6: {
      const body = joined(8, mark), view = new DataView(body.buffer);
      body.set([frame.icmp?.type ?? 8, frame.icmp?.code ?? 0]);
      view.setUint16(4, srcPort);
      const sum = protocol === protocols.icmp ? internetChecksum(body) : pseudoChecksum(frame, body);
      view.setUint16(2, sum);
      return body;
    }
    case protocols.sctp:
      return sctpInit(srcPort, dstPort, mark);
    default:
      return mark;
  }
}

/** INIT with the mark as a parameter that nobody knows. */
function sctpInit(srcPort: number, dstPort: number, mark: Uint8Array): Uint8Array {
  const body = joined(12 + 20 + 4, mark), view = new DataView(body.buffer);
  view.setUint32(0, (srcPort << 16 | dstPort) >>> 0);
  view.setUint32(12, 1 << 24 | 20 + 4 + mark.length); // INIT
  view.setUint32(16, 0x10203040); // initiate tag
  view.setUint32(20, 65536); // window
  view.setUint32(24, 1 << 16 | 1); // streams
  view.setUint32(28, 1); // first sequence number
  view.setUint32(32, 0x8001 << 16 | 4 + mark.length);
  view.setUint32(8, crc32c(body), true);
  return body;
}

function pseudoChecksum({ src, dst, protocol }: Frame, body: Uint8Array): number {
  const tail = new Uint8Array(8);
  new DataView(tail.buffer).setUint32(0, body.length);
  tail[7] = protocol;
  return internetChecksum(ipBytes(src), ipBytes(dst), tail, body);
}

function joined(headerLength: number, tail: Uint8Array): Uint8Array<ArrayBuffer> {
  const body = new Uint8Array(headerLength + tail.length);
  body.set(tail, headerLength);
  return body;
}

function numberMark(number: number): Uint8Array {
  const mark = joined(8, new Uint8Array(0));
  mark.set(magic);
  new DataView(mark.buffer).setUint32(4, number);
  return mark;
}

/** Reads a packet, IP header first; undefined for what is no IP packet, or cut. */
export function readPacket(bytes: Uint8Array): Seen | undefined {
  const family = (bytes[0] ?? 0) >> 4;
  if (family === 4 && bytes.length >= 20) {
    const header = (bytes[0]! & 15) * 4;
    return readTransport(bytes.subarray(header), {
      src: ipFromBytes(bytes.subarray(12, 16)),
      dst: ipFromBytes(bytes.subarray(16, 20)),
      protocol: bytes[9]!,
      tos: bytes[1]!,
      hops: bytes[8]!,
    });
  }
  if (family !== 6 || bytes.length < 40) return undefined;
  return readTransport(bytes.subarray(40), {
    src: ipFromBytes(bytes.subarray(8, 24)),
    dst: ipFromBytes(bytes.subarray(24, 40)),
    protocol: bytes[6]!,
    tos: (bytes[0]! & 15) << 4 | bytes[1]! >> 4,
    hops: bytes[7]!,
  });
}

/** Reads what follows the IP header; for sockets that do not give that. */
export function readTransport(
  body: Uint8Array,
  ip: Pick<Seen, "src" | "dst" | "protocol" | "tos" | "hops">,
): Seen | undefined {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const seen: Seen = { ...ip, srcPort: 0, dstPort: 0, number: numberIn(body, view) };
  if (ip.protocol === protocols.icmp || ip.protocol === protocols.icmpv6) {
    if (body.length < 8) return undefined;
    seen.icmp = { type: body[0]!, code: body[1]! };
    seen.srcPort = view.getUint16(4);
    if (isIcmpError(ip.src.v, seen.icmp.type)) seen.about = readPacket(body.subarray(8));
  } else if (hasPorts(ip.protocol)) {
    if (body.length < 8) return undefined;
    seen.srcPort = view.getUint16(0);
    seen.dstPort = view.getUint16(2);
    if (ip.protocol === protocols.tcp) seen.tcpFlags = body[13];
  }
  return seen;
}

/** TCP, UDP, SCTP, UDPLite. */
export const hasPorts = (protocol: number): boolean => [6, 17, 132, 136].includes(protocol);

/** ICMP types that speak about another packet. */
const isIcmpError = (family: Family, type: number): boolean => family === 4 ? [3, 11, 12].includes(type) : type < 128;

function numberIn(body: Uint8Array, view: DataView): number | undefined {
  const at = body.length - 8;
  return at >= 0 && magic.every((byte, i) => body[at + i] === byte) ? view.getUint32(at + 4) : undefined;
}
