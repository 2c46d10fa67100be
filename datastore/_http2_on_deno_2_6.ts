/**
 * What Deno 2.6's node:http2 lacks, for the binary that is compiled with its runtime stub (the newest that can be had where
 * Deno's own downloads cannot be reached). To be deleted with that stub.
 */
import type { ClientHttp2Session, SecureClientSessionOptions } from "node:http2";
import type { Socket } from "node:net";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";

/** True on Deno 2.6 and its neighbours: no "remoteSettings" event, no ping(), TLS options ignored, no word of a lost connection. */
export const isOldDeno = /^2\.[0-8]\./.test(Deno.version.deno);

// A connection that breaks under an open stream: the stream's reader rejects where nobody can catch. That must not end the
// process; endWithConnection() tells those who wait.
if (isOldDeno) {
  globalThis.addEventListener("unhandledrejection", (event) => {
    if (event.reason instanceof Error && event.reason.stack?.includes("node:http2:")) event.preventDefault();
  });
}

/**
 * Destroys a connected session when its connection ends, as newer releases do by themselves; 2.6 keeps it and every call
 * fails with "broken pipe".
 */
export function endWithConnection(session: ClientHttp2Session): void {
  const symbol = Object.getOwnPropertySymbols(session).find((s) => s.description === "kPollConnPromise");
  const connection = symbol && (session as unknown as Record<symbol, unknown>)[symbol];
  if (!(connection instanceof Promise)) throw new Error("no poll of the connection: this Deno is neither 2.6 nor 2.9");
  const end = () => session.destroy(); // "close" without "error", which may have been told already
  connection.then(end, end);
}

/**
 * Lets go of a session's streams when the server has ended them; 2.6 keeps each until the session ends, with all that it
 * brought: a client grew by twice of what it read. How to see it: `Deno.memoryUsage().external` after a few large lists.
 */
export function forgetEndedStreams(session: ClientHttp2Session): void {
  const request = session.request.bind(session);
  session.request = (...args) => {
    const stream = request(...args);
    const forget = () => {
      const streams = streamsOf(session);
      for (const [id, one] of streams) if (one === stream) streams.delete(id);
    };
    // Most are never closed: 2.6 tells only their end.
    stream.once("end", forget).once("close", forget);
    return stream;
  };
}

function streamsOf(session: ClientHttp2Session): Map<unknown, unknown> {
  const symbol = Object.getOwnPropertySymbols(session).find((s) => s.description === "state");
  const state = symbol && (session as unknown as Record<symbol, { streams?: unknown }>)[symbol];
  if (!(state?.streams instanceof Map)) throw new Error("no streams of the session: this Deno is neither 2.6 nor 2.9");
  return state.streams;
}

type Options = SecureClientSessionOptions & { host?: string; port?: number; secureContext?: unknown };

/**
 * The same options with a socket that works:
 * - TLS: one of our own making, because http2 on Deno 2.6 makes one without our certificates. http2 takes it over at its
 *   "connect" event: that is told only when the handshake is done, which 2.6 else leaves to the first read, where its
 *   failure is a rejection that nobody can catch and that ends the process.
 * - plain: one that sends at once (TCP_NODELAY). http2 writes a request in two pieces, and each would wait 40 ms for the
 *   other side's acknowledgement. (TLS sockets have no such switch here and stay slow.)
 */
export function withWorkingSocket(options: Options): Options {
  const { createConnection } = options;
  if (options.secureContext && !createConnection) return { ...options, createConnection: () => tlsSocket(options) };
  if (!createConnection) return options;
  return { ...options, createConnection: (...args) => sendingAtOnce(createConnection(...args)) };
}

function sendingAtOnce<S extends object>(socket: S): S {
  (socket as unknown as Socket).once("connect", () => {
    if ((socket as unknown as Socket).remoteAddress === undefined) return; // a unix socket does not wait
    connectionOf<Deno.TcpConn>(socket, "setNoDelay").setNoDelay(true);
  });
  return socket;
}

function tlsSocket(options: Options): TLSSocket {
  const socket = connect({ ...options, ALPNProtocols: ["h2"], manualStart: true } as ConnectionOptions);
  const once = socket.once as (event: string, handler: () => void) => TLSSocket;
  const handshaken = (taken: () => void) => () => {
    connectionOf<Deno.TlsConn>(socket, "handshake").handshake().then(taken, (error) => socket.destroy(error));
  };
  socket.once =
    ((event: string, handler: () => void) =>
      event === "connect"
        ? once.call(socket, "secureConnect", handshaken(handler))
        : once.call(socket, event, handler)) as typeof socket.once;
  return socket;
}

/** Deno's own connection below a node socket: what has `method` under one of the symbols of one of its symbols. */
function connectionOf<C extends Deno.Conn>(socket: object, method: keyof C): C {
  const below = (o: object) => Object.getOwnPropertySymbols(o).map((s) => (o as Record<symbol, unknown>)[s]);
  for (const handle of below(socket).filter((v) => typeof v === "object" && v !== null)) {
    for (const conn of below(handle as object)) {
      if (typeof (conn as C | undefined)?.[method] === "function") return conn as C;
    }
  }
  throw new Error("no connection below the socket: this Deno is neither 2.6 nor 2.9");
}
