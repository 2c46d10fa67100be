/**
 * The server's side of one HTTP/2 connection without TLS (RFC 9113), as far as gRPC needs it: no push, no priorities, no
 * upgrade from HTTP/1. Of its own making, because node:http2's server on Deno 2.6 fails at each connection, and on 2.9
 * refuses clients of a unix socket, which name its path as :authority.
 */
import { HeaderReader, type Headers } from "./hpack.ts";
import {
  Code,
  ConnectionError,
  contentOf,
  Flag,
  type Frame,
  frameHead,
  FrameReader,
  joined,
  Kind,
  numbersFrame,
  Setting,
  settingsFrame,
  settingsOf,
  uint32,
} from "./frames.ts";
import { type Outlet, Stream } from "./stream.ts";

/** Bytes a client may send on one stream, or on the whole connection, before it hears from us. */
const streamWindow = 1 << 20, connectionWindow = 1 << 24;
const maxFrame = 1 << 14, maxHeaderBytes = 1 << 16, maxStreams = 10_000;
const largestWindow = 2 ** 31 - 1;

/** The reading and writing ends of a connection. */
export interface Wire {
  read(into: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
}

/**
 * Serves one connection until it ends or `signal` is aborted. `handle` is called once a stream; what it throws is its own
 * business, so it must not.
 */
export async function serveConnection(
  wire: Wire,
  handle: (stream: Stream) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const connection = new Connection(wire, handle);
  const stop = () => connection.end(Code.none);
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    await connection.run();
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

class Connection implements Outlet {
  readonly #wire: Wire;
  readonly #handle: (stream: Stream) => Promise<void>;
  readonly #streams = new Map<number, Stream>();
  readonly #headers = new HeaderReader();
  #lastStream = 0;
  /** HEADERS whose CONTINUATION is still due. */
  #block: { stream: number; endStream: boolean; parts: Uint8Array[]; size: number } | undefined;
  #unacknowledged = 0;
  #sendWindow = 65_535;
  #initialWindow = 65_535;
  #peerMaxFrame = maxFrame;
  #out: Uint8Array[] = [];
  #writing: Promise<void> | undefined;
  #over = false;

  constructor(wire: Wire, handle: (stream: Stream) => Promise<void>) {
    this.#wire = wire;
    this.#handle = handle;
  }

  async run(): Promise<void> {
    this.#send(settingsFrame([
      [Setting.maxStreams, maxStreams],
      [Setting.initialWindow, streamWindow],
      [Setting.maxFrame, maxFrame],
      [Setting.maxHeaders, maxHeaderBytes],
    ]));
    this.#send(numbersFrame(Kind.window, 0, connectionWindow - 65_535));
    const reader = new FrameReader(maxFrame), buffer = new Uint8Array(1 << 16);
    try {
      while (!this.#over) {
        const n = await this.#wire.read(buffer);
        if (n === null) break;
        for (const frame of reader.add(buffer.subarray(0, n))) this.#take(frame);
      }
      this.end(Code.none);
    } catch (error) {
      // A broken connection is the client's end; a breach is told to it.
      this.end(
        error instanceof ConnectionError ? error.code : error instanceof RangeError ? Code.compression : Code.none,
      );
    }
    await this.#writing;
  }

  /** Tells the client, ends all streams, and closes when all is written. */
  end(code: number): void {
    if (this.#over) return;
    this.#send(numbersFrame(Kind.goAway, 0, this.#lastStream, code));
    this.#over = true;
    for (const stream of this.#streams.values()) stream.lost();
    this.#streams.clear();
    (this.#writing ?? Promise.resolve()).then(() => this.#wire.close());
  }

  // --- what streams ask for -------------------------------------------------------------------------------------------

  frame(kind: number, flags: number, stream: number, payload: Uint8Array): void {
    this.#send(frameHead(kind, flags, stream, payload.length), payload);
  }

  room(): number {
    return Math.min(this.#sendWindow, this.#peerMaxFrame);
  }

  took(bytes: number): void {
    this.#sendWindow -= bytes;
  }

  widen(stream: number, bytes: number): void {
    this.#send(numbersFrame(Kind.window, stream, bytes));
  }

  closed(id: number): void {
    this.#streams.delete(id);
  }

  // --- what comes in --------------------------------------------------------------------------------------------------

  #take(frame: Frame): void {
    if (this.#block && (frame.kind !== Kind.continuation || frame.stream !== this.#block.stream)) {
      throw new ConnectionError(Code.protocol, "a header block is interrupted");
    }
    switch (frame.kind) {
      case Kind.data:
        return this.#data(frame);
      case Kind.headers:
      case Kind.continuation:
        return this.#headerFrame(frame);
      case Kind.reset:
        return this.#streams.get(frame.stream)?.lost();
      case Kind.settings:
        return this.#settings(frame);
      case Kind.ping:
        if (!(frame.flags & Flag.ack)) this.frame(Kind.ping, Flag.ack, 0, frame.payload.slice());
        return;
      case Kind.window:
        return this.#window(frame);
      case Kind.push:
        throw new ConnectionError(Code.protocol, "a client cannot push");
    }
  }

  #data(frame: Frame): void {
    this.#unacknowledged += frame.payload.length;
    if (this.#unacknowledged >= connectionWindow / 2) {
      this.#send(numbersFrame(Kind.window, 0, this.#unacknowledged));
      this.#unacknowledged = 0;
    }
    const stream = this.#streams.get(frame.stream);
    if (!stream) {
      if (frame.stream > this.#lastStream) throw new ConnectionError(Code.protocol, "DATA on an idle stream");
      return; // it was closed meanwhile
    }
    stream.received(contentOf(frame).slice(), frame.payload.length, (frame.flags & Flag.endStream) !== 0);
  }

  #headerFrame(frame: Frame): void {
    if (frame.kind === Kind.headers) {
      this.#block = { stream: frame.stream, endStream: (frame.flags & Flag.endStream) !== 0, parts: [], size: 0 };
    } else if (!this.#block) throw new ConnectionError(Code.protocol, "CONTINUATION without HEADERS");
    const block = this.#block!;
    const part = frame.kind === Kind.headers ? contentOf(frame) : frame.payload;
    block.parts.push(part.slice());
    if ((block.size += part.length) > maxHeaderBytes) throw new ConnectionError(Code.calm, "too many header bytes");
    if (!(frame.flags & Flag.endHeaders)) return;
    this.#block = undefined;
    this.#begin(block.stream, this.#headers.read(joined(block.parts)), block.endStream);
  }

  #begin(id: number, headers: Headers, endStream: boolean): void {
    const known = this.#streams.get(id);
    if (known) return known.received(new Uint8Array(0), 0, true); // trailers
    if (id % 2 === 0 || id <= this.#lastStream) {
      if (id !== 0 && id % 2 === 1) return; // trailers of a stream that is closed already
      throw new ConnectionError(Code.protocol, "a client's streams are odd and new");
    }
    this.#lastStream = id;
    if (this.#streams.size >= maxStreams) {
      return void this.#send(numbersFrame(Kind.reset, id, 7)); // REFUSED_STREAM
    }
    const stream = new Stream(this, id, headers, this.#initialWindow, streamWindow);
    this.#streams.set(id, stream);
    if (endStream) stream.received(new Uint8Array(0), 0, true);
    void this.#handle(stream);
  }

  #settings(frame: Frame): void {
    if (frame.flags & Flag.ack) return;
    for (const [name, value] of settingsOf(frame.payload)) {
      if (name === Setting.maxFrame) {
        if (value < maxFrame || value >= 1 << 24) throw new ConnectionError(Code.protocol, "MAX_FRAME_SIZE");
        this.#peerMaxFrame = value;
      } else if (name === Setting.initialWindow) {
        if (value > largestWindow) throw new ConnectionError(Code.flowControl, "INITIAL_WINDOW_SIZE");
        for (const stream of this.#streams.values()) stream.widen(value - this.#initialWindow);
        this.#initialWindow = value;
      }
    }
    this.frame(Kind.settings, Flag.ack, 0, new Uint8Array(0));
  }

  #window(frame: Frame): void {
    const more = uint32(frame.payload, 0) & largestWindow;
    if (frame.stream !== 0) return this.#streams.get(frame.stream)?.widen(more);
    this.#sendWindow += more;
    if (this.#sendWindow > largestWindow) throw new ConnectionError(Code.flowControl, "the window overflows");
    for (const stream of this.#streams.values()) {
      if (this.#sendWindow <= 0) break;
      stream.pump();
    }
  }

  // --- what goes out --------------------------------------------------------------------------------------------------

  /** Frames of one turn of the event loop go out in one write. */
  #send(...bytes: Uint8Array[]): void {
    if (this.#over) return;
    this.#out.push(...bytes);
    this.#writing ??= this.#writeAll().finally(() => this.#writing = undefined);
  }

  async #writeAll(): Promise<void> {
    await Promise.resolve();
    try {
      while (this.#out.length > 0) {
        let bytes = joined(this.#out);
        this.#out = [];
        while (bytes.length > 0) bytes = bytes.subarray(await this.#wire.write(bytes));
      }
    } catch {
      this.#out = []; // the client is gone: the reading side sees it, too
      this.end(Code.none);
    }
  }
}
