/** An answer of the server: its status and whole body. */
export interface UnixAnswer {
  status: number;
  body: string;
}

/** The server closed the connection, or the deadline passed, before a whole answer was there. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
}

const encoder = new TextEncoder();

/**
 * One HTTP/1.1 request over a unix socket, on a connection of its own. Hand-written because `fetch` over a unix socket
 * costs a process 9 ms and `node:http` 30 ms before the first byte, and a CNI call is a process.
 * Answers with Content-Length and chunked ones are understood (RFC 9112 §6).
 * @param timeoutMs for the whole exchange.
 * @throws Deno.errors.NotFound or ConnectionRefused when nobody listens; NoAnswer.
 */
export async function unixRequest(
  path: string,
  request: { method: string; target: string; body?: string; timeoutMs: number },
): Promise<UnixAnswer> {
  const connection = await Deno.connect({ transport: "unix", path });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    connection.close();
  }, request.timeoutMs);
  try {
    await writeAll(connection, head(request));
    return parseAnswer(await readAll(connection));
  } catch (error) {
    if (late) throw new NoAnswer(`no answer within ${request.timeoutMs} ms`);
    throw error;
  } finally {
    clearTimeout(timer);
    if (!late) connection.close();
  }
}

function head(request: { method: string; target: string; body?: string }): Uint8Array {
  const body = encoder.encode(request.body ?? "");
  const lines = `${request.method} ${request.target} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
  const first = encoder.encode(lines);
  const all = new Uint8Array(first.length + body.length);
  all.set(first);
  all.set(body, first.length);
  return all;
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let n = 0; n < bytes.length;) n += await connection.write(bytes.subarray(n));
}

async function readAll(connection: Deno.Conn): Promise<Uint8Array> {
  let all = new Uint8Array(1 << 14), length = 0;
  for (let n: number | null; (n = await connection.read(all.subarray(length))) !== null;) {
    length += n;
    if (length === all.length) {
      const larger = new Uint8Array(all.length * 2);
      larger.set(all);
      all = larger;
    }
  }
  return all.subarray(0, length);
}

/**
 * Takes a whole answer apart.
 * @throws NoAnswer when it is cut off or is not HTTP.
 */
export function parseAnswer(bytes: Uint8Array): UnixAnswer {
  const end = indexOfBlankLine(bytes);
  const lines = new TextDecoder().decode(bytes.subarray(0, Math.max(end, 0))).split("\r\n");
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(lines[0] ?? "")?.[1];
  if (end < 0 || !status) throw new NoAnswer("the connection ended before an answer");
  const headers = new Map(
    lines.slice(1).map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const rest = bytes.subarray(end + 4);
  const length = headers.get("content-length");
  const body = headers.get("transfer-encoding")?.toLowerCase() === "chunked" ? unchunk(rest) : rest;
  if (length !== undefined && body.length < Number(length)) throw new NoAnswer("the answer is cut off");
  return { status: Number(status), body: new TextDecoder().decode(body) };
}

function indexOfBlankLine(bytes: Uint8Array): number {
  for (let i = 0; i + 3 < bytes.length; i++) {
    if (bytes[i] === 13 && bytes[i + 1] === 10 && bytes[i + 2] === 13 && bytes[i + 3] === 10) return i;
  }
  return -1;
}

/** Joins the chunks (RFC 9112 §7.1); trailers are dropped. */
function unchunk(bytes: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0;;) {
    const line = bytes.indexOf(13, at);
    const size = line < 0 ? NaN : parseInt(new TextDecoder().decode(bytes.subarray(at, line)), 16);
    if (Number.isNaN(size) || line + 2 + size > bytes.length) throw new NoAnswer("the answer is cut off");
    if (size === 0) break;
    parts.push(bytes.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
