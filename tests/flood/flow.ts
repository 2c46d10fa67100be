import { type Family, ipBytes, parseIp } from "../../lib/ip.ts";
import { internetChecksum } from "../packets/checksums.ts";

/** One sort of packet that is sent over and over, each time with the number of its tick. */
export interface Flow {
  name: string;
  /** Name of the place that sends it. */
  from: string;
  src: string;
  dst: string;
  protocol: "udp" | "tcp";
  dstPort: number;
  /**
   * Source port. Without one it goes through `rotatingPorts`, so that every packet is a new connection's first: nobody
   * answers, and what is not answered stays NEW for connection tracking when its port comes again.
   */
  srcPort?: number;
}

const magic = 0x666c;
/** Magic, flow, number, its complement, the source port's complement, nothing: the checksum stays the same for all. */
const markBytes = 16;
const firstPort = 20_000;
/** How many source ports a flow goes through. */
export const rotatingPorts = 512;
const protocolNumbers = { tcp: 6, udp: 17 } as const;

/** A flow's packet, into which stamp() writes number after number. */
export interface Template {
  /** From the IP header on. The kernel fills in the checksum of an IPv4 header. */
  bytes: Uint8Array<ArrayBuffer>;
  family: Family;
  transportAt: number;
  rotates: boolean;
}

/** Builds the packet of flow number `id`: a UDP datagram, or a SYN. */
export function templateOf(flow: Flow, id: number): Template {
  const src = parseIp(flow.src), dst = parseIp(flow.dst);
  const family = src.v, protocol = protocolNumbers[flow.protocol];
  const transportAt = family === 4 ? 20 : 40;
  const headBytes = flow.protocol === "tcp" ? 20 : 8;
  const length = headBytes + markBytes;
  const bytes = new Uint8Array(transportAt + length);
  const view = new DataView(bytes.buffer);
  if (family === 4) {
    bytes.set([0x45, 0]);
    view.setUint16(2, bytes.length);
    bytes.set([64, protocol], 8);
    bytes.set(ipBytes(src), 12);
    bytes.set(ipBytes(dst), 16);
  } else {
    bytes[0] = 0x60;
    view.setUint16(4, length);
    bytes.set([protocol, 64], 6);
    bytes.set(ipBytes(src), 8);
    bytes.set(ipBytes(dst), 24);
  }
  view.setUint16(transportAt, flow.srcPort ?? firstPort);
  view.setUint16(transportAt + 2, flow.dstPort);
  if (flow.protocol === "tcp") {
    view.setUint32(transportAt + 4, 1000 + id);
    bytes.set([0x50, 2, 0x40, 0], transportAt + 12);
  } else view.setUint16(transportAt + 4, length);
  const mark = bytes.length - markBytes;
  view.setUint16(mark, magic);
  view.setUint16(mark + 2, id);
  view.setUint32(mark + 8, 0xffffffff);
  view.setUint16(mark + 12, ~(flow.srcPort ?? firstPort) & 0xffff);
  const pseudo = new Uint8Array(8);
  pseudo[7] = protocol;
  new DataView(pseudo.buffer).setUint16(2, length);
  const sum = internetChecksum(ipBytes(src), ipBytes(dst), pseudo, bytes.subarray(transportAt)) || 0xffff;
  view.setUint16(transportAt + (flow.protocol === "tcp" ? 16 : 6), sum);
  return { bytes, family, transportAt, rotates: flow.srcPort === undefined };
}

/** Makes the template the packet of this number. */
export function stamp({ bytes, transportAt, rotates }: Template, number: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const mark = bytes.length - markBytes;
  view.setUint32(mark + 4, number);
  view.setUint32(mark + 8, ~number >>> 0);
  if (!rotates) return;
  const port = firstPort + number % rotatingPorts;
  view.setUint16(transportAt, port);
  view.setUint16(mark + 12, ~port & 0xffff);
}

/** Reads the mark at the end of what was received; undefined when the packet is none of ours. */
export function readMark(view: DataView, end: number): { flow: number; number: number } | undefined {
  const mark = end - markBytes;
  if (mark < 0 || view.getUint16(mark) !== magic) return undefined;
  const number = view.getUint32(mark + 4);
  return view.getUint32(mark + 8) === (~number >>> 0) ? { flow: view.getUint16(mark + 2), number } : undefined;
}
