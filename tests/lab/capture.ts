import { formatIp, type Ip } from "../../lib/ip.ts";
import { inNetns, openNetns } from "../../kernel/netns.ts";
import { getLink } from "../../kernel/rtnetlink/link.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
});

const everyEtherType = 0x0300; // ETH_P_ALL in the network's order
const buffer = new Uint8Array(65536);

/** An IP packet that was seen on a wire, with what it carries. */
export interface Captured {
  from: string;
  to: string;
  /** Protocol number: 1 ICMP, 4 IPIP, 6 TCP, 17 UDP, 58 ICMPv6. */
  protocol: number;
  /** Destination port of UDP and TCP. */
  port?: number;
  /** Network identifier of a VXLAN, and whose frame it is. */
  vxlan?: { vni: number; macTo: string; macFrom: string };
  /** What a VXLAN or IPIP packet carries. */
  inner?: Captured;
  /** Length of the IP packet in bytes. */
  bytes: number;
}

/** Everything that passes an interface of a namespace, from now on: what tcpdump would see. */
export class Capture implements Disposable {
  readonly #fd: number;
  readonly #vxlanPort: number;

  /** @throws when the interface does not exist. */
  constructor(netnsPath: string, interfaceName: string, vxlanPort = 4789) {
    this.#vxlanPort = vxlanPort;
    using netns = openNetns(netnsPath);
    using socket = RtSocket.open(netns);
    const index = getLink(socket, interfaceName)?.index;
    if (index === undefined) throw new Error(`${interfaceName} does not exist in ${netnsPath}`);
    this.#fd = inNetns(netns, () => libc.socket(17, 3, everyEtherType));
    libc.setsockopt(this.#fd, 1, 33, new Int32Array([8 << 20]), 4);
    const address = new Uint8Array(20), view = new DataView(address.buffer);
    view.setUint16(0, 17, true);
    view.setUint16(2, everyEtherType, true);
    view.setInt32(4, index, true);
    if (this.#fd < 0 || libc.bind(this.#fd, address, 20) < 0) throw new Error("packet socket was refused");
  }

  /** What passed since the last call, in order. */
  take(): Captured[] {
    const found: Captured[] = [];
    for (;;) {
      const n = Number(libc.recv(this.#fd, buffer, BigInt(buffer.length), 0x40));
      if (n < 0) return found;
      const packet = readFrame(buffer.slice(0, n), this.#vxlanPort);
      if (packet) found.push(packet);
    }
  }

  [Symbol.dispose](): void {
    libc.close(this.#fd);
  }
}

function readFrame(frame: Uint8Array, vxlanPort: number): Captured | undefined {
  const type = (frame[12]! << 8) | frame[13]!;
  return type === 0x0800 || type === 0x86dd ? readIpPacket(frame.subarray(14), vxlanPort) : undefined;
}

function readIpPacket(bytes: Uint8Array, vxlanPort: number): Captured | undefined {
  const v = bytes[0]! >> 4;
  if ((v !== 4 && v !== 6) || bytes.length < (v === 4 ? 20 : 40)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const ipAt = (at: number): string => {
    const n = v === 4 ? BigInt(view.getUint32(at)) : (view.getBigUint64(at) << 64n) | view.getBigUint64(at + 8);
    return formatIp({ v, n } as Ip);
  };
  const protocol = bytes[v === 4 ? 9 : 6]!;
  const payload = bytes.subarray(v === 4 ? (bytes[0]! & 15) * 4 : 40);
  const size = v === 4 ? view.getUint16(2) : view.getUint16(4) + 40;
  const packet: Captured = { from: ipAt(v === 4 ? 12 : 8), to: ipAt(v === 4 ? 16 : 24), protocol, bytes: size };
  if (protocol === 4) packet.inner = readIpPacket(payload, vxlanPort);
  if (protocol === 17 || protocol === 6) packet.port = (payload[2]! << 8) | payload[3]!;
  if (protocol === 17 && packet.port === vxlanPort) {
    const frame = payload.subarray(16),
      mac = (at: number) => [...frame.subarray(at, at + 6)].map((b) => b.toString(16).padStart(2, "0")).join(":");
    const vni = (payload[12]! << 16) | (payload[13]! << 8) | payload[14]!;
    packet.vxlan = { vni, macTo: mac(0), macFrom: mac(6) };
    packet.inner = readFrame(frame, vxlanPort);
  }
  return packet;
}
