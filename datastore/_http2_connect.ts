/**
 * Works around a fault of Deno 2.6 to 2.9: node:http2 emits "connect" for a client session that is destroyed already, when
 * the server closes the connection at once (seen when etcd refuses our client certificate). grpc-js then reads the socket of
 * that session in its event handler, throws a TypeError that nobody can catch, and the process ends. Here such a "connect"
 * is kept back; "error" and "close" follow and are handled. To see the fault: connect to a TLS etcd that wants a client
 * certificate without one, and print `session.destroyed` in a "connect" handler. Imported for this effect.
 */
import http2 from "node:http2";

const connect = http2.connect;

http2.connect = ((...args: Parameters<typeof connect>) => {
  const session = connect(...args);
  const emit = session.emit as (event: string | symbol, ...rest: unknown[]) => boolean;
  session.emit = (event: string | symbol, ...rest: unknown[]): boolean =>
    event === "connect" && session.destroyed ? false : emit.call(session, event, ...rest);
  return session;
}) as typeof connect;
