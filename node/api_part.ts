import { silentLog } from "../lib/log.ts";
import { messageOf } from "../lib/problem.ts";
import { agentSocket } from "../agent/agent_socket.ts";
import { serveApi } from "../api/serve.ts";
import { localSessions } from "../api/sessions.ts";
import { apiSettings } from "../api/settings.ts";
import type { Shared } from "./parts.ts";

/** Serves the API. That it cannot be served is told, and ends nothing: hosts work without it. */
export async function startApi(shared: Shared, cleanup: AsyncDisposableStack): Promise<void> {
  const { store, clock, health, metrics, settings, stateDir, runDir, signal, node } = shared;
  const log = shared.log.child("api");
  try {
    const where = apiSettings((name) => settings.get(name), { state: stateDir, run: runDir });
    const api = await serveApi({
      ...{ store, clock, random: Math.random, log, signal, health, host: node },
      metrics: () => metrics.text(),
      agent: agentSocket(`${runDir}/agent.sock`),
      sessions: () => localSessions(runDir, clock, silentLog),
    }, where);
    cleanup.use(api);
  } catch (error) {
    log.error("API is not served", { why: messageOf(error) });
  }
}
