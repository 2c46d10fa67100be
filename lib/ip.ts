import { Problem } from "./problem.ts";

/** IP version. */
export type Family = 4 | 6;

/** An address as a number: 32 bits (v4) or 128 bits (v6). */
export interface Ip {
  readonly v: Family;
  readonly n: bigint;
}

/** A network: `n` is masked, host bits are zero. */
export interface Cidr extends Ip {
  readonly len: number;
}

/** Bits of an address: 32 or 128. */
export const bits = (v: Family): 32 | 128 => (v === 4 ? 32 : 128);

/** Addresses of a network: 2^(bits - len). */
export const size = (c: Cidr): bigint => 1n << BigInt(bits(c.v) - c.len);

const masks: Record<Family, bigint[]> = {
  4: Array.from({ length: 33 }, (_, len) => ((1n << BigInt(len)) - 1n) << BigInt(32 - len)),
  6: Array.from({ length: 129 }, (_, len) => ((1n << BigInt(len)) - 1n) << BigInt(128 - len)),
};

/**
 * Parses an address as strictly as Go's net/netip: no leading zeros, no short forms, no zone. An IPv4-mapped IPv6
 * address (`::ffff:1.2.3.4`) is IPv4, as in Go's net.IP.
 * @returns undefined when it is not an address.
 */
export function tryParseIp(text: string): Ip | undefined {
  if (!text.includes(":")) {
    const n = parse4(text);
    return n < 0 ? undefined : { v: 4, n: BigInt(n) };
  }
  const n = parse6(text);
  if (n === undefined) return undefined;
  return n >> 32n === 0xffffn ? { v: 4, n: n & 0xffffffffn } : { v: 6, n };
}

/** tryParseIp() that throws a Problem naming `where`. */
export function parseIp(text: string, where?: string): Ip {
  const ip = tryParseIp(text);
  if (!ip) throw new Problem({ code: "bad-input", what: `"${text}" is not an IP address`, where });
  return ip;
}

/** An address with its prefix length, host bits kept: `192.168.7.11/24`. */
export interface IpNet {
  readonly ip: Ip;
  readonly cidr: Cidr;
}

/**
 * Parses `a/b` with host bits allowed; undefined when it is not that (a bare address is not). Like Go's net.ParseCIDR it
 * takes leading zeros in the length.
 */
export function tryParseNet(text: string): IpNet | undefined {
  const slash = text.indexOf("/");
  if (slash < 0) return undefined;
  const ip = tryParseIp(text.slice(0, slash));
  const lenText = text.slice(slash + 1);
  if (!ip || !/^\d+$/.test(lenText)) return undefined;
  const mapped = ip.v === 4 && text.slice(0, slash).includes(":");
  const len = Number(lenText) - (mapped ? 96 : 0);
  if (len < 0 || len > bits(ip.v)) return undefined;
  return { ip, cidr: cidrOf(ip, len) };
}

/** Parses a network; host bits are masked away. Undefined when it is not `a/b`. */
export const tryParseCidr = (text: string): Cidr | undefined => tryParseNet(text)?.cidr;

/** tryParseCidr() that throws a Problem naming `where`. */
export function parseCidr(text: string, where?: string): Cidr {
  const c = tryParseCidr(text);
  if (!c) throw new Problem({ code: "bad-input", what: `"${text}" is not a CIDR`, where });
  return c;
}

/** Parses `a/b` or a bare address (which becomes /32 or /128). */
export function tryParseCidrOrIp(text: string): Cidr | undefined {
  if (text.includes("/")) return tryParseCidr(text);
  const ip = tryParseIp(text);
  return ip && cidrOf(ip, bits(ip.v));
}

/** The network of length `len` that holds `ip`. */
export function cidrOf(ip: Ip, len: number): Cidr {
  return { v: ip.v, n: ip.n & masks[ip.v][len]!, len };
}

/** The address `offset` steps above the network's first one; may leave the network. */
export const ipAt = (c: Cidr, offset: bigint | number): Ip => ({ v: c.v, n: c.n + BigInt(offset) });

/** True when `c` holds the address or the whole network `x`. */
export function contains(c: Cidr, x: Ip | Cidr): boolean {
  if (c.v !== x.v) return false;
  if ("len" in x && x.len < c.len) return false;
  return (x.n & masks[c.v][c.len]!) === c.n;
}

/** True when the two networks share an address. */
export const overlaps = (a: Cidr, b: Cidr): boolean => contains(a, b) || contains(b, a);

/** Equal version and number (and length, for networks). */
export function sameIp(a: Ip | Cidr, b: Ip | Cidr): boolean {
  return a.v === b.v && a.n === b.n && ("len" in a ? a.len : -1) === ("len" in b ? b.len : -1);
}

