import { Backoff } from "../lib/backoff.ts";
import { Clock, withDeadline } from "../lib/clock.ts";
import { isProblem, messageOf, Problem } from "../lib/problem.ts";
import { Compacted, Event, KeyValue, Range, Restored, WatchBatch, WatchState } from "./store.ts";

/** One message of a watch stream, as etcd sends it (rpc.proto, WatchResponse). */
export interface WatchMessage {
  clusterId: string;
  /** The server's newest revision when it sent this; in a message with events it may lie beyond them. */
  headerRevision: bigint;
  created: boolean;
  canceled: boolean;
  cancelReason: string;
  /** Not 0n: the revision asked for is compacted. */
  compactRevision: bigint;
  /** The rest of this revision follows. */
  fragment: boolean;
  events: Event[];
}

/** One stream of a watch. */
export interface WatchStream extends Disposable {
  /** @throws Problem when the stream is over */
  next(): Promise<WatchMessage>;
  /** Says that an answer that was due did not come. */
  silent(): void;
}

/** What the loop needs of a server. */
export interface WatchServer {
  /** Id of the cluster that answered last; undefined before the first answer. */
  clusterId(): string | undefined;
  /** Opens a stream and asks it for `range` from `from` on. */
  open(range: Range, from: bigint, signal: AbortSignal): Promise<WatchStream>;
  /** What `key` was at `revision`, asked of the whole cluster. @throws Compacted, or Restored when that is not yet. */
  lookBack(key: string, revision: bigint, signal: AbortSignal): Promise<{ clusterId: string; value?: KeyValue }>;
  /** Asks for a new token at the next call. */
  forgetToken(): void;
}

/** Options of watchFrom(). */
export interface WatchOptions {
  signal: AbortSignal;
  onState?: (state: WatchState) => void;
  clock: Clock;
  random: () => number;
  /** For the answer to "create this watch". */
  deadlineMs: number;
}

/**
 * Follows a range from revision `from` on and yields each event once and in order, over any number of broken streams.
 *
 * The cursor is ours: last event's revision + 1. It moves by a header only in a message without events, because while
 * catching up etcd's headers run ahead of the events. At every (re)connect the server is asked what the last event's
 * key was at the last revision seen: a compacted answer means that something may be missing (etcd 3.4 watches from the
 * compacted revision itself without its delete), another answer or another cluster means a restored etcd.
 * @throws Compacted, Restored, Problem "unauthorized" (twice in a row, the second time with a new token)
 */
export async function* watchFrom(
  server: WatchServer,
  range: Range,
  from: bigint,
  options: WatchOptions,
): AsyncGenerator<WatchBatch> {
  const { signal, onState } = options;
  const backoff = new Backoff({ firstMs: 50, maxMs: 5_000, random: options.random, clock: options.clock });
  const cursor = new Cursor(range, from, server.clusterId());
  let refused = false;
  for (let failures = 0; !signal.aborted;) {
    let stoodAt: number | undefined, progress = false;
    try {
      for await (const batch of follow(server, cursor, options)) {
        if (batch !== "attached") {
          progress = true;
          yield batch;
        } else {
          onState?.({ connected: true });
          stoodAt = options.clock.monotonicMs();
          refused = false;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!isProblem(error)) throw error;
      if (error.code === "unauthorized") {
        if (refused) throw error;
        refused = true;
        server.forgetToken();
      }
      const stood = stoodAt === undefined ? 0 : options.clock.monotonicMs() - stoodAt;
      if (progress || stood >= stableMs) {
        backoff.reset();
        failures = 0;
      }
      onState?.({ connected: false, why: messageOf(error), attempt: ++failures });
    }
    await backoff.wait(signal).catch(() => {}); // aborted: the loop ends
  }
}

/** A stream that broke sooner, without having told anything, was no success: its server or proxy flaps. */
const stableMs = 1_000;

/** Where a watch stands, and what it saw last. */
class Cursor {
  #last: Event | undefined;

  constructor(readonly range: Range, public next: bigint, private clusterId: string | undefined) {}

  moved(events: Event[]): void {
    this.#last = events[events.length - 1]!;
    this.next = this.#last.revision + 1n;
  }

  /** Checks that the server's history up to the cursor is the one that was seen. @throws Compacted, Restored */
  async check(server: WatchServer, signal: AbortSignal): Promise<void> {
    if (this.next <= 1n) return;
    const last = this.#last;
    const key = last?.key ?? this.range.start;
    const { clusterId, value } = await server.lookBack(key, this.next - 1n, signal);
    if (this.clusterId !== undefined && clusterId !== this.clusterId) {
      throw new Restored(`cluster id ${clusterId}, before ${this.clusterId}`);
    }
    this.clusterId = clusterId;
    if (!last) return;
    const same = last.value === undefined ? !value : value?.revision === last.revision && value.value === last.value;
    if (!same) throw new Restored(`revision ${last.revision} of ${key} is not what it was`);
  }
}

/** One stream's life: "attached" once it stands, then batches. Ends only by throwing. */
async function* follow(
  server: WatchServer,
  cursor: Cursor,
  options: WatchOptions,
): AsyncGenerator<WatchBatch | "attached"> {
  const { signal } = options;
  using stream = await server.open(cursor.range, cursor.next, signal);
  const { headerRevision } = await firstAnswer(stream, options);
  await cursor.check(server, signal);
  yield "attached";
  let events: Event[] = [];
  for (let caughtUp = headerRevision < cursor.next;;) {
    const message = refuseCanceled(await stream.next());
    events = events.length === 0 ? message.events : events.concat(message.events);
    if (message.fragment) continue;
    if (events.length > 0) {
      // When there was something to catch up, a compaction after the creation may have taken the first events away.
      if (!caughtUp) await cursor.check(server, signal);
      caughtUp = true;
      cursor.moved(events);
      const batch = { events, revision: cursor.next - 1n };
      events = [];
      yield batch;
    } else if (message.headerRevision >= cursor.next) {
      cursor.next = message.headerRevision + 1n;
      yield { events: [], revision: message.headerRevision };
    }
  }
}

/** Waits for "created": a server that accepts a stream and does not answer is frozen. */
function firstAnswer(stream: WatchStream, options: WatchOptions): Promise<WatchMessage> {
  const late = () => {
    stream.silent();
    return new Problem({ code: "unavailable", what: `etcd did not start the watch within ${options.deadlineMs} ms` });
  };
  return withDeadline(options.deadlineMs, async () => refuseCanceled(await stream.next()), late, options.clock);
}

/** The message, unless it ends the watch. @throws Compacted, Problem */
function refuseCanceled(message: WatchMessage): WatchMessage {
  if (!message.canceled) return message;
  if (message.compactRevision !== 0n) throw new Compacted(message.compactRevision);
  const reason = message.cancelReason;
  const refused = /permission denied|invalid auth token|user name is empty/i.test(reason);
  throw new Problem({
    code: refused ? "unauthorized" : "unavailable",
    what: `etcd ended the watch: ${reason || "no reason given"}`,
    ...(refused ? { todo: "Grant the user's role read permission on the keys below /calico" } : {}),
  });
}
