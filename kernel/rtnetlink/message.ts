import { type Cidr, type Family, type Ip, ipBytes, tryParseMac } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";

/** Flags of a request (linux/netlink.h). */
export const NLM = { REQUEST: 1, ACK: 4, ROOT_MATCH: 0x300, REPLACE: 0x100, EXCL: 0x200, CREATE: 0x400, APPEND: 0x800 };

/** A request before it has a sequence number. REQUEST and ACK are added when it is sent. */
export interface Request {
  type: number;
  flags: number;
  body: Uint8Array;
}

/** A message of the kernel. */
export interface Message {
  type: number;
  flags: number;
  sequence: number;
  /** Port id of who caused a notification; 0 = the kernel itself. */
  port: number;
  body: Uint8Array;
}

/** Length of `struct nlmsghdr`. */
export const headerLength = 16;

const pad = (n: number) => (n + 3) & ~3;

/** The bytes of several requests, numbered from `firstSequence` on. */
export function encodeRequests(requests: Request[], firstSequence: number): Uint8Array<ArrayBuffer> {
  const total = requests.reduce((n, r) => n + headerLength + pad(r.body.length), 0);
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  let at = 0;
  requests.forEach((r, i) => {
    view.setUint32(at, headerLength + r.body.length, true);
    view.setUint16(at + 4, r.type, true);
    view.setUint16(at + 6, r.flags | NLM.REQUEST, true);
    view.setUint32(at + 8, firstSequence + i, true);
    out.set(r.body, at + headerLength);
    at += headerLength + pad(r.body.length);
  });
  return out;
}

/** Splits what one recv() brought. Bodies are views into `bytes`. */
export function* decodeMessages(bytes: Uint8Array): Generator<Message> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + headerLength <= bytes.length;) {
    const length = view.getUint32(at, true);
    if (length < headerLength || at + length > bytes.length) return;
    yield {
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      port: view.getUint32(at + 12, true),
      body: bytes.subarray(at + headerLength, at + length),
    };
    at += pad(length);
  }
}

/** One attribute: length, type, value, padding to four bytes. */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const out = new Uint8Array(pad(4 + value.length));
  const view = new DataView(out.buffer);
  view.setUint16(0, 4 + value.length, true);
  view.setUint16(2, type, true);
  out.set(value, 4);
  return out;
}

/** An attribute that holds attributes. */
export const nested = (type: number, ...parts: Uint8Array[]): Uint8Array => attribute(type | 0x8000, join(...parts));

/** Parts one after the other. */
export function join(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Little-endian as the kernel of every machine that Deno runs on has it. */
export function u32(n: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, n, true);
  return out;
}

/** See u32(). */
export const u16 = (n: number): Uint8Array => new Uint8Array([n & 255, n >> 8]);

/** One byte. */
export const u8 = (n: number): Uint8Array => new Uint8Array([n]);

/** Zero-terminated text. */
export const text = (value: string): Uint8Array => new TextEncoder().encode(value + "\0");

/** The six bytes of `aa:bb:cc:dd:ee:ff`. @throws Problem "bad-input". */
export function macBytes(mac: string): Uint8Array {
  const bytes = tryParseMac(mac);
  if (!bytes) throw new Problem({ code: "bad-input", what: `"${mac}" is not a MAC address` });
  return bytes;
}

/** Visits the attributes of a body from byte `from` on. The nested flag is dropped from the type. */
export function eachAttribute(body: Uint8Array, from: number, visit: (type: number, value: Uint8Array) => void): void {
  for (let at = from; at + 4 <= body.length;) {
    const length = body[at]! | (body[at + 1]! << 8);
    if (length < 4 || at + length > body.length) return;
    visit((body[at + 2]! | (body[at + 3]! << 8)) & 0x3fff, body.subarray(at + 4, at + length));
    at += pad(length);
  }
}

/** The attributes of a body from byte `from` on, by type; of a repeated one the last. */
export function attributesOf(body: Uint8Array, from = 0): Map<number, Uint8Array> {
  const found = new Map<number, Uint8Array>();
  eachAttribute(body, from, (type, value) => found.set(type, value));
  return found;
}

/** Reads a u32 or the first four bytes of a longer value; undefined when absent. */
export function readU32(value: Uint8Array | undefined): number | undefined {
  if (!value || value.length < 4) return undefined;
  return (value[0]! | (value[1]! << 8) | (value[2]! << 16) | (value[3]! << 24)) >>> 0;
}

/** Text up to its zero byte; undefined when absent. */
export function readText(value: Uint8Array | undefined): string | undefined {
  if (!value) return undefined;
  const end = value.indexOf(0);
  return new TextDecoder().decode(end < 0 ? value : value.subarray(0, end));
}

/** `aa:bb:cc:dd:ee:ff`; undefined when absent or not six bytes. */
export function readMac(value: Uint8Array | undefined): string | undefined {
  if (value?.length !== 6) return undefined;
  return [...value].map((b) => b.toString(16).padStart(2, "0")).join(":");
}

/** An address of 4 or 16 bytes; undefined when absent. Tables have tens of thousands, so it is not read byte by byte. */
export function readIp(value: Uint8Array | undefined): Ip | undefined {
  if (!value || (value.length !== 4 && value.length !== 16)) return undefined;
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  if (value.length === 4) return { v: 4, n: BigInt(view.getUint32(0)) };
  return { v: 6, n: (view.getBigUint64(0) << 64n) | view.getBigUint64(8) };
}

/** AF_INET, AF_INET6. */
export const addressFamily = (v: Family): number => (v === 4 ? 2 : 10);

/** 4 or 6 from AF_INET, AF_INET6; undefined for other families. */
export const familyOf = (number: number | undefined): Family | undefined =>
  number === 2 ? 4 : number === 10 ? 6 : undefined;

/** An address attribute. */
export const ipAttribute = (type: number, ip: Ip | Cidr): Uint8Array => attribute(type, ipBytes(ip));
