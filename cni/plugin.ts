import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import { NoAnswer, unixRequest } from "../lib/unix_http.ts";
import type { PluginAnswer, PluginName, PluginRequest } from "./wire.ts";

/** Where the agent listens; TORTIE_SOCKET names another place. */
const defaultSocket = "/run/tortie/agent.sock";
/** Longest wait for the agent. An ADD gives up itself long before; a DEL without answer is done without the agent. */
const waitMs: Record<string, number> = { DEL: 15_000, GC: 120_000 };
const otherWaitMs = 90_000;

/** `tortie cni`, and the binary run as `calico` or with CNI_COMMAND set: one call of the CNI main plugin. */
export const cni = (args: string[]): Promise<number> => call("cni", args);

/** `tortie ipam`, and the binary run as `calico-ipam` or `tortie-ipam`: one call of the IPAM plugin. */
export const ipam = (args: string[]): Promise<number> => call("ipam", args);

/**
 * One call: standard input and environment to the agent, its answer to standard output. This file imports next to nothing,
 * because every pod waits for it. @returns the exit code.
 */
async function call(plugin: PluginName, args: string[]): Promise<number> {
  if (args[0] === "-v") return print((await import("../lib/version.ts")).version + "\n");
  const env = Deno.env.toObject();
  const socket = env.TORTIE_SOCKET || defaultSocket;
  if (args[0] === "-t") return await (await import("./probe.ts")).probe(socket);
  if (!env.CNI_COMMAND) return await (await import("./about.ts")).about();
  if (env.CNI_COMMAND === "VERSION") return print(await (await import("./about.ts")).versionText(readStdin()));
  const request: PluginRequest = { plugin, env, netns: absolute(env.CNI_NETNS ?? ""), stdin: readStdin() };
  const answer = await ask(socket, request) ?? await (await import("./without_agent.ts")).withoutAgent(request);
  if (answer.stderr !== "") Deno.stderr.writeSync(new TextEncoder().encode(answer.stderr + "\n"));
  print(answer.stdout);
  return answer.exit;
}

/** The agent's answer; undefined when nobody answers. */
async function ask(socket: string, request: PluginRequest): Promise<PluginAnswer | undefined> {
  const timeoutMs = waitMs[request.env.CNI_COMMAND!] ?? otherWaitMs;
  try {
    const body = writeJson(request);
    const { status, body: text } = await unixRequest(socket, { method: "POST", target: "/v1/cni", body, timeoutMs });
    const answer: Json = status === 200 ? parseJson(text) : null;
    return isObject(answer) ? answer as unknown as PluginAnswer : undefined;
  } catch (error) {
    const { NotFound, ConnectionRefused, ConnectionReset, BrokenPipe } = Deno.errors;
    const nobody = [NotFound, ConnectionRefused, ConnectionReset, BrokenPipe, NoAnswer].some((e) => error instanceof e);
    if (nobody) return undefined;
    throw error;
  }
}

/** A path that means the same namespace to the agent: not relative, and not "myself". */
function absolute(path: string): string {
  if (path === "") return "";
  const whole = path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
  return whole.replace(/^\/proc\/(self|thread-self)\//, `/proc/${Deno.pid}/`);
}

function readStdin(): string {
  let all = new Uint8Array(1 << 14), length = 0;
  for (let n: number | null; (n = Deno.stdin.readSync(all.subarray(length))) !== null;) {
    length += n;
    if (length === all.length) {
      const larger = new Uint8Array(all.length * 2);
      larger.set(all);
      all = larger;
    }
  }
  return new TextDecoder().decode(all.subarray(0, length));
}

function print(text: string): number {
  const bytes = new TextEncoder().encode(text);
  for (let n = 0; n < bytes.length;) n += Deno.stdout.writeSync(bytes.subarray(n));
  return 0;
}
