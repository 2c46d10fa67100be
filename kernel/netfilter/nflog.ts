import type { Family } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";
import { E, KernelError, lastError, libc } from "../_ffi.ts";
import { inNetns, type Netns } from "../netns.ts";
import {
  attribute,
  attributesOf,
  decodeMessages,
  encodeRequests,
  join,
  type Message,
  NLM,
  readText,
  readU32,
  type Request,
} from "../rtnetlink/message.ts";
import { errorOf, openNetlink } from "../rtnetlink/socket.ts";
import { NETLINK_NETFILTER } from "./set_messages.ts";

/** A packet that a rule with NFLOG told of. Source: linux/netfilter/nfnetlink_log.h. */
export interface LoggedPacket {
  family: Family;
  prefix: string;
  /** 0 PREROUTING, 1 INPUT, 2 FORWARD, 3 OUTPUT, 4 POSTROUTING. */
  hook: number;
  /** Indexes of the interfaces it came by and leaves by; undefined where there is none. */
  inIndex: number | undefined;
  outIndex: number | undefined;
  /** Its beginning, from the IP header on. */
  bytes: Uint8Array;
}

/** What one read brought. `lost`: so many were logged before these and could not be kept for us. */
export interface LoggedBatch {
  packets: LoggedPacket[];
  lost: number;
}

const SUBSYS_ULOG = 4;
const message = { packet: (SUBSYS_ULOG << 8) | 0, config: (SUBSYS_ULOG << 8) | 1 };
const CFG = { command: 1, mode: 2, timeout: 4, threshold: 5, flags: 6 };
const command = { none: 0, bind: 1 };
const COPY_PACKET = 2;
const FLAG_SEQUENCE = 1;
const PACKET = { header: 1, inIndex: 4, outIndex: 5, payload: 9, prefix: 10, sequence: 12 };
const NLMSG_ERROR = 2;
const MSG_DONTWAIT = 0x40;
const etherType: Record<number, Family> = { 0x0800: 4, 0x86dd: 6 };

/** How loggedPackets() listens. */
export interface NflogOptions {
  group: number;
  /** Namespace; default the calling thread's own. */
  netns?: Netns;
  /** Bytes of each packet. Default 80: both headers of IPv6 and TCP. */
  copyBytes?: number;
  /** Receive buffer; what comes while it is full is lost and counted. Default 1 MiB. */
  receiveBytes?: number;
}

/**
 * Packets that rules log to an NFLOG group. The kernel hands them over within 0.1 s, or when 50 have come. Yields an empty
 * batch first: listening. Ends when `signal` is aborted; the loop must be awaited then, because the socket closes in it.
 * Holds one of Deno's 32 pool threads while it waits.
 * @throws Problem "exists" when another program listens to the group, "unsupported" when the kernel has no
 * nfnetlink_log, "kernel".
 */
export async function* loggedPackets(signal: AbortSignal, options: NflogOptions): AsyncGenerator<LoggedBatch> {
  if (signal.aborted) return;
  const fd = open(options);
  const wake = () => sendConfig(fd, options.group, [u8Attribute(CFG.command, command.none)], 2);
  signal.addEventListener("abort", wake, { once: true });
  try {
    yield { packets: [], lost: 0 };
    const buffer = new Uint8Array(256 * 1024);
    let next: number | undefined;
    while (!signal.aborted) {
      const n = Number(await libc().recvLater(fd, buffer, BigInt(buffer.length), 0));
      if (signal.aborted) return;
      // A buffer that overflowed shows in the numbers of what comes next.
      if (n < 0) continue;
      const batch: LoggedBatch = { packets: [], lost: 0 };
      for (const told of decodeMessages(buffer.slice(0, n))) {
        const found = packetOf(told);
        if (!found) continue;
        if (next !== undefined) batch.lost += (found.sequence - next) >>> 0;
        next = (found.sequence + 1) >>> 0;
        batch.packets.push(found.packet);
      }
      if (batch.packets.length > 0) yield batch;
    }
  } finally {
    signal.removeEventListener("abort", wake);
    libc().close(fd);
  }
}

