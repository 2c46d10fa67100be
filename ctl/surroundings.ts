import type { AgentSocket } from "../agent/agent_socket.ts";
import type { Host } from "./host.ts";
import type { Clock } from "../lib/clock.ts";
import type { Author } from "../datastore/history.ts";
import type { StoreOptions } from "../datastore/options.ts";
import type { Session } from "./session.ts";
import type { Store } from "../datastore/store.ts";

/** Everything the command line sees of the world. Tests and the case runner pass their own. */
export interface Surroundings {
  /** What the program was called: "calicoctl" or "tortie ctl". */
  program: string;
  out(text: string): void;
  err(text: string): void;
  /** All of standard input. */
  stdin(): Promise<string>;
  env(name: string): string | undefined;
  /** A file's text; undefined when there is none. @throws Problem "bad-input" when it cannot be read. */
  readFile(path: string): Promise<string | undefined>;
  /** Names in a folder, files and folders apart; undefined when the path is no folder. */
  listFolder(path: string): Promise<{ files: string[]; folders: string[] } | undefined>;
  /** What runs on this host. */
  node(): Promise<NodeView>;
  /** The machine itself, for the few commands that need it. */
  host(): Promise<Host>;
  /** The agent of this host; absent where there is no host. */
  agent?(): Promise<AgentSocket>;
  openStore(options: StoreOptions): Store | Promise<Store>;
  clock: Clock;
  uuid(): string;
  /** Who calls, for the history of what is changed; absent = none is kept. */
  author?(): Author;
  /** The remote session that the user works in, if any. */
  session?(): Promise<Session | undefined>;
  random(): number;
  /** Version of this program, as `version` prints it. */
  version: string;
  /**
   * The Calico release that the cluster's version must be equal to. Undefined = any will do.
   * DIFFERS: calicoctl refuses clusters of another version; our version says nothing about Calico's.
   */
  calicoVersion?: string;
  /** Commit that `version` prints. */
  commit: string;
  /** Standard output is a terminal. */
  screen: boolean;
  /** Standard error is a terminal, so hints for people may be added. */
  terminal: boolean;
}

/** What runs on this host. */
export interface NodeView {
  /** What the agent says of itself; undefined when none answers. */
  agent?: { problems: string[] };
  /** BGP sessions; undefined when no BIRD answers. */
  sessions?: SessionView[];
}

/** A BGP session as an operator looks at it. */
export interface SessionView {
  family: 4 | 6;
  /** Address, with its port when that is not 179. */
  peer: string;
  /** "node-to-node mesh", "global", "node specific" or "workload". */
  type: string;
  protocolState: string;
  since: string;
  info: string;
}
