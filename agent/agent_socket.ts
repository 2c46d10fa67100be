import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { NoAnswer, unixRequest } from "../lib/unix_http.ts";

/** The agent of this host, as a command asks it. */
export interface AgentSocket {
  /** A whole answer; undefined when no agent runs here, or one without this. @throws Problem with the agent's words. */
  get(target: string): Promise<Json | undefined>;
  /** An answer that goes on, line by line, until it ends or the signal does. @throws Problem. */
  lines(target: string, signal: AbortSignal): AsyncGenerator<string>;
}

const timeoutMs = 30_000;

/** @param path of the agent's socket. */
export function agentSocket(path: string): AgentSocket {
  return {
    async get(target) {
      try {
        const { status, body } = await unixRequest(path, { method: "GET", target, timeoutMs });
        if (status === 404) return undefined;
        if (status !== 200) throw refused(status, body, path);
        return parseJson(body);
      } catch (error) {
        if (isNobody(error)) return undefined;
        if (!(error instanceof NoAnswer)) throw error;
        throw new Problem({ code: "unavailable", what: "the agent does not answer", where: path, cause: error });
      }
    },
    lines: (target, signal) => lines(path, target, signal),
  };
}

const isNobody = (error: unknown): boolean =>
  error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused ||
  error instanceof Deno.errors.PermissionDenied;

async function* lines(path: string, target: string, signal: AbortSignal): AsyncGenerator<string> {
  let connection: Deno.Conn | undefined;
  const stop = () => closeQuietly(connection);
  signal.addEventListener("abort", stop, { once: true });
  try {
    connection = await Deno.connect({ transport: "unix", path });
    if (signal.aborted) return stop();
    // To HTTP/1.0 a server answers without chunks, and its end is the connection's.
    await connection.write(new TextEncoder().encode(`GET ${target} HTTP/1.0\r\nHost: agent\r\n\r\n`));
    yield* bodyLines(connection.readable, path);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Problem) throw error;
    const todo = "It is answered where tortie node or tortie agent runs, to root";
    const what = `no agent answers on this host: ${messageOf(error)}`;
    throw new Problem({ code: "unavailable", what, where: path, todo });
  } finally {
    signal.removeEventListener("abort", stop);
    if (!signal.aborted) closeQuietly(connection);
  }
}

/** The body's lines as they come. @throws Problem with the agent's words when the status is not 200. */
async function* bodyLines(bytes: ReadableStream<Uint8Array<ArrayBuffer>>, path: string): AsyncGenerator<string> {
  let rest = "", status: number | undefined;
  for await (const part of bytes.pipeThrough(new TextDecoderStream())) {
    rest += part;
    if (status === undefined) {
      const end = rest.indexOf("\r\n\r\n");
      if (end < 0) continue;
      status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(rest)?.[1] ?? 0);
      rest = rest.slice(end + 4);
    }
    if (status !== 200) continue;
    const whole = rest.split("\n");
    rest = whole.pop()!;
    yield* whole;
  }
  if (status !== 200) throw refused(status ?? 0, rest, path);
}

/** At the end of its stream a connection is closed already. */
function closeQuietly(connection: Deno.Conn | undefined): void {
  try {
    connection?.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}

/** The agent's own words. */
function refused(status: number, body: string, where: string): Problem {
  let said: Json | undefined;
  try {
    said = parseJson(body);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  const what = isObject(said) && typeof said.error === "string" ? said.error : `the agent answers with ${status}`;
  return new Problem({ code: "unavailable", what, where });
}
