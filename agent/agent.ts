import type { Mirror } from "../datastore/mirror.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Dataplane } from "./dataplane/apply.ts";
import { type DesiredNetwork, NetworkInputs } from "./network/inputs.ts";
import { BrokenValues, brokenWords, Refusals } from "./refusals.ts";
import { problemsByObject } from "./settings.ts";

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
  /** Where what is not in force is told; default: the log. */
  refusals?: Refusals;
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
  const { refusals = new Refusals(log) } = options;
  const inputs = new NetworkInputs(options), values = new BrokenValues();
  health.register("agent");
  let pending = false;
  for await (const changes of mirror.changes(signal)) {
    const { changed, broken } = inputs.update(changes);
    refusals.set("network's values", values.update(changes, broken), brokenWords);
    pending ||= changed || changes.resync;
    const ready = inputs.ready();
    health.report("agent", ready, "the cluster is not ready: ClusterInformation has no datastoreReady");
    if (!ready) log.warn("cluster is not ready, nothing new is programmed");
    if (!ready || !pending) continue;
    pending = false;
    const { desired, problems, findings } = inputs.desired();
    refusals.set("network's settings", problemsByObject(problems), "setting not understood");
    refusals.set("cluster's nodes", byNode(findings), "node is not reachable as it says");
    dataplane.apply(desired);
  }
}

/** Everything that is wrong with a node, by its object. */
function byNode(findings: DesiredNetwork["findings"]): Map<string, string> {
  const found = new Map<string, string>();
  for (const { node, why } of findings) {
    const object = `Node:${node}`, said = found.get(object);
    found.set(object, said === undefined ? why : `${said}; ${why}`);
  }
  return found;
}
