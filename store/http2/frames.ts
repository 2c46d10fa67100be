/** HTTP/2 frames (RFC 9113 section 4): 9 bytes of head, then the payload. */

/** Frame types that a server meets. */
export const Kind = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  push: 5,
  ping: 6,
  goAway: 7,
  window: 8,
  continuation: 9,
} as const;

/** Flags; ack and endStream share a bit. */
export const Flag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const;

/** Error codes (RFC 9113 section 7). */
export const Code = {
  none: 0,
  protocol: 1,
  internal: 2,
  flowControl: 3,
  streamClosed: 5,
  frameSize: 6,
  cancel: 8,
  compression: 9,
  calm: 11,
} as const;

/** Settings (RFC 9113 section 6.5.2). */
export const Setting = { maxStreams: 3, initialWindow: 4, maxFrame: 5, maxHeaders: 6 } as const;

/** What a client says first. */
export const preface = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** One frame. `payload` is a view of the reader's buffer: copy what is kept. */
export interface Frame {
  kind: number;
  flags: number;
  stream: number;
  payload: Uint8Array;
}

/** A breach of the protocol that ends the connection with `code`. */
export class ConnectionError extends Error {
  constructor(readonly code: number, why: string) {
    super(why);
  }
}

/** Cuts a stream of bytes into frames. */
export class FrameReader {
  #buffer: Uint8Array = new Uint8Array(0);
  #greeted = false;

  /** @param maxFrame the largest payload that the peer was allowed. */
  constructor(private readonly maxFrame: number) {}

  /** The frames that are complete with these bytes. They are valid until the next call. @throws ConnectionError */
  *add(bytes: Uint8Array): Generator<Frame> {
    let buffer = this.#buffer.length === 0 ? bytes : joined([this.#buffer, bytes]);
    if (!this.#greeted) {
      const seen = Math.min(buffer.length, preface.length);
      if (buffer.subarray(0, seen).some((b, i) => b !== preface[i])) {
        throw new ConnectionError(Code.protocol, "the client does not speak HTTP/2");
      }
      if (seen === preface.length) {
        this.#greeted = true;
        buffer = buffer.subarray(seen);
      }
    }
    while (this.#greeted && buffer.length >= 9) {
      const length = buffer[0]! << 16 | buffer[1]! << 8 | buffer[2]!;
      if (length > this.maxFrame) throw new ConnectionError(Code.frameSize, `a frame of ${length} bytes`);
      if (buffer.length < 9 + length) break;
      const payload = buffer.subarray(9, 9 + length);
      yield { kind: buffer[3]!, flags: buffer[4]!, stream: uint32(buffer, 5) & 0x7fffffff, payload };
      buffer = buffer.subarray(9 + length);
    }
    this.#buffer = buffer.slice();
  }
}

/** The head of a frame. */
export function frameHead(kind: number, flags: number, stream: number, length: number): Uint8Array {
  const head = new Uint8Array(9);
  const view = new DataView(head.buffer);
  view.setUint32(0, length << 8 | kind);
  head[4] = flags;
  view.setUint32(5, stream);
  return head;
}

/** A whole frame whose payload is a few 32-bit numbers. */
export function numbersFrame(kind: number, stream: number, ...numbers: number[]): Uint8Array {
  const payload = new Uint8Array(4 * numbers.length);
  const view = new DataView(payload.buffer);
  numbers.forEach((n, i) => view.setUint32(4 * i, n));
  return joined([frameHead(kind, 0, stream, payload.length), payload]);
}

/** A SETTINGS frame. */
export function settingsFrame(settings: [number, number][]): Uint8Array {
  const payload = new Uint8Array(6 * settings.length);
  const view = new DataView(payload.buffer);
  settings.forEach(([name, value], i) => {
    view.setUint16(6 * i, name);
    view.setUint32(6 * i + 2, value);
  });
  return joined([frameHead(Kind.settings, 0, 0, payload.length), payload]);
}

/** The settings of a SETTINGS payload. @throws ConnectionError when its length is wrong. */
export function settingsOf(payload: Uint8Array): [number, number][] {
  if (payload.length % 6 !== 0) throw new ConnectionError(Code.frameSize, "SETTINGS of a wrong length");
  const found: [number, number][] = [];
  for (let i = 0; i < payload.length; i += 6) found.push([payload[i]! << 8 | payload[i + 1]!, uint32(payload, i + 2)]);
  return found;
}

/** The content of a DATA or HEADERS frame without padding and priority. @throws ConnectionError */
export function contentOf({ kind, flags, payload }: Frame): Uint8Array {
  let start = 0, end = payload.length;
  if (flags & Flag.padded) {
    end -= payload[0] ?? 0;
    start = 1;
  }
  if (kind === Kind.headers && flags & Flag.priority) start += 5;
  if (start > end) throw new ConnectionError(Code.protocol, "padding is longer than its frame");
  return payload.subarray(start, end);
}

/** A big-endian number of 4 bytes. @throws ConnectionError when the bytes end before. */
export function uint32(bytes: Uint8Array, at: number): number {
  if (at + 4 > bytes.length) throw new ConnectionError(Code.frameSize, "a frame is too short");
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}

/** All parts behind each other. */
export function joined(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
