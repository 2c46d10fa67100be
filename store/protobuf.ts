/**
 * Protocol Buffers as far as etcd's messages need them (protobuf.dev/programming-guides/encoding): proto3 scalars, enums as
 * numbers, messages, repeated fields. A message is a table of its fields; 64-bit integers are bigint.
 */

/** Scalars of proto3 that etcd uses. "enum" and "int32" are numbers, "int64" and "uint64" bigints. */
export type Scalar = "int64" | "uint64" | "int32" | "enum" | "bool" | "bytes" | "string";

/** One field: its number, what it holds (a message is named lazily, for messages hold each other), how many. */
export interface Field {
  n: number;
  is: Scalar | (() => unknown);
  many?: true;
}

/** A message type: bytes to values and back. Scalars that are missing are zero, messages that are missing undefined. */
export interface Message<T> {
  /** @throws RangeError when the bytes are no such message. */
  decode(bytes: Uint8Array): T;
  /** @param before bytes to leave free in front, for a frame's head. */
  encode(value: T, before?: number): Uint8Array;
}

/** Declares a message by its fields. @example message<Pair>({ key: { n: 1, is: "bytes" }, value: { n: 2, is: "bytes" } }) */
export function message<T extends object>(fields: { [K in keyof Required<T>]: Field }): Message<T> {
  return new Table(fields) as unknown as Message<T>;
}

type Value = bigint | number | boolean | string | Uint8Array | Values | undefined;
interface Values {
  [name: string]: Value | Value[];
}

const zero: Record<Scalar, () => Value> = {
  int64: () => 0n,
  uint64: () => 0n,
  int32: () => 0,
  enum: () => 0,
  bool: () => false,
  bytes: () => new Uint8Array(0),
  string: () => "",
};

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder();

class Table {
  readonly #fields: [string, Field][];
  readonly #byNumber = new Map<number, [string, Field]>();

