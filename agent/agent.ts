import type { Mirror } from "../datastore/mirror.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Dataplane } from "./dataplane/apply.ts";
import { NetworkInputs } from "./network/inputs.ts";

/** What the agent works with. */
export interface AgentOptions {
  mirror: Pick<Mirror, "changes">;
  dataplane: Pick<Dataplane, "apply">;
  /** This node's name. */
  node: string;
  /** This node runs BIRD (CALICO_NETWORKING_BACKEND is neither `vxlan` nor `none`). */
  birdRuns: boolean;
  /** Felix's parameters: FELIX_<PARAMETER>. */
  env: (name: string) => string | undefined;
  log: Logger;
  /** Part "agent" reports here. */
  health: Health;
  signal: AbortSignal;
}

/**
 * The agent's loop: changes of the datastore → what must hold on this node → the dataplane. Ends with the signal.
 * While the ClusterInformation does not say datastoreReady nothing new is programmed and everything stays. A value that
 * cannot be read is told of, and the last good one stays in force.
 */
export async function runAgent(options: AgentOptions): Promise<void> {
  const { mirror, dataplane, log, health, signal } = options;
  const inputs = new NetworkInputs(options);
  health.register("agent");
  let pending = false;
  for await (const changes of mirror.changes(signal)) {
    const { changed, broken } = inputs.update(changes);
    for (const [key, why] of broken) log.warn("value not understood, last good one stays", { key, why });
    pending ||= changed || changes.resync;
    const ready = inputs.ready();
    health.report("agent", ready, "the cluster is not ready: ClusterInformation has no datastoreReady");
    if (!ready) log.warn("cluster is not ready, nothing new is programmed");
    if (!ready || !pending) continue;
    pending = false;
    const { desired, problems } = inputs.desired();
    for (const { setting, value } of problems) log.warn("setting not understood", { setting, value: String(value) });
    dataplane.apply(desired);
  }
}
