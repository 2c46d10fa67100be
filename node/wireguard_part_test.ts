import assert from "node:assert/strict";
import { privateKeyOf, publicKeyOf } from "../lib/wireguard_key.ts";
import { publishedKey, withKeys } from "./wireguard_part.ts";

const [secret, other] = [1, 2].map((n) => privateKeyOf(new Uint8Array(32).fill(n))) as [string, string];
const device = (privateKey: string) => ({ privateKey, port: 51820, mark: 0x200000 });

Deno.test("a public key is published once its device works with it, and taken back when there is none", () => {
  assert.equal(publishedKey(secret, device(secret)), publicKeyOf(secret));
  assert.equal(publishedKey(secret, device(other)), undefined, "the device still has the old key");
  assert.equal(publishedKey(secret, undefined), undefined, "the device is not looked at yet");
  assert.equal(publishedKey(secret, "refused"), "");
  assert.equal(publishedKey(undefined, undefined), "");
});

Deno.test("a Node's status gets its keys and loses them; everything else in it stays", () => {
  const node = { kind: "Node", spec: { x: 1 }, status: { podCIDRs: ["10.0.0.0/24"], wireguardPublicKeyV6: "b" } };
  const status = { podCIDRs: ["10.0.0.0/24"], wireguardPublicKey: "a" };
  assert.deepEqual(withKeys(node, { 4: "a", 6: "" }), { ...node, status });
  assert.equal(withKeys(node, { 4: "", 6: "b" }), undefined);
  assert.equal(withKeys(node, { 4: undefined, 6: undefined }), undefined);
  assert.deepEqual(withKeys({ kind: "Node" }, { 4: "a", 6: undefined }), {
    kind: "Node",
    status: { wireguardPublicKey: "a" },
  });
});
