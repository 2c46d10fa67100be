import type { Mirror } from "../datastore/mirror.ts";
import type { Clock } from "../lib/clock.ts";
import type { Health } from "../lib/health.ts";
import type { Logger } from "../lib/log.ts";
import type { Problem } from "../lib/problem.ts";
import type { Session } from "./bird_status.ts";

/** Where BIRD lies and how it is started. Everything can be moved, for tests and for namespaces. */
export interface BirdPaths {
  /** The configuration that BIRD reads. Default `/run/tortie/bird.conf`. */
  config: string;
  /** Its control socket. Default `/run/tortie/bird.ctl`. */
  control: string;
  /** Its pid file. Default `/run/tortie/bird.pid`. */
  pid: string;
  /** Program and leading arguments, such as `ip netns exec h1 bird`. Default `bird`. */
  program: string[];
  /** BIRD's log file (rotated once at 1 MiB); undefined = syslog. */
  log?: string;
  /** Folder of Calico's sockets `bird.ctl` and `bird6.ctl`, which we answer; undefined = none. Default `/var/run/calico`. */
  calicoSockets?: string;
  /** Folder of BGP passwords for hosts without Kubernetes: `<secret name>/<key>`. Default `/etc/tortie/secrets`. */
  secrets?: string;
  /** Folder whose `endpoint-status` tells of local workload peers. Default `/var/run/calico`. */
  endpointStatus?: string;
}

/** What routing is made of. */
export interface RoutingOptions {
  mirror: Mirror;
  /** This node's name. */
  node: string;
  paths?: Partial<BirdPaths>;
  clock: Clock;
  log: Logger;
  health: Health;
  /** CALICO_ROUTER_ID, CALICO_ADVERTISE_CLUSTER_IPS, CALICO_K8S_NODE_REF, CALICO_ENDPOINT_STATUS_PATH_PREFIX. */
  env: (name: string) => string | undefined;
  /** Ends the loop. BIRD and its routes stay. */
  signal: AbortSignal;
  /** Nothing is announced for the first time before this resolves. A BIRD that runs already is not touched by it. */
  dataplaneReady?: Promise<void>;
  /** Who starts BIRD: we, detached (default), or systemd, which is then only waited for. */
  startedBy?: "us" | "systemd";
}

/** What routing tells of itself. */
export interface RoutingStatus {
  /** BIRD answers on its socket. */
  running: boolean;
  version?: string;
  routerId?: string;
  /** RFC 3339 without zone, as BIRD prints it in local time. */
  startedAt?: string;
  reconfiguredAt?: string;
  /** True while BIRD recovers from a graceful restart. */
  recovering: boolean;
  sessions: Session[];
  /** Objects that could not be used, or only in part. */
  problems: Problem[];
  /** First line of the error of the last configuration that was refused; undefined when the last one was taken. */
  lastError?: string;
  /** Times that BIRD was told to configure, and configurations refused, since this process started. */
  configures: number;
  refused: number;
}

/** A running loop from the mirror to BIRD. */
export interface Routing {
  /** Resolves after `signal`; rejects on a bug. */
  readonly done: Promise<void>;
  /** Asks BIRD now. */
  status(): Promise<RoutingStatus>;
}

/** Starts the loop: mirror → inputs → peers → text → BIRD. Returns at once. */
export function runRouting(_options: RoutingOptions): Routing {
  throw new Error("not built yet");
}
