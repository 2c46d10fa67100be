import { Flag, Kind } from "./frames.ts";
import type { Headers } from "./hpack.ts";

/** What a stream asks of its connection. */
export interface Outlet {
  frame(kind: number, flags: number, stream: number, payload: Uint8Array): void;
  /** Bytes of DATA that one frame may carry now; 0 or less: wait for a pump(). */
  room(): number;
  took(bytes: number): void;
  /** Lets the client send that many bytes more on a stream. */
  widen(stream: number, bytes: number): void;
  closed(id: number): void;
}

/** One request and its answer. Its life ends when both sides ended, or when it is lost. */
export class Stream {
  readonly #outlet: Outlet;
  readonly #id: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly #ended = new AbortController();
  readonly #inWindow: number;
  // incoming
  readonly #in: Uint8Array[] = [];
  #inEnded = false;
  #unacknowledged = 0;
  #wake: (() => void) | undefined;
  // outgoing
  #window: number;
  #out: Uint8Array[] = [];
  #backlog = 0;
  #trailers: Uint8Array | undefined;
  #outEnded = false;
  #drained: (() => void)[] = [];

  constructor(outlet: Outlet, id: number, headers: Headers, sendWindow: number, receiveWindow: number) {
    this.#outlet = outlet;
    this.#id = id;
    this.headers = new Map(headers);
    this.#window = sendWindow;
    this.#inWindow = receiveWindow;
  }

  /** Aborted when the client gave the stream up, or the connection is gone. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** The next bytes of the request; undefined at its end, and when the stream is lost. */
  async read(): Promise<Uint8Array | undefined> {
    while (this.#in.length === 0 && !this.#inEnded && !this.signal.aborted) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return this.#in.shift();
  }

  /** Sends the answer's header block. */
  respond(block: Uint8Array): void {
    if (!this.#outEnded) this.#outlet.frame(Kind.headers, Flag.endHeaders, this.#id, block);
  }

  /** Sends bytes of the answer, as soon as the client's windows allow. */
  write(bytes: Uint8Array): void {
    if (this.#outEnded) return;
    this.#out.push(bytes);
    this.#backlog += bytes.length;
    this.pump();
  }

  /** Bytes that wait for the client's windows. */
  get backlog(): number {
    return this.#backlog;
  }

  /** Resolves when nothing waits, or the stream is lost. */
  drained(): Promise<void> {
    if (this.#backlog === 0 || this.#outEnded) return Promise.resolve();
    return new Promise((resolve) => this.#drained.push(resolve));
  }

  /** Ends the answer with a header block, after all bytes. */
  finish(trailers: Uint8Array): void {
    this.#trailers = trailers;
    this.pump();
  }

  // --- called by the connection ---------------------------------------------------------------------------------------

  /** @param length what counts for flow control: the bytes with their padding. */
  received(bytes: Uint8Array, length: number, last: boolean): void {
    if (bytes.length > 0) this.#in.push(bytes);
    if (last) this.#inEnded = true;
    else if ((this.#unacknowledged += length) >= this.#inWindow / 2) {
      this.#outlet.widen(this.#id, this.#unacknowledged);
      this.#unacknowledged = 0;
    }
    this.#wake?.();
    this.#wake = undefined;
  }

  widen(bytes: number): void {
    this.#window += bytes;
    this.pump();
  }

  /** Sends what the windows allow. */
  pump(): void {
    if (this.#outEnded) return;
    while (this.#backlog > 0) {
      const room = Math.min(this.#outlet.room(), this.#window);
      if (room <= 0) return;
      const piece = this.#piece(room);
      this.#window -= piece.length;
      this.#backlog -= piece.length;
      this.#outlet.took(piece.length);
      this.#outlet.frame(Kind.data, 0, this.#id, piece);
    }
    this.#wakeDrained();
    if (!this.#trailers) return;
    this.#outEnded = true;
    this.#outlet.frame(Kind.headers, Flag.endHeaders | Flag.endStream, this.#id, this.#trailers);
    // The request's rest is not wanted: the answer is complete (RFC 9113 section 8.1).
    if (!this.#inEnded) this.#outlet.frame(Kind.reset, 0, this.#id, new Uint8Array(4));
    this.#outlet.closed(this.#id);
  }

  /** The client gave it up, or the connection is gone. */
  lost(): void {
    this.#outEnded = true;
    this.#out = [];
    this.#backlog = 0;
    this.#outlet.closed(this.#id);
    this.#ended.abort(new Error("the client is gone"));
    this.#wake?.();
    this.#wakeDrained();
  }

  #piece(room: number): Uint8Array {
    const first = this.#out[0]!;
    if (first.length <= room) return this.#out.shift()!;
    this.#out[0] = first.subarray(room);
    return first.subarray(0, room);
  }

  #wakeDrained(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }
}
