import assert from "node:assert/strict";
import { keyBytes, privateKeyOf, publicKeyOf } from "./wireguard_key.ts";

Deno.test("publicKeyOf() says what `wg pubkey` says of a key of `wg genkey`", () => {
  const [secret, stated] = [
    "QBdTTc8jU0FqknDkW/H8SLq/8eXvDeUiZrUm1WmfiVY=",
    "61nHJ7sO1/nvaKbwzy5NSbMlFeZve97SuYIYIn3fizw=",
  ];
  assert.equal(publicKeyOf(secret), stated);
  assert.equal(privateKeyOf(keyBytes(secret)!), secret, "it is clamped already");
});

Deno.test("a private key is clamped as the kernel does", () => {
  const key = keyBytes(privateKeyOf(new Uint8Array(32).fill(255)))!;
  assert.deepEqual([key[0], key[31]], [248, 127]);
});

Deno.test("keyBytes() refuses what is no key, and the key of zeros", () => {
  const zeros = new Uint8Array(32).toBase64();
  assert.equal(keyBytes("jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgY=")?.length, 32);
  for (const bad of ["", "jlkV", zeros, "jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgZ=", " " + zeros]) {
    assert.equal(keyBytes(bad), undefined, bad);
  }
  assert.throws(() => publicKeyOf(zeros));
});
