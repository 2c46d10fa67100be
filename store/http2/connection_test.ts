import assert from "node:assert/strict";
import fc from "fast-check";
import { serveConnection, type Wire } from "./connection.ts";
import {
  Code,
  Flag,
  type Frame,
  frameHead,
  FrameReader,
  joined,
  Kind,
  numbersFrame,
  preface,
  settingsFrame,
} from "./frames.ts";
import { writeHeaders } from "./hpack.ts";
import type { Stream } from "./stream.ts";

const headers = (id: number, endStream = false) => {
  const block = writeHeaders([[":method", "POST"], [":path", "/x"], ["content-type", "application/grpc"]]);
  return joined([frameHead(Kind.headers, Flag.endHeaders | (endStream ? Flag.endStream : 0), id, block.length), block]);
};
const data = (id: number, bytes: Uint8Array, flags = 0) =>
  joined([frameHead(Kind.data, flags, id, bytes.length), bytes]);
const noSettings = settingsFrame([]);

/** A client whose bytes are given; what the server wrote comes back as frames. */
async function talk(parts: Uint8Array[], handle: (stream: Stream) => Promise<void>): Promise<Frame[]> {
  const written: Uint8Array[] = [], waiting = [...parts];
  const wire: Wire = {
    async read(into) {
      await new Promise((resolve) => setImmediate(resolve)); // as a socket: what was written is out
      const part = waiting.shift();
      if (!part) return null;
      into.set(part.subarray(0, into.length));
      if (part.length > into.length) waiting.unshift(part.subarray(into.length));
      return Math.min(part.length, into.length);
    },
    write(bytes) {
      const some = bytes.slice(0, 1 + bytes.length / 2); // a socket may take less than it is given
      written.push(some);
      return Promise.resolve(some.length);
    },
    close() {},
  };
  await serveConnection(wire, handle, new AbortController().signal);
  const reader = new FrameReader(1 << 20);
  [...reader.add(preface)];
  return [...reader.add(joined(written))].map((f) => ({ ...f, payload: f.payload.slice() }));
}

const endOf = (frames: Frame[]) =>
  new DataView(frames.find((f) => f.kind === Kind.goAway)!.payload.buffer).getUint32(4);

async function echo(stream: Stream): Promise<void> {
  stream.respond(writeHeaders([[":status", "200"]]));
  for (let part = await stream.read(); part; part = await stream.read()) stream.write(part);
  stream.finish(writeHeaders([["grpc-status", "0"]]));
}

Deno.test("a request is answered, however its bytes are cut; a ping comes back", async () => {
  const body = new Uint8Array(5_000).map((_, i) => i);
  const ping = joined([frameHead(Kind.ping, 0, 0, 8), new Uint8Array(8).fill(7)]);
  const said = joined([preface, noSettings, headers(1), ping, data(1, body), data(1, body, Flag.endStream)]);
  for (const size of [5, 1_000, said.length]) {
    const parts = Array.from({ length: Math.ceil(said.length / size) }, (_, i) => said.slice(i * size, (i + 1) * size));
    const frames = await talk(parts, echo);
    const back = joined(frames.filter((f) => f.kind === Kind.data).map((f) => f.payload));
    assert.deepEqual(back, joined([body, body]));
    assert.ok(frames.some((f) => f.kind === Kind.ping && f.flags === Flag.ack && f.payload[0] === 7));
    assert.ok(frames.some((f) => f.kind === Kind.headers && f.flags & Flag.endStream), "trailers");
    assert.equal(endOf(frames), Code.none);
  }
});

Deno.test("no more is sent than the client's windows allow, of the stream and of the connection", async () => {
  const large = new Uint8Array(200_000).fill(1);
  const handle = (stream: Stream) => {
    stream.respond(writeHeaders([[":status", "200"]]));
    stream.write(large);
    stream.finish(writeHeaders([["grpc-status", "0"]]));
    return Promise.resolve();
  };
  const sent = (frames: Frame[]) =>
    frames.filter((f) => f.kind === Kind.data).reduce((n, f) => n + f.payload.length, 0);
  const ended = (frames: Frame[]) => frames.some((f) => f.kind === Kind.headers && f.flags & Flag.endStream);
  const begin = joined([preface, noSettings, headers(1, true)]);
  const small = joined([preface, settingsFrame([[4, 1_000]]), headers(1, true)]);
  const more = (stream: number, bytes: number) => numbersFrame(Kind.window, stream, bytes);
  const cases: [Uint8Array[], number][] = [
    [[begin], 65_535],
    [[small], 1_000],
    [[small, more(1, 500)], 1_500],
    [[small, settingsFrame([[4, 3_000]])], 3_000],
    [[begin, more(1, 1 << 20)], 65_535],
    [[begin, more(1, 1 << 20), more(0, 10_000)], 75_535],
    [[begin, more(0, 1 << 20), more(1, 1 << 20)], 200_000],
  ];
  for (const [parts, expected] of cases) {
    const frames = await talk(parts, handle);
    assert.equal(sent(frames), expected);
    assert.equal(ended(frames), expected === 200_000, "trailers come after all bytes");
  }
});

Deno.test("breaches end the connection with their code, and lost streams are told", async () => {
  const cases: [Uint8Array, number][] = [
    [new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Code.protocol],
    [joined([preface, noSettings, headers(2)]), Code.protocol],
    [joined([preface, noSettings, data(5, new Uint8Array(1))]), Code.protocol],
    [joined([preface, noSettings, frameHead(Kind.data, 0, 1, 1 << 20)]), Code.frameSize],
    [
      joined([preface, noSettings, frameHead(Kind.headers, Flag.endHeaders, 1, 1), Uint8Array.of(0x80)]),
      Code.compression,
    ],
    [joined([preface, noSettings, frameHead(Kind.headers, 0, 1, 0), noSettings]), Code.protocol],
    [joined([preface, numbersFrame(Kind.window, 0, 0x7fffffff)]), Code.flowControl],
  ];
  for (const [said, code] of cases) assert.equal(endOf(await talk([said], echo)), code);
  const lost = Promise.withResolvers<boolean>();
  await talk([joined([preface, noSettings, headers(1)]), numbersFrame(Kind.reset, 1, Code.cancel)], async (stream) => {
    while (await stream.read());
    lost.resolve(stream.signal.aborted);
  });
  assert.equal(await lost.promise, true);
});

Deno.test("no bytes of a client throw in the server's face", async () => {
  const frame = fc.tuple(fc.nat(10), fc.nat(255), fc.nat(6), fc.uint8Array({ maxLength: 40 }))
    .map(([kind, flags, id, payload]) => joined([frameHead(kind, flags, id, payload.length), payload]));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.oneof(frame, fc.constant(headers(1)), fc.constant(headers(3, true)))),
      async (frames) => {
        await talk([joined([preface, ...frames])], echo);
      },
    ),
    { numRuns: 60 },
  );
});
