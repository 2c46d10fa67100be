import type { Clock } from "../../../lib/clock.ts";
import { parseRfc3339 } from "../../../lib/clock.ts";
import { isObject, type Json, parseJson } from "../../../lib/json64.ts";
import { messageOf } from "../../../lib/problem.ts";
import { unixRequest } from "../../../lib/unix_http.ts";
import type { AgentFacts, StrangerFact } from "../facts.ts";

/** How long the agent may take to answer, in ms. */
const patienceMs = 3_000;

/** Programs that do what we do, by the names of their files. */
const rivals = [
  "calico-node",
  "calico-felix",
  "felix",
  "confd",
  "flanneld",
  "kube-router",
  "cilium-agent",
  "antrea-agent",
];

/** An agent, and the environment that it runs in (undefined where only root may see it). */
export interface FoundAgent {
  facts: AgentFacts;
  env?: (name: string) => string | undefined;
}

/** Asks the agent, and looks at its process and at its journal. */
export async function lookAtAgent(runDir: string, stateDir: string, clock: Clock): Promise<FoundAgent> {
  const socket = `${runDir}/agent.sock`;
  const facts: AgentFacts = { socket, policyFailed: [], refused: [], pending: await lookAtJournal(stateDir, clock) };
  const status = await askStatus(socket);
  if (typeof status === "string") return { facts: { ...facts, silent: status } };
  const policy = isObject(status.policy) ? status.policy : {};
  const pid = typeof status.pid === "number" ? status.pid : undefined;
  return {
    facts: {
      ...facts,
      ...textsOf(status, "node", "why"),
      ready: status.ready !== false,
      policyFailed: objectsIn(policy.failed).map((o) => ({ where: String(o.where), why: String(o.why) })),
      refused: objectsIn(policy.refused).map((o) => ({ object: String(o.object), why: String(o.why) })),
      replacedProgram: pid === undefined ? undefined : replacedProgram(pid),
    },
    env: pid === undefined ? undefined : environmentOf(pid),
  };
}

/** What it says of itself; "away" when nobody listens, else why it does not answer. */
async function askStatus(socket: string): Promise<Record<string, Json> | string> {
  try {
    const answer = await unixRequest(socket, { method: "GET", target: "/v1/status", timeoutMs: patienceMs });
    const status = parseJson(answer.body);
    return isObject(status) ? status : "what it answers is no status";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return "away";
    if (error instanceof Deno.errors.PermissionDenied) throw error;
    return messageOf(error);
  }
}

function textsOf(status: Record<string, Json>, ...names: ("node" | "why")[]): Partial<Record<"node" | "why", string>> {
  return Object.fromEntries(names.filter((n) => typeof status[n] === "string").map((n) => [n, String(status[n])]));
}

const objectsIn = (value: Json | undefined): Record<string, Json>[] =>
  Array.isArray(value) ? value.filter(isObject) : [];

/** The kernel marks the program of a process whose file was replaced or removed. */
function replacedProgram(pid: number): string | undefined {
  const mark = " (deleted)";
  const program = readLink(`/proc/${pid}/exe`);
  return program?.endsWith(mark) ? program.slice(0, -mark.length) : undefined;
}

function environmentOf(pid: number): ((name: string) => string | undefined) | undefined {
  try {
    const pairs = Deno.readTextFileSync(`/proc/${pid}/environ`).split("\0").map((pair) => pair.split(/=(.*)/s));
    const values = new Map(pairs.map(([name, value]) => [name!, value ?? ""]));
    return (name) => values.get(name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return undefined;
    throw error;
  }
}

/** What waits in the journal of deletions. */
async function lookAtJournal(stateDir: string, clock: Clock): Promise<AgentFacts["pending"]> {
  let count = 0, oldestMs = 0;
  try {
    for await (const { name } of Deno.readDir(`${stateDir}/pending-del`)) {
      if (!name.endsWith(".json")) continue;
      const entry = parseJson(await Deno.readTextFile(`${stateDir}/pending-del/${name}`));
      const time = isObject(entry) && entry.because === "delete" ? parseRfc3339(String(entry.time)) : undefined;
      if (time === undefined) continue;
      count++;
      oldestMs = Math.max(oldestMs, clock.now() - time);
    }
  } catch (error) {
    // An entry that was replayed meanwhile is no entry; one that is half written is told of by the agent.
    if (!(error instanceof Deno.errors.NotFound || error instanceof SyntaxError)) throw error;
  }
  return { count, oldestMs };
}

/** Programs of this host's network that do what we do. */
export function lookAtStrangers(): StrangerFact[] {
  const own = readLink("/proc/self/ns/net");
  const found: StrangerFact[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const program = readLink(`/proc/${name}/exe`)?.replace(/ \(deleted\)$/, "");
    if (program === undefined || !rivals.includes(program.split("/").at(-1)!)) continue;
    if (readLink(`/proc/${name}/ns/net`) === own) found.push({ program, pid: Number(name) });
  }
  return found;
}

/** Undefined for a process that is gone, or is not ours to look at. */
function readLink(path: string): string | undefined {
  try {
    return Deno.readLinkSync(path);
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}
