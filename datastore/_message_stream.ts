/** The part of grpc-js' client duplex stream that is used. */
export interface Duplex {
  on(event: "data", handler: (message: unknown) => void): unknown;
  on(event: "error", handler: (error: unknown) => void): unknown;
  on(event: "end", handler: () => void): unknown;
  write(message: unknown): unknown;
  cancel(): void;
  pause(): unknown;
  resume(): unknown;
}

const mostQueued = 16;

/**
 * A gRPC stream to pull from: `In` messages one by one, in order; the server is slowed down while they are not pulled.
 * After its end next() throws what ended it.
 */
export class MessageStream<Out, In> implements Disposable {
  readonly #duplex: Duplex;
  readonly #signal: AbortSignal;
  readonly #stop = () => this.#duplex.cancel();
  #queue: In[] = [];
  #over: Error | undefined;
  #wake: (() => void) | undefined;

  /**
   * @param failed makes what next() throws of what grpc-js says.
   * @param suspect is told when the caller found the server silent; see silent().
   */
  constructor(
    duplex: Duplex,
    signal: AbortSignal,
    failed: (error: unknown) => Error,
    private readonly suspect: () => void,
  ) {
    this.#duplex = duplex;
    this.#signal = signal;
    duplex.on("data", (message) => {
      if (this.#queue.push(message as In) >= mostQueued) duplex.pause();
      this.#wake?.();
    });
    duplex.on("error", (error) => this.#end(failed(error)));
    duplex.on("end", () => this.#end(failed({ code: 14, details: "the server ended the stream" })));
    signal.addEventListener("abort", this.#stop, { once: true });
  }

  /** Sends one message. */
  write(message: Out): void {
    this.#duplex.write(message);
  }

  /** The next message. @throws what ended the stream, when all that came before is taken; the signal's reason. */
  async next(): Promise<In> {
    for (;;) {
      if (this.#signal.aborted) throw this.#signal.reason;
      const message = this.#queue.shift();
      if (message !== undefined) {
        if (this.#queue.length === 0) this.#duplex.resume();
        return message;
      }
      if (this.#over) throw this.#over;
      await new Promise<void>((resolve) => this.#wake = resolve);
      this.#wake = undefined;
    }
  }

  /** To be called when an answer that was due did not come: the next stream goes to another member, if there is one. */
  silent(): void {
    this.suspect();
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener("abort", this.#stop);
    this.#duplex.cancel();
  }

  #end(error: Error): void {
    this.#over ??= error;
    this.#wake?.();
  }
}
