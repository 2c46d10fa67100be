import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import type { Lifecycle } from "../agent/endpoints/lifecycle.ts";

/** Where the agent listens for CNI calls. */
export const socketPath = "/run/tortie/agent.sock";

/** What the server works with. */
export interface CniServerOptions {
  /** Default: /run/tortie/agent.sock. Its folder is made with mode 0700, the socket has 0600. */
  path?: string;
  node: string;
  lifecycle: Lifecycle;
  clock: Clock;
  log: Logger;
}

/**
 * Serves CNI calls on the unix socket until it is disposed: POST /v1/cni, GET /v1/status, GET /v1/endpoints.
 * @throws Problem "exists" when another agent answers there; a socket that nobody listens on is replaced.
 */
export function serveCni(_options: CniServerOptions): Promise<AsyncDisposable> {
  throw new Error("not built yet");
}
