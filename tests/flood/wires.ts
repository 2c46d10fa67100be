import { type Family, ipBytes, parseIp } from "../../lib/ip.ts";
import { inNetns, openNetns } from "../../kernel/netns.ts";

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
});

const domains = { inet: 2, inet6: 10, packet: 17 }, types = { datagram: 2, raw: 3 };
const [solSocket, sendBufferForce, receiveBufferForce, solPacket, packetStatistics] = [1, 32, 33, 263, 6];
const ipProtoRaw = 255;
const etherTypes: Record<Family, number> = { 4: 0x0800, 6: 0x86dd };
const bufferBytes = 64 << 20;

/** Sockets of one place, for the flood's own thread. */
export interface Wires extends Disposable {
  /** Raw sockets that take whole packets and send them by the place's own routes. */
  readonly senders: Record<Family, number>;
  /** Sockets that get every packet that comes in. */
  readonly receivers: number[];
  /** Packets that came in and found no room. */
  lost(): number;
}

/**
 * Opens a place's sockets.
 * @param behindInput port at which UDP packets are received after the place's own INPUT chain; undefined = every packet is
 * seen as it comes in, also on interfaces that are made later.
 */
export function openWires(netnsPath: string, behindInput?: number): Wires {
  using netns = openNetns(netnsPath);
  return inNetns(netns, () => {
    const senders = { 4: open(domains.inet, types.raw, ipProtoRaw), 6: open(domains.inet6, types.raw, ipProtoRaw) };
    const packet = behindInput === undefined;
    const receivers = packet
      ? ([4, 6] as const).map((family) => open(domains.packet, types.datagram, bigEndian(etherTypes[family])))
      : [boundTo(behindInput)];
    const fds = [...Object.values(senders), ...receivers];
    return {
      senders,
      receivers,
      lost: () => packet ? receivers.reduce((n, fd) => n + drops(fd), 0) : 0,
      [Symbol.dispose]: () => fds.forEach((fd) => void libc.close(fd)),
    };
  });
}

function open(domain: number, type: number, protocol: number): number {
  const fd = libc.socket(domain, type | 0o2000000, protocol);
  if (fd < 0) throw new Error(`socket(${domain}, ${type}, ${protocol}) was refused`);
  for (const option of [sendBufferForce, receiveBufferForce]) {
    libc.setsockopt(fd, solSocket, option, new Int32Array([bufferBytes]), 4);
  }
  return fd;
}

function boundTo(port: number): number {
  const fd = open(domains.inet, types.datagram, 0);
  if (libc.bind(fd, socketAddress("0.0.0.0", port), 16) < 0) throw new Error(`port ${port} is taken`);
  return fd;
}

/** struct tpacket_stats: packets, drops. */
function drops(fd: number): number {
  const stats = new Uint32Array(2);
  libc.getsockopt(fd, solPacket, packetStatistics, stats, new Int32Array([8]));
  return stats[1]!;
}

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: string, port = 0): Uint8Array<ArrayBuffer> {
  const ip = parseIp(address);
  const bytes = new Uint8Array(ip.v === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, ip.v === 4 ? domains.inet : domains.inet6, true);
  view.setUint16(2, port);
  bytes.set(ipBytes(ip), ip.v === 4 ? 4 : 8);
  return bytes;
}

const bigEndian = (n: number) => (n & 0xff) << 8 | n >> 8;
