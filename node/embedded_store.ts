import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { ownCommand, startDetached } from "../lib/process.ts";
import { defaultDeadlineMs, type StoreOptions, storeOptions } from "../datastore/options.ts";
import type { Settings } from "./settings.ts";

/** Between two looks whether the store still listens. */
const lookMs = 1_000;
/** How long a store may take to open its file, which it reads once as a whole. */
const openingMs = 30_000;

/** Where the datastore is, and what keeps it there. */
export interface Datastore {
  options: StoreOptions;
  /** Keeps the store of this host running, until the signal; undefined when there is none to keep. */
  keep?(signal: AbortSignal): Promise<void>;
}

/** What is needed to run a store beside the node. */
export interface DatastoreParts {
  settings: Settings;
  clock: Clock;
  log: Logger;
  stateDir: string;
  runDir: string;
}

/**
 * etcd as the settings say, or with TORTIE_DATASTORE=embedded the store of this host: a process of its own (`tortie store`),
 * found by its socket, so that it outlives us and we find it again. systemd starts it when TORTIE_STORE_STARTED_BY says so.
 * @throws Problem "bad-input".
 */
export function datastoreOf(parts: DatastoreParts): Datastore {
  const { settings, runDir } = parts;
  if (settings.get("TORTIE_DATASTORE") !== "embedded") {
    return { options: storeOptions({ env: (name) => settings.get(name) }) };
  }
  const other = ["ETCD_ENDPOINTS", "CALICO_ETCD_ENDPOINTS"].find((name) => settings.get(name) !== undefined);
  if (other) {
    throw new Problem({
      code: "bad-input",
      what: `TORTIE_DATASTORE is "embedded" and ${other} names an etcd`,
      where: other,
      todo: `Unset one of the two; to move to etcd, see tortie ctl datastore migrate --help`,
    });
  }
  const socket = `${runDir}/store.sock`;
  const options = { endpoints: [`unix://${socket}`], deadlineMs: defaultDeadlineMs };
  if (settings.get("TORTIE_STORE_STARTED_BY") === "systemd") return { options };
  return { options, keep: (signal) => keepStore(parts, socket, signal) };
}

/** Starts the store whenever nobody listens on its socket. */
async function keepStore(parts: DatastoreParts, socket: string, signal: AbortSignal): Promise<void> {
  const { clock, log } = parts;
  let startedAt: number | undefined;
  while (!signal.aborted) {
    const now = clock.monotonicMs();
    if (await listens(socket)) startedAt = undefined;
    else if (startedAt === undefined || now - startedAt > openingMs) {
      startedAt = now;
      log.info("starting the store of this host", { socket, log: `${parts.runDir}/store.log` });
      await startStore(parts, socket).catch((error) => {
        log.error("the store of this host cannot be started", { why: messageOf(error) });
      });
    }
    await clock.sleep(lookMs, signal).catch(() => {}); // aborted: the loop's condition ends it
  }
}

const listens = (path: string) =>
  Deno.connect({ transport: "unix", path }).then((connection) => (connection.close(), true), () => false);

/** Two starts at once: the second finds the file taken. */
async function startStore({ stateDir, runDir }: DatastoreParts, socket: string): Promise<void> {
  const store = [...ownCommand(), "store", "--file", `${stateDir}/store.db`, "--socket", socket];
  await startDetached(store, `${runDir}/store.log`);
}
