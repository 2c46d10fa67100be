import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Store } from "../datastore/store.ts";
import type { AgentSocket } from "../agent/agent_socket.ts";
import type { Session } from "../routing/bird_status.ts";

/** What the API answers from. */
export interface ApiParts {
  store: Store;
  clock: Clock;
  random: () => number;
  log: Logger;
  /** Ends what is watched. */
  signal: AbortSignal;
  /** The host that this process runs on, as objects' histories name it. */
  host: string;
  /** Health of this process. */
  health: Health;
  /** Text of `/metrics` in Prometheus' format. */
  metrics(): Promise<string>;
  /** BGP sessions of this host; undefined when BIRD does not run here. */
  sessions(): Promise<Session[] | undefined>;
  /** The agent of this host. */
  agent: AgentSocket;
}
