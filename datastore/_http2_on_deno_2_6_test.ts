import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import type { ClientHttp2Session } from "node:http2";
import { forgetEndedStreams } from "./_http2_on_deno_2_6.ts";

/** A session as Deno 2.6 makes it: under its symbol "state" it keeps every stream. */
function oldSession() {
  const streams = new Map<number, EventEmitter>();
  const request = () => {
    const stream = new EventEmitter();
    streams.set(streams.size + 1, stream);
    return stream;
  };
  const session = { [Symbol("state")]: { streams }, request };
  return { session: session as unknown as ClientHttp2Session, streams };
}

Deno.test("a session of Deno 2.6 lets go of a stream at its end, and of one that is closed before", () => {
  const { session, streams } = oldSession();
  forgetEndedStreams(session);
  const [ended, closed, open] = [session.request(), session.request(), session.request()];
  ended!.emit("end");
  closed!.emit("close");
  assert.deepEqual([...streams.values()], [open]);
});
