import { Problem } from "../../lib/problem.ts";
import { E, KernelError, lastError, libc } from "../_ffi.ts";
import { inNetns, type Netns } from "../netns.ts";
import {
  attributesOf,
  decodeMessages,
  encodeRequests,
  headerLength,
  type Message,
  NLM,
  readText,
  type Request,
  u32,
} from "./message.ts";

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const option = { capAck: 10, extAck: 11, strictCheck: 12 };
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
const type = { error: 2, done: 3 };
const flag = { dumpInterrupted: 0x10, ackHasAttributes: 0x200 };

/** A send holds at most so many requests: their acknowledgements must fit the receive buffer. */
const maxRequests = 200;
const maxBytes = 48 * 1024;
const maxDumpTries = 20;

/** What the kernel answered to one request of a batch. */
export interface Answer {
  /** undefined = it is done. */
  error: KernelError | undefined;
  /** Messages that came with the answer, e.g. the link that was asked for. */
  messages: Message[];
}

/** Opens a netlink socket in the namespace of the calling thread. @throws KernelError. */
export function openNetlink(groups: number[], receiveBytes: number, protocol = 0): number {
  const fd = libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol);
  if (fd < 0) throw lastError();
  const size = u32(receiveBytes);
  libc().setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size as Uint8Array<ArrayBuffer>, 4);
  for (const name of [option.capAck, option.extAck, option.strictCheck]) {
    libc().setsockopt(fd, SOL_NETLINK, name, u32(1) as Uint8Array<ArrayBuffer>, 4);
  }
  const address = new Uint8Array(12);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups.reduce((mask, g) => mask | (1 << (g - 1)), 0), true);
  if (libc().bind(fd, address, address.length) < 0) {
    const error = lastError();
    libc().close(fd);
    throw error;
  }
  return fd;
}

/**
 * A netlink route socket. It keeps the namespace it was opened in, whatever the thread does later. The kernel works
 * while send() runs, so every call here is over in well under a millisecond, except deletions: those have batchLater().
 */
export class RtSocket implements Disposable {
  #sequence = 1;
  #closed = false;
  #busy = false;
  readonly #fd: number;
  readonly #buffer = new Uint8Array(64 * 1024);
  /** For dumpBytes(). */
  #room = new Uint8Array(0);
  /** Requests sent that change something; tests hold us to zero at rest. */
  writes = 0;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /**
   * Opens one in `netns`, or in the calling thread's namespace. @param protocol 0 = NETLINK_ROUTE, 12 = NETLINK_NETFILTER.
   * @throws Problem "kernel", "unsupported".
   */
  static open(netns?: Netns, protocol = 0): RtSocket {
    const open = () => openNetlink([], 1 << 20, protocol);
    try {
      return new RtSocket(netns ? inNetns(netns, open) : open());
    } catch (cause) {
      if (!(cause instanceof KernelError)) throw cause;
      throw new Problem({ code: "kernel", what: "netlink socket cannot be opened", where: netns?.path, cause });
    }
  }

