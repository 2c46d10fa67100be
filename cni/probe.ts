import { isObject, parseJson, writeJson } from "../lib/json64.ts";
import { messageOf } from "../lib/problem.ts";
import { unixRequest } from "../lib/unix_http.ts";
import { selfTestFailed } from "./refusal.ts";

const timeoutMs = 2_000;

/**
 * `calico -t`: whether an ADD would be served. The configuration on stdin is not needed: the agent has its own.
 * @returns 0, or 1 with Calico's error object on stdout.
 */
export async function probe(socket: string): Promise<number> {
  const details = await whyNot(socket);
  if (details === undefined) return 0;
  const failure = { code: selfTestFailed, msg: "data store connection failed", details };
  Deno.stdout.writeSync(new TextEncoder().encode(writeJson(failure, 4)));
  return 1;
}

async function whyNot(socket: string): Promise<string | undefined> {
  try {
    const { status, body } = await unixRequest(socket, { method: "GET", target: "/v1/status", timeoutMs });
    if (status === 200) return undefined;
    const state = parseJson(body);
    return isObject(state) && typeof state.why === "string" ? state.why : `HTTP ${status}`;
  } catch (error) {
    return `the agent does not answer on ${socket}: ${messageOf(error)}`;
  }
}
