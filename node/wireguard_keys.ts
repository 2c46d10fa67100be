import { readIfThere, writeDurably } from "../lib/durable_file.ts";
import type { Family } from "../lib/ip.ts";
import { keyBytes, privateKeyOf } from "../lib/wireguard_key.ts";

/** A private key, and the round that it was made for. */
interface StoredKey {
  privateKey: string;
  round: string;
}

/**
 * This node's private keys of WireGuard, each in a file that only root may read, so that a device made anew has the key
 * that the other nodes know. The file: the key in base64, and in a second line the round that it was made for.
 * DIFFERS: Calico keeps the key in the device alone.
 */
export class WireguardKeyFiles {
  readonly #folder: string;
  readonly #random: () => Uint8Array;

  /** @param random makes 32 random bytes. */
  constructor(folder: string, random: () => Uint8Array) {
    this.#folder = folder;
    this.#random = random;
  }

  /** `wireguard.key`, `wireguard-v6.key`. */
  path(v: Family): string {
    return `${this.#folder}/wireguard${v === 6 ? "-v6" : ""}.key`;
  }

  /**
   * The key of a version. Where there is none, or it was made for another round, a new one is made first; an empty round
   * is content with any.
   * @throws Problem "unavailable" when it cannot be kept.
   */
  async key(v: Family, round: string): Promise<{ privateKey: string; made: boolean }> {
    const path = this.path(v);
    const stored = parse(await readIfThere(path) ?? "");
    if (stored && (round === "" || stored.round === round)) {
      if (((await Deno.stat(path)).mode ?? 0) & 0o077) await Deno.chmod(path, 0o600);
      return { privateKey: stored.privateKey, made: false };
    }
    const privateKey = privateKeyOf(this.#random());
    await writeDurably(path, `${privateKey}\n${round}\n`, 0o600);
    return { privateKey, made: true };
  }
}

/** Undefined when the file holds no key, as after a crash of the disk: then a new one is as good. */
function parse(text: string): StoredKey | undefined {
  const [privateKey = "", round = ""] = text.split("\n");
  return keyBytes(privateKey) ? { privateKey, round } : undefined;
}
