import { request } from "node:http";
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
  const answered = Promise.withResolvers<import("node:http").IncomingMessage>();
  const call = request({ socketPath: path, path: target, headers: { host: "agent" } }, answered.resolve);
  call.on("error", answered.reject);
  const stop = () => call.destroy();
  signal.addEventListener("abort", stop, { once: true });
  call.end();
  try {
    const answer = await answered.promise;
    const ok = answer.statusCode === 200;
    let rest = "";
    for await (const part of answer.setEncoding("utf8")) {
      rest += part;
      if (!ok) continue;
      const whole = rest.split("\n");
      rest = whole.pop()!;
      yield* whole;
    }
    if (!ok) throw refused(answer.statusCode ?? 0, rest, path);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Problem) throw error;
    const todo = "It is answered where tortie node or tortie agent runs, to root";
    throw new Problem({
      code: "unavailable",
      what: `no agent answers on this host: ${messageOf(error)}`,
      where: path,
      todo,
    });
  } finally {
    signal.removeEventListener("abort", stop);
    call.destroy();
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
