/**
 * HPACK (RFC 7541): reads header lists with Huffman texts and the dynamic table; writes them without either, so that what is
 * written never depends on what was written before.
 */

/** Names in lower case and values, in order. */
export type Headers = [string, string][];

/** Appendix A: the static table, from index 1 on. */
const staticTable: Headers = (
  ":authority;:method=GET;:method=POST;:path=/;:path=/index.html;:scheme=http;:scheme=https;:status=200;" +
  ":status=204;:status=206;:status=304;:status=400;:status=404;:status=500;accept-charset;" +
  "accept-encoding=gzip, deflate;accept-language;accept-ranges;accept;access-control-allow-origin;age;" +
  "allow;authorization;cache-control;content-disposition;content-encoding;content-language;content-length;" +
  "content-location;content-range;content-type;cookie;date;etag;expect;expires;from;host;if-match;" +
  "if-modified-since;if-none-match;if-range;if-unmodified-since;last-modified;link;location;max-forwards;" +
  "proxy-authenticate;proxy-authorization;range;referer;refresh;retry-after;server;set-cookie;" +
  "strict-transport-security;transfer-encoding;user-agent;vary;via;www-authenticate"
).split(";").map((entry) => {
  const [name, value = ""] = entry.split("=", 2) as [string, string?];
  return [name, value];
});

/** Appendix B: the length of each byte's code, then of the end's, as letters: A = 5 bits. The code itself is canonical. */
const codeLengths = "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCC" +
  "CCDCDIOIJBKABABABBBACCBBBABCBAABCCCCCKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRT" +
  "QRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVVWWWWWXWWWWWVZ";

const latin1 = new TextDecoder("latin1");

/** For each length the first code, how many there are, and where their symbols begin in `symbols`. */
const { symbols, rows } = canonical(Array.from(codeLengths, (c) => c.charCodeAt(0) - 60));

function canonical(lengths: number[]): { symbols: number[]; rows: { code: number; count: number; at: number }[] } {
  const symbols = [...lengths.keys()].sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  const rows: { code: number; count: number; at: number }[] = [];
  for (let bits = 0, code = 0, at = 0; bits <= 30; bits++) {
    const count = lengths.filter((l) => l === bits).length;
    rows.push({ code, count, at });
    at += count;
    code = (code + count) * 2;
  }
  return { symbols, rows };
}

/** Reads a text in Huffman code. @throws RangeError when it holds the end's code, or padding that is not ones. */
export function fromHuffman(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  let code = 0, bits = 0;
  for (const byte of bytes) {
    for (let mask = 0x80; mask > 0; mask >>= 1) {
      code = code * 2 + (byte & mask ? 1 : 0);
      bits++;
      const row = rows[bits];
      if (!row) throw new RangeError("no such Huffman code");
      if (code - row.code >= row.count) continue;
      const symbol = symbols[row.at + code - row.code]!;
      if (symbol === 256) throw new RangeError("the end's Huffman code within a text");
      out.push(symbol);
      code = bits = 0;
    }
  }
  if (bits > 7 || code !== 2 ** bits - 1) throw new RangeError("Huffman padding is not ones");
  return new Uint8Array(out);
}

/** Reads the header blocks of one connection, in order. */
export class HeaderReader {
  readonly #recent: Headers = [];
  readonly #limit: number;
  #size = 0;
  #maxSize: number;

  /** @param limit bytes that the dynamic table may take, as told to the peer (SETTINGS_HEADER_TABLE_SIZE). */
  constructor(limit = 4096) {
    this.#limit = this.#maxSize = limit;
  }

  /** @throws RangeError when the block is malformed; the connection is then useless. */
  read(block: Uint8Array): Headers {
    const headers: Headers = [];
    const from = { block, at: 0 };
    while (from.at < block.length) {
      const first = block[from.at]!;
      if (first & 0x80) headers.push(this.#entry(integer(from, 7)));
      else if ((first & 0xe0) === 0x20) this.#resize(integer(from, 5));
      else {
        const kept = (first & 0x40) !== 0;
        const index = integer(from, kept ? 6 : 4);
        const name = index === 0 ? text(from) : this.#entry(index)[0];
        const header: [string, string] = [name, text(from)];
        if (kept) this.#keep(header);
        headers.push(header);
      }
    }
    return headers;
  }

  #entry(index: number): [string, string] {
    const entry = index <= staticTable.length ? staticTable[index - 1] : this.#recent[index - staticTable.length - 1];
    if (!entry) throw new RangeError(`no header has index ${index}`);
    return entry;
  }

  #keep(header: [string, string]): void {
    this.#recent.unshift(header);
    this.#size += sizeOf(header);
    this.#evict();
  }

  #resize(size: number): void {
    if (size > this.#limit) throw new RangeError("the header table is made larger than allowed");
    this.#maxSize = size;
    this.#evict();
  }

  #evict(): void {
    while (this.#size > this.#maxSize) this.#size -= sizeOf(this.#recent.pop()!);
  }
}

const sizeOf = ([name, value]: [string, string]) => name.length + value.length + 32;

interface From {
  block: Uint8Array;
  at: number;
}

function integer(from: From, bits: number): number {
  const most = 2 ** bits - 1;
  let value = from.block[from.at++]! & most;
  if (value < most) return value;
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = from.block[from.at++];
    if (byte === undefined) throw new RangeError("the header block is cut off");
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return value;
  }
  throw new RangeError("an integer of the header block is too large");
}

function text(from: From): string {
  const huffman = (from.block[from.at] ?? 0) & 0x80;
  if (from.at >= from.block.length) throw new RangeError("the header block is cut off");
  const length = integer(from, 7);
  const bytes = from.block.subarray(from.at, from.at += length);
  if (bytes.length < length) throw new RangeError("the header block is cut off");
  return latin1.decode(huffman ? fromHuffman(bytes) : bytes);
}

/** Writes a header block: entries of the static table by index, the rest as literals that nobody keeps. ASCII only. */
export function writeHeaders(headers: Headers): Uint8Array {
  const out: number[] = [];
  const put = (value: number, bits: number, pattern: number) => {
    const most = 2 ** bits - 1;
    if (value < most) return out.push(pattern | value);
    out.push(pattern | most);
    for (value -= most; value > 0x7f; value = Math.floor(value / 128)) out.push(value % 128 | 0x80);
    out.push(value);
  };
  const say = (s: string) => {
    put(s.length, 7, 0);
    for (let i = 0; i < s.length; i++) out.push(s.charCodeAt(i) & 0xff);
  };
  for (const [name, value] of headers) {
    const whole = staticTable.findIndex(([n, v]) => n === name && v === value);
    if (whole >= 0) put(whole + 1, 7, 0x80);
    else {
      put(0, 4, 0);
      say(name);
      say(value);
    }
  }
  return new Uint8Array(out);
}