  /**
   * Sends requests in order, many a system call, and reads every answer. A refused request does not stop those after it.
   * @returns one Answer a request, in the same order. @throws Problem "kernel" when the socket itself fails.
   */
  batch(requests: Request[]): Answer[] {
    return chunksOf(requests).flatMap((chunk) => {
      const { bytes, first } = this.#prepare(chunk);
      const sent = libc().send(this.#fd, bytes, BigInt(bytes.length), 0);
      if (Number(sent) < 0) throw broken("netlink request was not sent", lastError());
      return this.#answers(first, chunk.length);
    });
  }

  /** batch() for requests that take the kernel long: the event loop goes on meanwhile. One at a time. */
  async batchLater(requests: Request[]): Promise<Answer[]> {
    const all: Answer[] = [];
    for (const chunk of chunksOf(requests)) {
      const { bytes, first } = this.#prepare(chunk);
      this.#busy = true;
      try {
        const sent = await libc().sendLater(this.#fd, bytes, BigInt(bytes.length), 0);
        // Looking at `bytes` again also keeps them from being collected while the pool thread reads them.
        if (Number(sent) !== bytes.length) throw broken("netlink request was not sent", undefined);
      } finally {
        this.#busy = false;
      }
      all.push(...this.#answers(first, chunk.length));
    }
    return all;
  }

  /** One request; throws what the kernel says. @param what names the object in the Problem: "veth cali123". */
  one(request: Request, what: string): Message[] {
    const [answer] = this.batch([request]);
    if (answer!.error) throw new Problem({ code: "kernel", what: `${what} was refused`, cause: answer!.error });
    return answer!.messages;
  }

  /**
   * All objects of a kind. A dump that changed while it was read is read again.
   * @param none errnos that mean: there are none. @throws Problem "kernel".
   */
  dump(request: Request, ...none: number[]): Message[] {
    for (let tries = 0; tries < maxDumpTries; tries++) {
      const { bytes, first } = this.#prepare([{ ...request, flags: request.flags | NLM.ROOT_MATCH }], false);
      const sent = libc().send(this.#fd, bytes, BigInt(bytes.length), 0);
      if (Number(sent) < 0) throw broken("netlink dump was not sent", lastError());
      const messages = this.#dumped(first, none);
      if (messages) return messages;
    }
    throw broken("netlink dump changed at every try", undefined);
  }

  /**
   * dump() as it came, for comparing: its messages one after another, sequence numbers zeroed. Equal bytes = nothing
   * changed; decodeMessages() reads them. @throws Problem "kernel".
   */
  dumpBytes(request: Request): Uint8Array {
    for (let tries = 0; tries < maxDumpTries; tries++) {
      const { bytes, first } = this.#prepare([{ ...request, flags: request.flags | NLM.ROOT_MATCH }], false);
      const sent = libc().send(this.#fd, bytes, BigInt(bytes.length), 0);
      if (Number(sent) < 0) throw broken("netlink dump was not sent", lastError());
      let changed = false, used = 0;
      // Some dumps bring a thousand small parts: they go into one piece of memory, which is used again.
      for (let over = false; !over;) {
        if (this.#room.length - used < this.#buffer.length) this.#room = grown(this.#room);
        const length = this.#receiveInto(this.#room.subarray(used));
        const taken = takeBytes(this.#room.subarray(used, used + length), first);
        if (!taken) continue;
        const end = (used + length + 3) & ~3;
        this.#room.fill(0, used + length, end);
        used = end;
        changed ||= taken.changed;
        over = taken.over;
      }
      if (!changed) return this.#room.slice(0, used);
    }
    throw broken("netlink dump changed at every try", undefined);
  }

  /** dump() for tables that take the kernel long to walk: the event loop goes on meanwhile. One at a time. */
  async dumpLater(request: Request): Promise<Message[]> {
    for (let tries = 0; tries < maxDumpTries; tries++) {
      const { bytes, first } = this.#prepare([{ ...request, flags: request.flags | NLM.ROOT_MATCH }], false);
      this.#busy = true;
      try {
        const sent = await libc().sendLater(this.#fd, bytes, BigInt(bytes.length), 0);
        if (Number(sent) < 0) throw broken("netlink dump was not sent", undefined);
        const dump: Dump = { found: [], whole: true, sequence: first, none: [] };
        while (!takeDump(dump, await this.#receiveLater()));
        if (dump.whole) return dump.found;
      } finally {
        this.#busy = false;
      }
    }
    throw broken("netlink dump changed at every try", undefined);
  }

  #prepare(requests: Request[], acknowledged = true): { bytes: Uint8Array<ArrayBuffer>; first: number } {
    if (this.#closed) throw new Error("netlink socket is used after its end");
    if (this.#busy) throw new Error("netlink socket is used while batchLater() is under way");
    const first = this.#sequence;
    this.#sequence = (this.#sequence + requests.length) & 0x7fffffff || 1;
    if (!acknowledged) return { bytes: encodeRequests(requests, first), first };
    this.writes += requests.filter((r) => isWrite(r.type)).length;
    return { bytes: encodeRequests(requests.map((r) => ({ ...r, flags: r.flags | NLM.ACK })), first), first };
  }

  /** Answers are queued when send() returns, so nothing here waits. */
  #answers(first: number, count: number): Answer[] {
    const answers: Answer[] = Array.from({ length: count }, () => ({ error: undefined, messages: [] }));
    for (let open = count; open > 0;) {
      for (const message of decodeMessages(this.#receive())) {
        const answer = answers[message.sequence - first];
        if (!answer) continue;
        if (message.type !== type.error) answer.messages.push(message);
        else {
          answer.error = errorOf(message);
          open--;
        }
      }
    }
    return answers;
  }

  /** undefined = interrupted by a change. */
  #dumped(sequence: number, none: readonly number[]): Message[] | undefined {
    const dump: Dump = { found: [], whole: true, sequence, none };
    while (!takeDump(dump, this.#receive()));
    return dump.whole ? dump.found : undefined;
  }

  async #receiveLater(): Promise<Uint8Array> {
    const n = Number(await libc().recvLater(this.#fd, this.#buffer, BigInt(this.#buffer.length), MSG_TRUNC));
    if (n < 0 || n > this.#buffer.length) throw broken("netlink answer did not come whole", undefined);
    return this.#buffer.slice(0, n);
  }

  #receive(): Uint8Array {
    return this.#buffer.slice(0, this.#receiveInto(this.#buffer));
  }

  /** @returns the number of bytes that came. */
  #receiveInto(buffer: Uint8Array<ArrayBuffer>): number {
    const n = Number(libc().recv(this.#fd, buffer, BigInt(buffer.length), MSG_DONTWAIT | MSG_TRUNC));
    if (n < 0) throw broken("netlink answer did not come", lastError());
    if (n > buffer.length) throw broken(`netlink answer of ${n} bytes is too long`, undefined);
    return n;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    libc().close(this.#fd);
  }
}

function grown(room: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(2 * room.length + 128 * 1024);
  larger.set(room);
  return larger;
}

/** A dump while it is read. */
interface Dump {
  found: Message[];
  /** False when the table changed meanwhile. */
  whole: boolean;
  sequence: number;
  /** errnos that mean: there are none. */
  none: readonly number[];
}

/** Takes what one recv() brought. @returns true at the dump's end. */
function takeDump(dump: Dump, bytes: Uint8Array): boolean {
  for (const message of decodeMessages(bytes)) {
    if (message.sequence !== dump.sequence) continue;
    if (message.flags & flag.dumpInterrupted) dump.whole = false;
    if (message.type !== type.error && message.type !== type.done) {
      dump.found.push(message);
      continue;
    }
    const error = errorOf(message);
    if (isErrno(error, ...dump.none)) dump.found = [];
    else if (error) throw broken("netlink dump was refused", error);
    return true;
  }
  return false;
}

/**
 * Zeroes the sequence numbers of what one recv() brought of a dump; undefined = it answers something older.
 * `changed`: the table changed meanwhile.
 */
function takeBytes(bytes: Uint8Array, sequence: number): { over: boolean; changed: boolean } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let changed = false;
  for (let at = 0; at + headerLength <= bytes.length;) {
    const length = view.getUint32(at, true), kind = view.getUint16(at + 4, true);
    if (length < headerLength) break;
    if (view.getUint32(at + 8, true) !== sequence) return undefined;
    view.setUint32(at + 8, 0, true);
    if (view.getUint16(at + 6, true) & flag.dumpInterrupted) changed = true;
    if (kind === type.error || kind === type.done) {
      const [message] = decodeMessages(bytes.subarray(at));
      const error = message && errorOf(message);
      if (error) throw broken("netlink dump was refused", error);
      return { over: true, changed };
    }
    at += (length + 3) & ~3;
  }
  return { over: false, changed };
}

/** NEW, DEL and SET of every object; GETs are the third of each group of four (linux/rtnetlink.h). */
const isWrite = (messageType: number) => messageType % 4 !== 2;

function chunksOf(requests: Request[]): Request[][] {
  const chunks: Request[][] = [];
  let bytes = 0;
  for (const request of requests) {
    const length = headerLength + request.body.length + 3;
    const last = chunks.at(-1);
    if (!last || last.length === maxRequests || bytes + length > maxBytes) {
      chunks.push([request]);
      bytes = length;
    } else {
      last.push(request);
      bytes += length;
    }
  }
  return chunks;
}

/**
 * The error of an NLMSG_ERROR or NLMSG_DONE message, with the kernel's sentence when it sent one; undefined = success.
 * An error's body is errno, the request's header, then attributes; a DONE's is errno, then attributes.
 */
export function errorOf(message: Message): KernelError | undefined {
  const { body } = message;
  const code = body.length < 4 ? 0 : new DataView(body.buffer, body.byteOffset).getInt32(0, true);
  if (code === 0) return undefined;
  const from = message.type === type.error ? 4 + headerLength : 4;
  const sentence = message.flags & flag.ackHasAttributes ? readText(attributesOf(body, from).get(1)) : undefined;
  return new KernelError(-code, sentence);
}

/** True when the kernel said one of these errnos. */
export const isErrno = (error: KernelError | undefined, ...numbers: number[]): boolean =>
  error !== undefined && numbers.includes(error.errno);

export { E, KernelError };

const broken = (what: string, cause: KernelError | undefined) => new Problem({ code: "kernel", what, cause });
