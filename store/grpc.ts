/**
 * gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md), the server's side: one answer to one request, or a stream in
 * both directions. No compression.
 */
import type { Logger } from "../lib/log.ts";
import { messageOf } from "../lib/problem.ts";
import { Refusal, Status } from "./errors.ts";
import { writeHeaders } from "./http2/hpack.ts";
import type { Stream } from "./http2/stream.ts";
import type { Message } from "./protobuf.ts";

/** The server's end of a stream in both directions. */
export interface Call<Answer> {
  send(answer: Answer): void;
  /** Bytes that wait because the client does not read. */
  readonly backlog: number;
  /** Resolves when nothing waits. */
  drained(): Promise<void>;
  /** Aborted when the client is gone. */
  readonly signal: AbortSignal;
}

/** How to serve one stream: resolves when the store ends it, rejects with a Refusal to end it with an error. */
export type Serve<Request, Answer> = (requests: AsyncGenerator<Request>, call: Call<Answer>) => Promise<void>;

/** One method, with its types forgotten. */
export type Method = (stream: Stream, log: Logger) => Promise<void>;

/** The largest request, in bytes: etcd's 1.5 MiB and half a MiB for what is around it. */
export const maxRequestBytes = 2 << 20;

const answerHead = writeHeaders([[":status", "200"], ["content-type", "application/grpc"]]);
const allIsWell = writeHeaders([["grpc-status", "0"]]);

/** A method with one request and one answer. @param answer is told the request's bytes; may throw a Refusal. */
export function unary<Request, Answer>(
  request: Message<Request>,
  response: Message<Answer>,
  answer: (request: Request, bytes: number) => Promise<Answer> | Answer,
): Method {
  return (stream, log) =>
    guarded(stream, log, async () => {
      const { value, done } = await requestsOf(stream, request).next();
      if (done) throw new Refusal(Status.internal, "the call has no request");
      const bytes = framed(response, await answer(value.message, value.bytes));
      stream.respond(answerHead);
      stream.write(bytes);
      stream.finish(allIsWell);
    });
}

/** A method with a stream in both directions. */
export function streaming<Request, Answer>(
  request: Message<Request>,
  response: Message<Answer>,
  serve: Serve<Request, Answer>,
): Method {
  return (stream, log) =>
    guarded(stream, log, async () => {
      stream.respond(answerHead);
      await serve(messagesOf(requestsOf(stream, request)), {
        send: (answer) => stream.write(framed(response, answer)),
        get backlog() {
          return stream.backlog;
        },
        drained: () => stream.drained(),
        signal: stream.signal,
      });
      stream.finish(allIsWell);
    }, true);
}

/** Answers a stream by the table of methods, whose keys are paths such as `/etcdserverpb.KV/Range`. */
export function answering(methods: ReadonlyMap<string, Method>, log: Logger): (stream: Stream) => Promise<void> {
  return (stream) => {
    const path = stream.headers.get(":path") ?? "";
    const method = methods.get(path);
    if (method && isGrpc(stream)) return method(stream, log);
    return guarded(stream, log, () => {
      if (!isGrpc(stream)) {
        throw new Refusal(Status.internal, "invalid gRPC request: content-type is not application/grpc");
      }
      const [, service = "", name = ""] = path.split("/");
      throw new Refusal(Status.unimplemented, `unknown method ${name} for service ${service}`);
    });
  };
}

const isGrpc = (stream: Stream) => /^application\/grpc($|[+;])/.test(stream.headers.get("content-type") ?? "");

/** Ends the call with a status whatever happens. */
async function guarded(stream: Stream, log: Logger, work: () => Promise<void> | void, headSent = false): Promise<void> {
  try {
    await work();
  } catch (error) {
    const { code, message } = error instanceof Refusal ? error : new Refusal(Status.unknown, messageOf(error));
    if (!(error instanceof Refusal)) {
      log.error("a call failed by a bug", { path: stream.headers.get(":path"), why: message, stack: stackOf(error) });
    }
    const status: [string, string][] = [["grpc-status", String(code)], ["grpc-message", percentEncoded(message)]];
    stream.finish(writeHeaders(
      headSent ? status : [[":status", "200"], ["content-type", "application/grpc"], ...status],
    ));
  }
}

const stackOf = (error: unknown) => error instanceof Error ? error.stack : undefined;

/** Printable ASCII but for the percent sign, all else as %XX of its UTF-8. */
const percentEncoded = (text: string) =>
  Array.from(
    new TextEncoder().encode(text),
    (b) =>
      b >= 0x20 && b < 0x7f && b !== 0x25
        ? String.fromCharCode(b)
        : `%${b.toString(16).toUpperCase().padStart(2, "0")}`,
  )
    .join("");

/** A message behind its head: not compressed, and its length. */
function framed<T>(type: Message<T>, value: T): Uint8Array {
  const bytes = type.encode(value, 5);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(1, bytes.length - 5);
  return bytes;
}

/** The messages that a client sends. @throws Refusal when one is too large, compressed or malformed. */
async function* requestsOf<T>(stream: Stream, type: Message<T>): AsyncGenerator<{ message: T; bytes: number }> {
  let held = new Uint8Array(0);
  for (;;) {
    while (held.length >= 5) {
      const length = new DataView(held.buffer, held.byteOffset).getUint32(1);
      if (held[0] !== 0) throw new Refusal(Status.unimplemented, "grpc: compressed messages are not taken");
      if (length > maxRequestBytes) {
        const words = `grpc: received message larger than max (${length} vs. ${maxRequestBytes})`;
        throw new Refusal(Status.resourceExhausted, words);
      }
      if (held.length < 5 + length) break;
      yield { message: decoded(type, held.subarray(5, 5 + length)), bytes: length };
      held = held.subarray(5 + length);
    }
    const more = await stream.read();
    if (!more) return;
    held = held.length === 0 ? Uint8Array.from(more) : concatenated(held, more);
  }
}

async function* messagesOf<T>(requests: AsyncGenerator<{ message: T }>): AsyncGenerator<T> {
  for await (const { message } of requests) yield message;
}

function decoded<T>(type: Message<T>, bytes: Uint8Array): T {
  try {
    return type.decode(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new Refusal(Status.internal, `grpc: error unmarshalling request: ${error.message}`);
  }
}

function concatenated(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
