import assert from "node:assert/strict";
import { privateKeyOf, publicKeyOf } from "../lib/wireguard_key.ts";
import { parseIp } from "../lib/ip.ts";
import { collectWireguard, publishedKey, withKeys } from "./wireguard_part.ts";

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

Deno.test("metrics of WireGuard are told anew at each look, with Felix's labels", () => {
  const told: unknown[] = [];
  const metrics = {
    add: (...all: unknown[]) => void told.push(all),
    set: (...all: unknown[]) => void told.push(all),
    clear: (name: string) => void told.push(name),
  };
  const peer = { device: "w", publicKey: "P", keepaliveSeconds: 0, allowed: [], handshakeSeconds: 7 };
  const endpoint = { ip: parseIp("2001:db8::1"), port: 51821 };
  const peers = new Map([["P", { ...peer, endpoint, receivedBytes: 5n, sentBytes: 6n }]]);
  collectWireguard([{ name: "w", device: device(secret), publicKey: "K", peers }], "n1", metrics);
  const labels = { hostname: "n1", public_key: "K", peer_key: "P", peer_endpoint: "[2001:db8::1]:51821" };
  assert.deepEqual(told, [
    ...["wireguard_meta", "wireguard_bytes_rcvd", "wireguard_bytes_sent", "wireguard_latest_handshake_seconds"],
    ["wireguard_meta", 1, { hostname: "n1", public_key: "K", iface: "w", listen_port: "51820" }],
    ["wireguard_bytes_rcvd", 5, labels],
    ["wireguard_bytes_sent", 6, labels],
    ["wireguard_latest_handshake_seconds", 7, labels],
  ]);
});
