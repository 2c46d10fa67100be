import { createPrivateKey, createPublicKey } from "node:crypto";

/** What stands before the 32 bytes of an X25519 private key in PKCS #8 (RFC 8410 section 7). */
const pkcs8 = Uint8Array.from([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20]);

/**
 * A private key of 32 random bytes as WireGuard writes it: base64, clamped as the kernel does, so that it reads back
 * as the same. Source: RFC 7748 section 5.
 */
export function privateKeyOf(random: Uint8Array): string {
  const key = random.slice(0, 32);
  key[0]! &= 248;
  key[31] = (key[31]! & 127) | 64;
  return key.toBase64();
}

/** The public key of a private one; both base64. @throws when it is no key. */
export function publicKeyOf(privateKey: string): string {
  const bytes = keyBytes(privateKey);
  if (!bytes) throw new Error("not a WireGuard key");
  const der = Uint8Array.of(...pkcs8, ...bytes);
  const key = createPrivateKey({ key: der as unknown as string, format: "der", type: "pkcs8" });
  const spki = createPublicKey(key as unknown as string).export({ format: "der", type: "spki" });
  return Uint8Array.from(spki.subarray(-32)).toBase64();
}

/** The 32 bytes of a key; undefined when the text is none, or the key of zeros, which means that there is none. */
export function keyBytes(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(text)) return undefined;
  const bytes = Uint8Array.fromBase64(text);
  return bytes.some((b) => b !== 0) ? bytes : undefined;
}
