import assert from "node:assert/strict";
import { attribute, join, type Message, text, u32 } from "./message.ts";
import { E, errorOf, isErrno } from "./socket.ts";

const answer = (type: number, flags: number, body: Uint8Array): Message => ({
  type,
  flags,
  body,
  sequence: 1,
  port: 0,
});
const errno = (n: number) => u32(-n >>> 0);

Deno.test("errorOf() reads errno and the kernel's sentence of a refusal", () => {
  const body = join(errno(22), new Uint8Array(16), attribute(1, text("Invalid MTU")));
  const error = errorOf(answer(2, 0x200, body));
  assert.equal(error?.message, "EINVAL, Invalid MTU");
  assert.equal(error?.errno, E.INVAL);
});

Deno.test("errorOf() reads a dump's end, which has no request behind its errno", () => {
  const end = answer(3, 0x200, join(errno(16), attribute(1, text("changing"))));
  assert.equal(errorOf(end)?.message, "EBUSY, changing");
});

Deno.test("errorOf() is undefined for success", () => {
  assert.equal(errorOf(answer(2, 0, join(u32(0), new Uint8Array(16)))), undefined);
  assert.equal(errorOf(answer(3, 0, new Uint8Array(4))), undefined);
});

Deno.test("isErrno() knows which errors are meant", () => {
  const error = errorOf(answer(2, 0, join(errno(123), new Uint8Array(16))));
  assert.equal(error?.symbol, "errno 123");
  assert.deepEqual([isErrno(error, 122, 123), isErrno(error, 1), isErrno(undefined, 1)], [true, false, false]);
});
