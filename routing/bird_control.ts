import { type Clock, withDeadline } from "../lib/clock.ts";
import { Problem } from "../lib/problem.ts";

/** One line of an answer. Continuation lines carry the code of the line before. */
export interface ReplyLine {
  code: number;
  text: string;
}

/** BIRD's answer to one command. */
export interface Reply {
  /** Code of the last line: 0-999 = done, 8000-8999 = refused, 9000-9999 = not understood. */
  code: number;
  lines: ReplyLine[];
}

/**
 * Asks BIRD over its control socket; a connection a command (5 ms).
 * @throws Problem "unavailable" when nobody answers at `path` within the deadline.
 */
export function ask(path: string, command: string, clock: Clock, deadlineMs = 5_000): Promise<Reply> {
  const late = () =>
    new Problem({ code: "unavailable", what: `BIRD did not answer within ${deadlineMs} ms`, where: path });
  return withDeadline(
    deadlineMs,
    async (signal) => {
      const connection = await connect(path);
      const close = () => connection.close();
      signal.addEventListener("abort", close, { once: true });
      try {
        const replies = repliesOf(connection);
        await expectReply(replies, path);
        await connection.write(new TextEncoder().encode(`${command}\n`));
        return await expectReply(replies, path);
      } catch (cause) {
        // BIRD may end at any moment of the talk.
        if (signal.aborted || !isConnectionError(cause)) throw cause;
        throw new Problem({ code: "unavailable", what: "BIRD closed the connection", where: path, cause });
      } finally {
        signal.removeEventListener("abort", close);
        if (!signal.aborted) close();
      }
    },
    late,
    clock,
  );
}

/** Resolves to true when the BIRD at `path` ends, to false at once when none answers. Ends early with `signal`. */
export async function birdGone(path: string, signal: AbortSignal): Promise<boolean> {
  let connection: Deno.UnixConn;
  try {
    connection = await connect(path);
  } catch (error) {
    if (error instanceof Problem) return false;
    throw error;
  }
  const close = () => connection.close();
  if (signal.aborted) {
    close();
    return true;
  }
  signal.addEventListener("abort", close, { once: true });
  try {
    for (const buffer = new Uint8Array(256); await connection.read(buffer) !== null;);
  } catch (error) {
    if (!signal.aborted && !isConnectionError(error)) throw error;
  } finally {
    signal.removeEventListener("abort", close);
    if (!signal.aborted) close();
  }
  return true;
}

async function connect(path: string): Promise<Deno.UnixConn> {
  try {
    return await Deno.connect({ transport: "unix", path });
  } catch (cause) {
    throw new Problem({ code: "unavailable", what: "BIRD does not answer", where: path, cause });
  }
}

const isConnectionError = (error: unknown): boolean =>
  error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe ||
  error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted;

async function expectReply(replies: AsyncGenerator<Reply>, path: string): Promise<Reply> {
  const { value } = await replies.next();
  if (value) return value;
  throw new Problem({ code: "unavailable", what: "BIRD closed the connection", where: path });
}

/** Splits what BIRD sends into answers: `NNNN-text` goes on, `NNNN text` ends, ` text` continues the line before. */
async function* repliesOf(connection: Deno.UnixConn): AsyncGenerator<Reply> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(64 * 1024);
  let rest = "";
  let lines: ReplyLine[] = [];
  for (;;) {
    const n = await connection.read(buffer);
    if (n === null) return;
    const parts = (rest + decoder.decode(buffer.subarray(0, n), { stream: true })).split("\n");
    rest = parts.pop()!;
    for (const part of parts) {
      const [, code, mark, text] = /^(\d{4})([ -])(.*)$/.exec(part) ?? [];
      if (code === undefined) lines.push({ code: lines.at(-1)?.code ?? 0, text: part.slice(1) });
      else {
        lines.push({ code: Number(code), text: text! });
        if (mark === "-") continue;
        yield { code: Number(code), lines };
        lines = [];
      }
    }
  }
}
