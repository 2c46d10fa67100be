import { type Family, type Ip, ipBytes, parseIp } from "../../lib/ip.ts";
import { tryParseMac } from "../../lib/ip.ts";
import { inNetns, openNetns } from "../../kernel/netns.ts";
import { protocols, readPacket, readTransport, type Seen, sentinelProtocol } from "./packet.ts";

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
});

const [afInet, afInet6, afPacket, sockRaw, dontWait] = [2, 10, 17, 3, 0x40];
const [solSocket, receiveBufferForce, ipProtoIp, ipHeaderIncluded, ipProtoIpv6, ipv6HeaderIncluded] = [
  1,
  33,
  0,
  3,
  41,
  36,
];
const etherTypes: Record<Family, number> = { 4: 0x0800, 6: 0x86dd };
const bigEndian = (n: number) => (n & 0xff) << 8 | n >> 8;

/** What a place of the network can do: send packets as they are, and tell which came in. */
export interface Wire extends Disposable {
  send(packet: Uint8Array<ArrayBuffer>): void;
  /** Every packet that came in since the last call. */
  receive(): Seen[];
}

const buffer = new Uint8Array(65536);

function open(domain: number, type: number, protocol: number): number {
  const fd = libc.socket(domain, type, protocol);
  if (fd < 0) throw new Error(`socket(${domain}, ${type}, ${protocol}) was refused`);
  const size = new Int32Array([4 << 20]);
  libc.setsockopt(fd, solSocket, receiveBufferForce, size, 4);
  return fd;
}

function* pending(fd: number): Generator<Uint8Array> {
  for (;;) {
    const n = Number(libc.recv(fd, buffer, BigInt(buffer.length), dontWait));
    if (n < 0) return;
    yield buffer.slice(0, n);
  }
}

/** An interface of a namespace: whole packets, before the namespace's own stack sees them. */
export class InterfaceWire implements Wire {
  readonly #sockets = new Map<Family, number>();
  readonly #header = new Uint8Array(14);

  /** @param gateway MAC of the next hop. */
  constructor(netnsPath: string, link: { index: number; mac: string }, gateway: string) {
    this.#header.set(tryParseMac(gateway)!);
    this.#header.set(tryParseMac(link.mac)!, 6);
    using netns = openNetns(netnsPath);
    inNetns(netns, () => {
      for (const family of [4, 6] as const) {
        // An EtherType of its own, not "all": such a socket does not see what goes out.
        const fd = open(afPacket, sockRaw, bigEndian(etherTypes[family]));
        const address = new DataView(new ArrayBuffer(20));
        address.setUint16(0, afPacket, true);
        address.setUint16(2, etherTypes[family]);
        address.setInt32(4, link.index, true);
        if (libc.bind(fd, address.buffer, 20) < 0) throw new Error("packet socket cannot be bound");
        this.#sockets.set(family, fd);
      }
    });
  }

  send(packet: Uint8Array<ArrayBuffer>): void {
    const family = packet[0]! >> 4 === 4 ? 4 : 6;
    const frame = new Uint8Array(14 + packet.length);
    frame.set(this.#header);
    new DataView(frame.buffer).setUint16(12, etherTypes[family]);
    frame.set(packet, 14);
    const sent = libc.send(this.#sockets.get(family)!, frame, BigInt(frame.length), 0);
    if (Number(sent) !== frame.length) throw new Error("packet was not sent");
  }

  receive(): Seen[] {
    const all: Seen[] = [];
    for (const fd of this.#sockets.values()) {
      for (const bytes of pending(fd)) {
        const seen = readPacket(bytes.subarray(14));
        if (seen) all.push(seen);
      }
    }
    return all;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#sockets.values()) libc.close(fd);
  }
}

const unknown: Record<Family, Ip> = { 4: parseIp("0.0.0.0"), 6: parseIp("::") };

/** A namespace's own stack: what it sends goes through OUTPUT, what it receives has come through INPUT. */
export class HostWire implements Wire {
  readonly #senders = new Map<Family, number>();
  readonly #receivers: { fd: number; family: Family; protocol: number }[] = [];

  constructor(netnsPath: string) {
    using netns = openNetns(netnsPath);
    inNetns(netns, () => {
      for (const family of [4, 6] as const) {
        const domain = family === 4 ? afInet : afInet6;
        const sender = open(domain, sockRaw, 255);
        const [level, option] = family === 4 ? [ipProtoIp, ipHeaderIncluded] : [ipProtoIpv6, ipv6HeaderIncluded];
        libc.setsockopt(sender, level!, option!, new Int32Array([1]), 4);
        this.#senders.set(family, sender);
        const icmp = family === 4 ? protocols.icmp : protocols.icmpv6;
        for (const protocol of [icmp, protocols.tcp, protocols.udp, protocols.ipip, sentinelProtocol]) {
          this.#receivers.push({ fd: open(domain, sockRaw, protocol), family, protocol });
        }
      }
    });
  }

  send(packet: Uint8Array<ArrayBuffer>): void {
    const family = packet[0]! >> 4 === 4 ? 4 : 6;
    const seen = readPacket(packet)!;
    const address = new Uint8Array(family === 4 ? 16 : 28);
    new DataView(address.buffer).setUint16(0, family === 4 ? afInet : afInet6, true);
    address.set(ipBytes(seen.dst), family === 4 ? 4 : 8);
    // A packet that OUTPUT drops is refused with EPERM: that is an answer, not an error.
    libc.sendto(this.#senders.get(family)!, packet, BigInt(packet.length), 0, address, address.length);
  }

  receive(): Seen[] {
    const all: Seen[] = [];
    for (const { fd, family, protocol } of this.#receivers) {
      for (const bytes of pending(fd)) {
        // An IPv6 raw socket leaves the IP header out.
        const seen = family === 4
          ? readPacket(bytes)
          : readTransport(bytes, { src: unknown[6], dst: unknown[6], protocol, tos: 0, hops: 0 });
        if (seen) all.push(seen);
      }
    }
    return all;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#senders.values()) libc.close(fd);
    for (const { fd } of this.#receivers) libc.close(fd);
  }
}
