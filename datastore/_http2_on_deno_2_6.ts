/**
 * What Deno 2.6's node:http2 lacks, for the binary that is compiled with its runtime stub (the newest that can be had where
 * Deno's own downloads cannot be reached). To be deleted with that stub.
 */
import type { SecureClientSessionOptions } from "node:http2";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";

/** True on Deno 2.6 and its neighbours: no "remoteSettings" event, no ping(), TLS options are ignored. */
export const isOldDeno = /^2\.[0-8]\./.test(Deno.version.deno);

type Options = SecureClientSessionOptions & { host?: string; port?: number; secureContext?: unknown };

/**
 * The same options with a TLS socket of our own making, because http2 on Deno 2.6 makes one without our certificates. It
 * takes the socket over at its "connect" event: that is told only when the handshake is done, which 2.6 else leaves to the
 * first read, where its failure is a rejection that nobody can catch and that ends the process.
 */
export function withTlsSocket(options: Options): Options {
  if (!options.secureContext || options.createConnection) return options;
  return { ...options, createConnection: () => socketOf(options) };
}

function socketOf(options: Options): TLSSocket {
  const socket = connect({ ...options, ALPNProtocols: ["h2"], manualStart: true } as ConnectionOptions);
  const once = socket.once as (event: string, handler: () => void) => TLSSocket;
  const handshaken = (taken: () => void) => () => {
    connectionOf(socket).handshake().then(taken, (error) => socket.destroy(error));
  };
  socket.once =
    ((event: string, handler: () => void) =>
      event === "connect"
        ? once.call(socket, "secureConnect", handshaken(handler))
        : once.call(socket, event, handler)) as typeof socket.once;
  return socket;
}

/** Deno's own connection below a node socket: the value under one of the symbols of one of its symbols. */
function connectionOf(socket: object): Deno.TlsConn {
  const below = (o: object) => Object.getOwnPropertySymbols(o).map((s) => (o as Record<symbol, unknown>)[s]);
  for (const handle of below(socket).filter((v) => typeof v === "object" && v !== null)) {
    for (const conn of below(handle as object)) {
      if (typeof (conn as Partial<Deno.TlsConn>)?.handshake === "function") return conn as Deno.TlsConn;
    }
  }
  throw new Error("no TLS connection below the socket: this Deno is neither 2.6 nor 2.9");
}
