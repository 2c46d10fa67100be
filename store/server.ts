/** The store as a running thing: its file, its sockets, and what it does by itself. */
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { messageOf, Problem } from "../lib/problem.ts";
import { Commits } from "./commits.ts";
import { answering } from "./grpc.ts";
import { serveConnection } from "./http2/connection.ts";
import type { Stream } from "./http2/stream.ts";
import { Leases } from "./leases.ts";
import { Model } from "./model.ts";
import type { Rows } from "./rows.ts";
import { damaged, isCorrupt, isFull, openRows } from "./sqlite.ts";
import { services } from "./services.ts";
import { type History, Watches } from "./watches.ts";

/** How to run a store. */
export interface StoreServerOptions {
  /** The SQLite file; made, with its folder, when it is missing. */
  file: string;
  /** Unix socket to listen on, mode 0600. One that nobody listens on any more is replaced. */
  socket: string;
  /** Loopback TCP beside it. 0 = a free port. Who can reach it may do anything. */
  port?: number;
  /** How many revisions stay readable behind the newest one. */
  keepRevisions?: bigint;
  clock: Clock;
  log: Logger;
}

/** A store that listens. */
export interface StoreServer extends AsyncDisposable {
  /** What clients name: the unix socket, then http://127.0.0.1:port. */
  readonly endpoints: string[];
  /** Rejects when the store cannot go on (damaged file, failing disk); resolves when it was closed. */
  readonly over: Promise<void>;
}

/** Revisions that stay readable: a watch that was away for no longer than these gets all it missed. */
const defaultKeep = 10_000n;
/** How often old revisions are looked for, and the longest sleep until a lease may be over. */
const compactEveryMs = 60_000, leaseLookMs = 500;

/**
 * Opens the file, then listens: who finds the socket finds a store that answers.
 * @throws Problem when the file or a socket cannot be had.
 */
export async function startStore(options: StoreServerOptions): Promise<StoreServer> {
  await Deno.mkdir(folderOf(options.file), { recursive: true, mode: 0o700 });
  const store = new RunningStore(options);
  try {
    await store.listen();
    return store;
  } catch (error) {
    await store[Symbol.asyncDispose]();
    throw error;
  }
}

const folderOf = (path: string) => path.slice(0, path.lastIndexOf("/")) || ".";

class RunningStore implements StoreServer {
  readonly endpoints: string[] = [];
  readonly over: Promise<void>;
  readonly #options: StoreServerOptions;
  readonly #log: Logger;
  readonly #commits: Commits;
  readonly #watches: Watches;
  readonly #rows: Rows;
  readonly #stop = new AbortController();
  readonly #listeners: Deno.Listener[] = [];
  readonly #connections = new Set<Promise<void>>();
  readonly #answer: (stream: Stream) => Promise<void>;
  #own: Promise<unknown>[] = [];
  #ended: { resolve(): void; reject(error: unknown): void };