/** Sort order: IPv4 before IPv6, then by number, then shorter prefixes first. */
export function compareIp(a: Ip | Cidr, b: Ip | Cidr): number {
  if (a.v !== b.v) return a.v - b.v;
  if (a.n !== b.n) return a.n < b.n ? -1 : 1;
  return ("len" in a ? a.len : 0) - ("len" in b ? b.len : 0);
}

/** Text of an address: dotted quad, or RFC 5952 (lower case, `::` for the longest run of at least two zeros). */
export function formatIp(ip: Ip): string {
  if (ip.v === 4) {
    const n = Number(ip.n);
    return `${n >>> 24}.${(n >>> 16) & 255}.${(n >>> 8) & 255}.${n & 255}`;
  }
  const groups = Array.from({ length: 8 }, (_, i) => Number((ip.n >> BigInt(112 - 16 * i)) & 0xffffn));
  const run = longestZeroRun(groups);
  const text = (part: number[]) => part.map((g) => g.toString(16)).join(":");
  if (run.length < 2) return text(groups);
  return `${text(groups.slice(0, run.at))}::${text(groups.slice(run.at + run.length))}`;
}

/** `address/len`. */
export const formatCidr = (c: Cidr): string => `${formatIp(c)}/${c.len}`;

/** `/32` or `/128` of an address, as text. */
export const hostCidr = (ip: Ip): string => `${formatIp(ip)}/${bits(ip.v)}`;

/** Network byte order: 4 or 16 bytes. */
export function ipBytes(ip: Ip): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bits(ip.v) / 8);
  for (let i = out.length - 1, n = ip.n; i >= 0; i--, n >>= 8n) out[i] = Number(n & 255n);
  return out;
}

/** The address in 4 or 16 bytes of network byte order. */
export function ipFromBytes(bytes: Uint8Array): Ip {
  let n = 0n;
  for (const b of bytes) n = (n << 8n) | BigInt(b);
  return { v: bytes.length === 4 ? 4 : 6, n };
}

/** Link-local unicast (169.254.0.0/16, fe80::/10), loopback, multicast and unspecified addresses are not global. */
export function isGlobalUnicast(ip: Ip): boolean {
  return !notGlobal.some((c) => contains(c, ip)) && !(ip.v === 4 && ip.n === 0xffffffffn);
}

const notGlobal: Cidr[] = [
  "0.0.0.0/32",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "::/128",
  "::1/128",
  "fe80::/10",
  "ff00::/8",
].map((t) => parseCidr(t));

/** Parses `aa:bb:cc:dd:ee:ff` (also with `-`) to 6 bytes; undefined when it is not a MAC. */
export function tryParseMac(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(text)) return undefined;
  return Uint8Array.from(text.split(/[:-]/), (h) => parseInt(h, 16));
}

/** Lower-case `aa:bb:cc:dd:ee:ff`. */
export const formatMac = (mac: Uint8Array): string => Array.from(mac, (b) => b.toString(16).padStart(2, "0")).join(":");

function parse4(s: string): number {
  let r = 0, o = 0, digits = 0, parts = 0;
  for (let i = 0; i <= s.length; i++) {
    const c = i < s.length ? s.charCodeAt(i) : 46;
    if (c === 46) {
      if (!digits || o > 255) return -1;
      r = r * 256 + o;
      o = digits = 0;
      parts++;
    } else if (c >= 48 && c <= 57) {
      if ((digits && o === 0) || ++digits > 3) return -1;
      o = o * 10 + c - 48;
    } else return -1;
  }
  return parts === 4 ? r : -1;
}

function parse6(s: string): bigint | undefined {
  const halves = s.split("::");
  if (halves.length > 2) return undefined;
  const head = groups6(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? groups6(halves[1]!, true) : [];
  if (!head || !tail) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  let n = 0n;
  for (const g of [...head, ...Array(missing).fill(0), ...tail]) n = (n << 16n) | BigInt(g);
  return n;
}

/** The 16-bit groups of one side of `::`; `last` says whether a dotted quad may end it. */
function groups6(s: string, last: boolean): number[] | undefined {
  if (s === "") return [];
  const out: number[] = [];
  const parts = s.split(":");
  for (const [i, p] of parts.entries()) {
    if (p.includes(".")) {
      const n = last && i === parts.length - 1 ? parse4(p) : -1;
      if (n < 0) return undefined;
      out.push(Math.floor(n / 65536), n % 65536);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(p)) out.push(parseInt(p, 16));
    else return undefined;
  }
  return out;
}

function longestZeroRun(groups: number[]): { at: number; length: number } {
  let best = { at: 0, length: 0 };
  for (let i = 0; i < 8; i++) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > best.length) best = { at: i, length: j - i };
    if (j > i) i = j;
  }
  return best;
}
