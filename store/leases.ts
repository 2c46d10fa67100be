import { refusal } from "./errors.ts";
import type { Rows } from "./rows.ts";

/** etcd's limits: what is asked below the first becomes it, what is asked above the second is refused. Seconds. */
export const shortestTtlS = 2n, longestTtlS = 9_000_000_000n;

interface Lease {
  ttlS: bigint;
  /** Monotonic milliseconds. */
  expiresAt: number;
  /** Keys as latin1 text, which sorts like bytes. */
  keys: Set<string>;
}

/**
 * The leases and their keys, in memory; who writes a key to disk also tells it here. Time is a monotonic clock, so a clock
 * that is set back or ahead ends no lease and keeps none. After a restart each lease has its whole time again.
 */
export class Leases {
  readonly #leases = new Map<bigint, Lease>();
  /** The lease of each key that has one. */
  readonly #ofKey = new Map<string, bigint>();

  /** @param nowMs monotonic. */
  constructor(rows: Rows, nowMs: number) {
    for (const { id, ttlS } of rows.leases()) this.#add(id, ttlS, nowMs);
    for (const { key, lease } of rows.leasedKeys()) this.attach(key, lease);
  }

  has(id: bigint): boolean {
    return this.#leases.has(id);
  }

  ids(): bigint[] {
    return [...this.#leases].sort(([, a], [, b]) => a.expiresAt - b.expiresAt).map(([id]) => id);
  }

  /** Makes a lease. @param id 0n = choose one. @throws Refusal */
  grant(rows: Rows, id: bigint, ttlS: bigint, random: () => bigint, nowMs: number): { id: bigint; ttlS: bigint } {
    if (ttlS > longestTtlS) throw refusal("leaseTooLong");
    if (id !== 0n && this.has(id)) throw refusal("leaseExists");
    while (id === 0n || this.has(id)) id = random() & 0x7fff_ffff_ffff_ffffn;
    const granted = ttlS < shortestTtlS ? shortestTtlS : ttlS;
    rows.addLease(id, granted);
    this.#add(id, granted, nowMs);
    return { id, ttlS: granted };
  }

  /** Begins its time anew. @returns seconds; undefined when there is no such lease. */
  renew(id: bigint, nowMs: number): bigint | undefined {
    const lease = this.#leases.get(id);
    if (!lease) return undefined;
    lease.expiresAt = nowMs + Number(lease.ttlS) * 1000;
    return lease.ttlS;
  }

  /** What is known of a lease; `keys` sorted as bytes. */
  look(id: bigint, nowMs: number): { ttlS: bigint; leftS: bigint; keys: Uint8Array[] } | undefined {
    const lease = this.#leases.get(id);
    if (!lease) return undefined;
    const leftS = BigInt(Math.max(0, Math.floor((lease.expiresAt - nowMs) / 1000)));
    return { ttlS: lease.ttlS, leftS, keys: [...lease.keys].sort().map(bytesOf) };
  }

  /** Forgets a lease whose keys are deleted already. */
  remove(rows: Rows, id: bigint): void {
    rows.removeLease(id);
    this.#leases.delete(id);
  }

  /** A key belongs to a lease from now on; 0n = to none. */
  attach(key: Uint8Array, id: bigint): void {
    const text = textOf(key);
    const old = this.#ofKey.get(text);
    if (old === id) return;
    if (old !== undefined) {
      this.#leases.get(old)?.keys.delete(text);
      this.#ofKey.delete(text);
    }
    if (id === 0n) return;
    this.#leases.get(id)?.keys.add(text);
    this.#ofKey.set(text, id);
  }

  /** Leases whose time is over. */
  expired(nowMs: number): bigint[] {
    return [...this.#leases].filter(([, l]) => l.expiresAt <= nowMs).map(([id]) => id);
  }

  /** How long until the next one expires; undefined without leases. */
  nextExpiryMs(nowMs: number): number | undefined {
    let first: number | undefined;
    for (const { expiresAt } of this.#leases.values()) first = Math.min(first ?? expiresAt, expiresAt);
    return first === undefined ? undefined : Math.max(0, first - nowMs);
  }

  #add(id: bigint, ttlS: bigint, nowMs: number): void {
    this.#leases.set(id, { ttlS, expiresAt: nowMs + Number(ttlS) * 1000, keys: new Set() });
  }
}

const latin1 = new TextDecoder("latin1");

// The "latin1" of the web is windows-1252, which moves 0x80-0x9f: bytes and back must not go through it.
function textOf(bytes: Uint8Array): string {
  if (bytes.every((b) => b < 0x80)) return latin1.decode(bytes);
  let text = "";
  for (const b of bytes) text += String.fromCharCode(b);
  return text;
}

const bytesOf = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.charCodeAt(0));