  constructor(options: StoreServerOptions) {
    const { clock, file } = options;
    this.#options = options;
    this.#log = options.log.child("store", { file });
    const { promise, ...ended } = Promise.withResolvers<void>();
    this.over = promise;
    this.over.catch(() => {}); // told to who waits for it
    this.#ended = ended;
    const rows = this.#rows = openRows(file);
    const load = () => new Model(rows, new Leases(rows, clock.monotonicMs()), rows.numbers());
    this.#commits = new Commits({
      load,
      defer: setImmediate,
      committed: (what) => this.#watches.committed(what),
      kindOf: (error) => isFull(error) ? "full" : "fatal",
      fatal: (error) => this.#fatal(error),
      log: this.#log,
    });
    this.#watches = new Watches(this.#history(), clock);
    const parts = {
      commits: this.#commits,
      watches: this.#watches,
      clock,
      random: randomId,
      clientUrls: this.endpoints,
    };
    this.#answer = answering(services(parts), this.#log);
  }

  async listen(): Promise<void> {
    const { socket, port } = this.#options;
    this.#listeners.push(await listenAt(socket));
    this.endpoints.push(`unix://${socket}`);
    if (port !== undefined) {
      const tcp = Deno.listen({ hostname: "127.0.0.1", port });
      this.#listeners.push(tcp);
      this.endpoints.push(`http://127.0.0.1:${tcp.addr.port}`);
    }
    const { signal } = this.#stop;
    this.#own = [
      ...this.#listeners.map((listener) => this.#accept(listener)),
      this.#endLeases(signal),
      this.#forgetOld(signal),
      this.#watches.tellProgress(signal),
    ].map((work) => work.catch((error) => signal.aborted || this.#fatal(error)));
    const { revision } = this.#commits.numbers;
    this.#log.info("store is open", { endpoints: this.endpoints.join(" "), revision });
  }

  /** Answers what it has taken, closes connections and the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#commits.end();
    this.#stop.abort(new Error("the store is closed"));
    for (const listener of this.#listeners) listener.close();
    await Promise.all([...this.#own, ...this.#connections]);
    this.#rows[Symbol.dispose]();
    this.#ended.resolve();
  }

  #history(): History {
    const rows = this.#rows;
    return {
      numbers: () => this.#commits.numbers,
      changes: (keys, from, to, limit) => rows.history(keys, from, to, limit),
      before: (key, revision) => {
        if (revision < this.#commits.numbers.compacted) return undefined;
        return rows.at({ start: key, end: new Uint8Array(0) }, revision, 1n)[0];
      },
      settled: () => this.#commits.settled !== undefined,
      header: (revision) => {
        const { clusterId, memberId } = this.#commits.numbers;
        return { cluster_id: clusterId, member_id: memberId, revision, raft_term: 1n };
      },
    };
  }

  async #accept(listener: Deno.Listener): Promise<void> {
    for await (const connection of listener) {
      // A gRPC answer is several small frames: none may wait for the other side's acknowledgement.
      if ("setNoDelay" in connection) (connection as Deno.TcpConn).setNoDelay(true);
      const served = serveConnection(wireOf(connection), this.#answer, this.#stop.signal);
      this.#connections.add(served);
      served.finally(() => this.#connections.delete(served));
    }
  }

  async #endLeases(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      await clock.sleep(leaseLookMs, signal);
      const over = await this.#commits.read((model) => model.leases.expired(clock.monotonicMs()));
      for (const id of over) {
        await this.#commits.write((model) => model.leases.has(id) && model.revoke(id)).catch((error) => {
          this.#log.warn("a lease that is over could not be ended", { lease: String(id), why: messageOf(error) });
        });
      }
    }
  }

  async #forgetOld(signal: AbortSignal): Promise<void> {
    const keep = this.#options.keepRevisions ?? defaultKeep;
    for (;;) {
      await this.#options.clock.sleep(compactEveryMs, signal);
      const { revision, compacted } = await this.#commits.read((model) => model.numbers);
      if (revision - (compacted < 0n ? 0n : compacted) < 2n * keep) continue;
      await this.#commits.write((model) => model.compact(revision - keep)).catch((error) => {
        this.#log.warn("old revisions could not be dropped", { why: messageOf(error) });
      });
      this.#commits.settled?.rows.shrink();
    }
  }

  #fatal(error: unknown): void {
    const { file } = this.#options;
    this.#ended.reject(
      isCorrupt(error) ? damaged(file, messageOf(error)) : error instanceof Problem ? error : new Problem({
        code: "unavailable",
        what: "the store's file cannot be read or written",
        where: file,
        todo: "Check the disk; nothing that was acknowledged is lost as long as the file can be read",
        cause: error,
      }),
    );
  }
}

const randomId = () => crypto.getRandomValues(new BigUint64Array(1))[0]!;

function wireOf(connection: Deno.Conn) {
  return {
    read: (into: Uint8Array) => connection.read(into),
    write: (bytes: Uint8Array) => connection.write(bytes),
    close: () => {
      try {
        connection.close();
      } catch (error) {
        if (!(error instanceof Deno.errors.BadResource)) throw error; // the client's end closed it
      }
    },
  };
}

/** @throws Problem "conflict" when somebody listens there. */
async function listenAt(path: string): Promise<Deno.Listener> {
  const answers = await Deno.connect({ transport: "unix", path }).then((c) => (c.close(), true), () => false);
  if (answers) {
    throw new Problem({
      code: "conflict",
      what: "another process listens on the store's socket",
      where: path,
      todo: "Stop it, or name another --socket",
    });
  }
  await Deno.mkdir(folderOf(path), { recursive: true });
  await Deno.remove(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  const old = Deno.umask(0o177);
  try {
    return Deno.listen({ transport: "unix", path });
  } finally {
    Deno.umask(old);
  }
}
