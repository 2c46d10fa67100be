import { createHash } from "node:crypto";
import { writeDurably } from "../lib/durable_file.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import type { KeyValue, Range } from "./store.ts";

/** Whose content a snapshot is. */
export interface SnapshotHead {
  clusterId: string;
  /** Everything up to here is in it. */
  revision: bigint;
  range: Range;
}

/** Largest file that is written or read. */
export const maxSnapshotBytes = 512 << 20;

const format = "tortie snapshot 1";
const pieceChars = 256 * 1024;

/**
 * Writes values and what they are of into a file that replaces the old one or leaves it whole. Text: a line with the head,
 * a line `[key, value, revision, created]` a value, a line with the SHA-256 of all before. Made piece by piece, so that
 * 50 MB need no 50 MB of memory and other work goes on meanwhile.
 * @throws Problem "unavailable" when the file cannot be written or grows too large; the old one stays.
 */
export async function writeSnapshot(path: string, head: SnapshotHead, values: Iterable<KeyValue>): Promise<void> {
  await writeDurably(path, pieces(head, values), 0o600);
}

function* pieces(head: SnapshotHead, values: Iterable<KeyValue>): Generator<Uint8Array> {
  const encoder = new TextEncoder();
  const hash = createHash("sha256");
  let bytes = 0;
  const piece = (text: string): Uint8Array => {
    const encoded = encoder.encode(text);
    hash.update(encoded);
    bytes += encoded.length;
    if (bytes > maxSnapshotBytes) throw new Problem({ code: "exhausted", what: `more than ${maxSnapshotBytes} bytes` });
    return encoded;
  };
  const { clusterId, revision, range } = head;
  let text = JSON.stringify({ format, clusterId, revision: String(revision), range }) + "\n";
  for (const kv of values) {
    text += JSON.stringify([kv.key, kv.value, String(kv.revision), String(kv.created)]) + "\n";
    if (text.length < pieceChars) continue;
    yield piece(text);
    text = "";
  }
  yield piece(text);
  yield encoder.encode(`sha256 ${hash.digest("hex")}\n`);
}

/**
 * Reads a snapshot, giving each value to `take` as it comes.
 * @returns its head when the file is whole, undefined when there is none. After a throw what was taken is worthless.
 * @throws Problem "undecodable" when it is no snapshot of `range`, is cut off, or was changed.
 */
export async function readSnapshot(
  path: string,
  range: Range,
  take: (kv: KeyValue) => void,
): Promise<SnapshotHead | undefined> {
  let head: SnapshotHead | undefined;
  try {
    for await (const fields of checkedLines(path)) {
      if (head) take(valueOf(fields));
      else head = headOf(fields, range);
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    const what = `snapshot file cannot be used: ${messageOf(error)}`;
    throw new Problem({ code: "undecodable", what, where: path, todo: "It is made anew; nothing to do" });
  }
  return head;
}

function headOf(fields: unknown, range: Range): SnapshotHead {
  const h = fields as { format?: string; clusterId: string; revision: string; range: Range };
  if (h.format !== format) throw new Error("another format");
  if (h.range.start !== range.start || h.range.end !== range.end) throw new Error("another range of keys");
  return { clusterId: h.clusterId, revision: BigInt(h.revision), range };
}

function valueOf(fields: unknown): KeyValue {
  const [key, value, revision, created] = fields as [string, string, string, string];
  const changed = BigInt(revision);
  return { key, value, revision: changed, created: created === revision ? changed : BigInt(created) };
}

/** The parsed lines but the last, which must be the checksum of the others. */
async function* checkedLines(path: string): AsyncGenerator<unknown> {
  using file = await Deno.open(path, { read: true });
  const { size } = await file.stat();
  if (size > maxSnapshotBytes) throw new Error(`${size} bytes`);
  const hash = createHash("sha256");
  let last = "";
  for await (const line of lines(file)) {
    if (last !== "") {
      hash.update(last);
      yield JSON.parse(last);
    }
    last = line;
  }
  if (last !== `sha256 ${hash.digest("hex")}\n`) throw new Error("its checksum is wrong");
}

/** Lines with their line breaks; a last one without it is left out. */
async function* lines(file: Deno.FsFile): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const buffer = new Uint8Array(pieceChars);
  let rest = "";
  for (;;) {
    const n = await file.read(buffer);
    if (n === null) return;
    rest += decoder.decode(buffer.subarray(0, n), { stream: true });
    let start = 0;
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n", start)) {
      yield rest.slice(start, end + 1);
      start = end + 1;
    }
    rest = rest.slice(start);
  }
}
