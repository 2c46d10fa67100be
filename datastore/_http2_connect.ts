/**
 * Works around how grpc-js 1.12 and Deno's node:http2 (2.6 to 2.9) take a server that accepts a connection and closes it at
 * once, as etcd does with a client certificate that it refuses, and proxies do whose server is down:
 * - http2 emits "connect" for a session that is destroyed already; grpc-js then reads its socket in the event handler and
 *   throws where nobody can catch, which ends the process.
 * - "error" and "close" come before grpc-js listens for them; it then keeps the dead session for ever and every call fails
 *   with "The session has been destroyed".
 * Here "connect" is kept back until the server has sent its HTTP/2 settings, which later releases of grpc-js wait for, too.
 * So a server that accepts and is silent does not count as connected either; it is given up after `silentMs`.
 * Deno 2.6 never tells of the settings (no "remoteSettings" from any server); there a connection that lasts `lastsMs` counts.
 * Imported for this effect. Nothing but grpc-js uses node:http2 in this program.
 */
import http2 from "node:http2";
import { systemClock } from "../lib/clock.ts";
import { endWithConnection, forgetEndedStreams, isOldDeno, withWorkingSocket } from "./_http2_on_deno_2_6.ts";

const silentMs = 10_000;
const lastsMs = 20;
const connect = http2.connect;

http2.connect =
  ((authority: string | URL, options: http2.SecureClientSessionOptions = {}) =>
    connectedBySettings(connect(authority, isOldDeno ? withWorkingSocket(options) : options))) as typeof connect;

function connectedBySettings(session: http2.ClientHttp2Session): http2.ClientHttp2Session {
  const emit = session.emit as (event: string | symbol, ...rest: unknown[]) => boolean;
  const over = new AbortController();
  if (isOldDeno) forgetEndedStreams(session);
  let connected: unknown[] | undefined, settled = false;
  const tell = () => {
    if (!connected || !settled) return;
    const rest = connected;
    over.abort();
    // In a turn of its own, after which grpc-js listens before anything else can happen to the session.
    setImmediate(() => session.destroyed || session.closed || emit.call(session, "connect", ...rest));
  };
  session.emit = (event: string | symbol, ...rest: unknown[]): boolean => {
    if (event === "close") over.abort();
    if (event !== "connect") return emit.call(session, event, ...rest);
    connected ??= rest;
    if (isOldDeno) endWithConnection(session);
    if (!isOldDeno) tell();
    else systemClock.sleep(lastsMs, over.signal).then(settle, () => {}); // closed meanwhile
    return true;
  };
  const settle = () => {
    settled = true;
    tell();
  };
  session.once("remoteSettings", settle);
  systemClock.sleep(silentMs, over.signal).then(
    () => session.destroy(new Error(`no HTTP/2 settings within ${silentMs} ms`)),
    () => {}, // connected or closed in time
  );
  return session;
}
