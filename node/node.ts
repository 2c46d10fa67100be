import type { Clock } from "../lib/clock.ts";
import { Backoff } from "../lib/backoff.ts";
import { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import { nodeName, nodeNameFile } from "../lib/node_name.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { createMetrics, type Metrics } from "../lib/metrics.ts";
import { openEtcd } from "../datastore/etcd.ts";
import { Mirror } from "../datastore/mirror.ts";
import { storeOptions } from "../datastore/options.ts";
import { Resources } from "../datastore/resources.ts";
import type { Store } from "../datastore/store.ts";
import { Allocator } from "../ipam/commit.ts";
import { runAgent } from "../agent/agent.ts";
import { Dataplane } from "../agent/dataplane/apply.ts";
import { Journal } from "../agent/endpoints/journal.ts";
import { type AddStep, Lifecycle } from "../agent/endpoints/lifecycle.ts";
import { Wiring } from "../agent/endpoints/wiring.ts";
import { serveCni } from "../cni/server.ts";
import { type Routing, runRouting } from "../routing/routing.ts";
import { healthSettings, serveHealth } from "./health.ts";
import { readInterfaces } from "./kernel_interfaces.ts";
import type { Settings } from "./settings.ts";
import { startUp } from "./startup.ts";

/** Which parts this process runs. */
export interface NodeRoles {
  startUp: boolean;
  agent: boolean;
  routing: boolean;
}

/** What a node process is made of. */
export interface NodeParts {
  roles: NodeRoles;
  settings: Settings;
  clock: Clock;
  log: Logger;
  /** Ends the process in order. */
  signal: AbortSignal;
}

/** Everything that several parts share. */
interface Shared extends NodeParts {
  node: string;
  store: Store;
  mirror: Mirror;
  health: Health;
  metrics: Metrics;
  stateDir: string;
  runDir: string;
}