function open({ group, netns, copyBytes = 80, receiveBytes = 1 << 20 }: NflogOptions): number {
  const openHere = () => openNetlink([], receiveBytes, NETLINK_NETFILTER);
  let fd: number | undefined;
  try {
    fd = netns ? inNetns(netns, openHere) : openHere();
    configure(fd, group, copyBytes);
    return fd;
  } catch (cause) {
    if (fd !== undefined) libc().close(fd);
    if (!(cause instanceof KernelError)) throw cause;
    throw refused(cause, group, netns);
  }
}

function refused(cause: KernelError, group: number, netns: Netns | undefined): Problem {
  const where = netns?.path;
  // EPERM is the kernel's word for a group that another socket has; also for a process without CAP_NET_ADMIN.
  if ([E.PERM, E.BUSY, E.EXIST].some((n) => n === cause.errno)) {
    return new Problem({ code: "exists", what: `another program listens to NFLOG group ${group}`, where, cause });
  }
  if (cause.errno === E.INVAL || cause.errno === E.OPNOTSUPP) {
    const todo = "Load the module nfnetlink_log, or use a kernel with CONFIG_NETFILTER_NETLINK_LOG";
    return new Problem({
      code: "unsupported",
      what: "this kernel does not tell of packets (NFLOG)",
      where,
      todo,
      cause,
    });
  }
  return new Problem({ code: "kernel", what: "NFLOG cannot be listened to", where, cause });
}

/** Each part is answered before the next is sent: the group's instance must be there before it is told anything. */
function configure(fd: number, group: number, copyBytes: number): void {
  const mode = new Uint8Array(6);
  new DataView(mode.buffer).setUint32(0, copyBytes);
  mode[4] = COPY_PACKET;
  const parts = [
    [u8Attribute(CFG.command, command.bind)],
    [attribute(CFG.mode, mode)],
    [
      attribute(CFG.timeout, be(4, 10)),
      attribute(CFG.threshold, be(4, 50)),
      attribute(CFG.flags, be(2, FLAG_SEQUENCE)),
    ],
  ];
  for (const attributes of parts) {
    sendConfig(fd, group, attributes, 1);
    const error = answerOf(fd);
    if (error) throw error;
  }
}

function sendConfig(fd: number, group: number, attributes: Uint8Array[], sequence: number): void {
  const head = new Uint8Array(4);
  new DataView(head.buffer).setUint16(2, group);
  const request: Request = { type: message.config, flags: NLM.ACK, body: join(head, ...attributes) };
  const bytes = encodeRequests([request], sequence);
  libc().send(fd, bytes, BigInt(bytes.length), 0);
}

/** Packets may come before the answer: what was logged before anybody listens is nobody's. */
function answerOf(fd: number): KernelError | undefined {
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const n = Number(libc().recv(fd, buffer, BigInt(buffer.length), MSG_DONTWAIT));
    if (n < 0) return lastError();
    for (const told of decodeMessages(buffer.subarray(0, n))) if (told.type === NLMSG_ERROR) return errorOf(told);
  }
}

/** undefined for what is no packet, or is of no IP version. */
function packetOf({ type, body }: Message): { packet: LoggedPacket; sequence: number } | undefined {
  if (type !== message.packet) return undefined;
  const found = attributesOf(body, 4);
  const header = found.get(PACKET.header), bytes = found.get(PACKET.payload);
  if (!header || header.length < 3 || !bytes) return undefined;
  const family = etherType[header[0]! * 256 + header[1]!];
  if (!family) return undefined;
  const index = (value: number | undefined) => (value === undefined ? undefined : bigEndian(value));
  return {
    sequence: bigEndian(readU32(found.get(PACKET.sequence)) ?? 0),
    packet: {
      ...{ family, bytes, hook: header[2]!, prefix: readText(found.get(PACKET.prefix)) ?? "" },
      inIndex: index(readU32(found.get(PACKET.inIndex))),
      outIndex: index(readU32(found.get(PACKET.outIndex))),
    },
  };
}

const u8Attribute = (type: number, value: number): Uint8Array => attribute(type, new Uint8Array([value]));

/** A number as the network writes it. */
function be(length: 2 | 4, value: number): Uint8Array {
  const out = new Uint8Array(length), view = new DataView(out.buffer);
  if (length === 2) view.setUint16(0, value);
  else view.setUint32(0, value);
  return out;
}

/** What readU32() read of a number in the network's order. */
function bigEndian(n: number): number {
  return (((n & 0xff) << 24) | ((n & 0xff00) << 8) | ((n >>> 8) & 0xff00) | (n >>> 24)) >>> 0;
}