  constructor(fields: Record<string, Field>) {
    this.#fields = Object.entries(fields);
    for (const entry of this.#fields) this.#byNumber.set(entry[1].n, entry);
  }

  decode(bytes: Uint8Array): Values {
    const out: Values = {};
    for (const [name, { is, many }] of this.#fields) {
      out[name] = many ? [] : typeof is === "string" ? zero[is]() : undefined;
    }
    const reader = new Reader(bytes);
    while (!reader.atEnd()) {
      const tag = reader.number();
      const known = this.#byNumber.get(tag >>> 3);
      if (!known) {
        reader.skip(tag & 7);
        continue;
      }
      const [name, { is, many }] = known;
      if (!many) out[name] = this.#value(reader, is, tag & 7);
      else if ((tag & 7) === 2 && is !== "bytes" && is !== "string" && typeof is === "string") {
        const packed = new Reader(reader.bytes());
        while (!packed.atEnd()) (out[name] as Value[]).push(this.#value(packed, is, 0));
      } else (out[name] as Value[]).push(this.#value(reader, is, tag & 7));
    }
    return out;
  }

  #value(reader: Reader, is: Field["is"], wire: number): Value {
    const delimited = typeof is === "function" || is === "bytes" || is === "string";
    if (wire !== (delimited ? 2 : 0)) throw new RangeError(`wire type ${wire} where another is due`);
    if (typeof is === "function") return (is() as Table).decode(reader.bytes());
    switch (is) {
      case "bytes":
        return reader.bytes();
      case "string":
        return fromUtf8.decode(reader.bytes());
      case "int64":
        return reader.int64();
      case "uint64":
        return BigInt.asUintN(64, reader.int64());
      case "bool":
        return reader.int64() !== 0n;
      default:
        return Number(BigInt.asIntN(32, reader.int64()));
    }
  }

  encode(value: Values, before = 0): Uint8Array {
    const writer = new Writer();
    this.write(writer, value);
    writer.skip(before);
    return writer.taken();
  }

  /** Writes from the last field to the first, so that lengths are known when they are due. */
  write(writer: Writer, value: Values): void {
    for (let i = this.#fields.length - 1; i >= 0; i--) {
      const [name, { n, is, many }] = this.#fields[i]!;
      const v = value[name];
      if (many) {
        for (const one of (v as Value[] | undefined ?? []).toReversed()) writeField(writer, n, is, one, true);
      } else writeField(writer, n, is, v as Value, false);
    }
  }
}

function writeField(writer: Writer, n: number, is: Field["is"], value: Value, keepZero: boolean): void {
  if (value === undefined) return;
  if (typeof is === "function") {
    const end = writer.at();
    (is() as Table).write(writer, value as Values);
    writer.number(end - writer.at());
    writer.number(n << 3 | 2);
  } else if (is === "bytes" || is === "string") {
    const bytes = typeof value === "string" ? utf8.encode(value) : value as Uint8Array;
    if (bytes.length === 0 && !keepZero) return;
    writer.bytes(bytes);
    writer.number(bytes.length);
    writer.number(n << 3 | 2);
  } else {
    const whole = BigInt(value as bigint | number | boolean);
    if (whole === 0n && !keepZero) return;
    writer.varint(whole);
    writer.number(n << 3);
  }
}

/** Reads from the front. */
class Reader {
  #at = 0;

  constructor(private readonly from: Uint8Array) {}

  atEnd(): boolean {
    return this.#at >= this.from.length;
  }

  /** A varint below 2^32, such as a tag or a length. */
  number(): number {
    const first = this.from[this.#at]!;
    if (first < 0x80) {
      this.#at++;
      return first;
    }
    const value = this.int64();
    if (value < 0n || value > 0xffffffffn) throw new RangeError("a length beyond 2^32");
    return Number(value);
  }

  int64(): bigint {
    let low = 0, shift = 0; // the first 49 bits fit a number
    for (; shift < 49; shift += 7) {
      const byte = this.#byte();
      low += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return BigInt(low);
    }
    let value = BigInt(low);
    for (; shift < 70; shift += 7) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << BigInt(shift);
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    throw new RangeError("a varint beyond 10 bytes");
  }

  bytes(): Uint8Array {
    const length = this.number();
    if (this.#at + length > this.from.length) throw new RangeError("a field is longer than its message");
    return this.from.subarray(this.#at, this.#at += length);
  }

  /** Passes over a field that is not known. */
  skip(wire: number): void {
    if (wire === 0) this.int64();
    else if (wire === 1) this.#at += 8;
    else if (wire === 2) this.bytes();
    else if (wire === 5) this.#at += 4;
    else throw new RangeError(`wire type ${wire}`);
    if (this.#at > this.from.length) throw new RangeError("the message is cut off");
  }

  #byte(): number {
    const byte = this.from[this.#at++];
    if (byte === undefined) throw new RangeError("the message is cut off");
    return byte;
  }
}

/** Fills a buffer from its end towards its front. */
class Writer {
  #buffer = new Uint8Array(512);
  #at = 512;

  /** Bytes that are written so far, negated: `at() - at()` of two moments is what came between. */
  at(): number {
    return this.#at - this.#buffer.length;
  }

  bytes(bytes: Uint8Array): void {
    this.skip(bytes.length);
    this.#buffer.set(bytes, this.#at);
  }

  /** A varint of a whole number that is not negative. */
  number(value: number): void {
    if (value < 0x80) {
      this.skip(1);
      this.#buffer[this.#at] = value;
    } else this.varint(BigInt(value));
  }

  varint(value: bigint): void {
    const bytes: number[] = [];
    let rest = BigInt.asUintN(64, value);
    for (; rest > 0x7fffffffn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
    let small = Number(rest);
    for (; small > 0x7f; small >>>= 7) bytes.push(small & 0x7f | 0x80);
    bytes.push(small);
    this.skip(bytes.length);
    this.#buffer.set(bytes, this.#at);
  }

  /** Makes room in front. */
  skip(count: number): void {
    if (this.#at < count) {
      const used = this.#buffer.length - this.#at;
      const larger = new Uint8Array(Math.max(this.#buffer.length * 2, used + count + 512));
      larger.set(this.#buffer.subarray(this.#at), larger.length - used);
      this.#buffer = larger;
      this.#at = larger.length - used;
    }
    this.#at -= count;
  }

  taken(): Uint8Array {
    return this.#buffer.subarray(this.#at);
  }
}
