import type { Mirror } from "../datastore/mirror.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Dataplane } from "./dataplane/apply.ts";

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

/** The agent's loop: changes of the datastore → what must hold on this node → the dataplane. Ends with the signal. */
export function runAgent(_options: AgentOptions): Promise<void> {
  throw new Error("not built yet");
}
