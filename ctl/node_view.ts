import { systemClock } from "../lib/clock.ts";
import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { silentLog } from "../lib/log.ts";
import { messageOf } from "../lib/problem.ts";
import { NoAnswer, type UnixAnswer, unixRequest } from "../lib/unix_http.ts";
import { Bird, birdPaths } from "../routing/bird.ts";
import type { Session } from "../routing/bird_status.ts";
import type { NodeView, SessionView } from "./surroundings.ts";

/** What calicoctl calls the sorts of sessions. */
const sessionTypes: Record<Session["kind"], string> = {
  Mesh: "node-to-node mesh",
  Global: "global",
  Node: "node specific",
  Local_Workload: "workload",
};

/** Asks the agent and BIRD of this host. @param runDir folder of their sockets. */
export async function nodeView(runDir: string): Promise<NodeView> {
  const agent = await agentView(`${runDir}/agent.sock`);
  const control = `${runDir}/bird.ctl`;
  const bird = new Bird({
    paths: { ...birdPaths, control },
    clock: systemClock,
    log: silentLog,
    startedBy: "systemd",
  });
  if (!await bird.state()) return { agent };
  return { agent, sessions: (await bird.sessions()).map(sessionView) };
}

async function agentView(socket: string): Promise<NodeView["agent"]> {
  let answer: UnixAnswer;
  try {
    answer = await unixRequest(socket, { method: "GET", target: "/v1/status", timeoutMs: 5_000 });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.ConnectionRefused) return undefined;
    if (error instanceof NoAnswer) return { problems: ["the agent does not answer"] };
    if (error instanceof Deno.errors.PermissionDenied) return { problems: [`${socket}: ${messageOf(error)}`] };
    throw error;
  }
  return { problems: problemsIn(answer.body) };
}

/** What the agent says is wrong. */
function problemsIn(body: string): string[] {
  try {
    const status = parseJson(body);
    if (!isObject(status)) return [];
    const why = status.why ?? status.error;
    return [
      ...(status.ready === false ? [`the agent is not ready: ${why ?? "starting"}`] : []),
      ...policyProblems(status),
      ...refusedObjects(status),
    ];
  } catch (error) {
    if (error instanceof SyntaxError) return ["the agent's answer cannot be read"];
    throw error;
  }
}

/** What of policy is not in force: `policy: {inSync, failed: [{where, why}]}`. */
function policyProblems({ policy }: { [name: string]: Json }): string[] {
  if (!isObject(policy) || policy.inSync !== false) return [];
  const failed = Array.isArray(policy.failed) ? policy.failed.filter(isObject) : [];
  if (failed.length === 0) return ["policy is not in force yet"];
  return failed.map(({ where, why }) => `policy is not in force as wanted: ${where}: ${why}`);
}

/** Objects that are not in force as they were written: `policy: {refused: [{object, why}]}`. */
function refusedObjects({ policy }: { [name: string]: Json }): string[] {
  const refused = isObject(policy) && Array.isArray(policy.refused) ? policy.refused.filter(isObject) : [];
  return refused.map(({ object, why }) => `${object} is not in force as it was written: ${why}`);
}

function sessionView(session: Session): SessionView {
  const { peer, port, kind, protocolState, since, state, lastError } = session;
  return {
    family: peer.includes(":") ? 6 : 4,
    peer: port ? `${peer}.port.${port}` : peer,
    type: sessionTypes[kind],
    protocolState,
    since,
    info: lastError && state !== "Established" ? `${state}: ${lastError}` : state,
  };
}
