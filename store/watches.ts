/** Watches: who wants to hear of which keys, and how far each has heard. */
import type { Clock } from "../lib/clock.ts";
import type { Committed } from "./commits.ts";
import { refusal } from "./errors.ts";
import type { Call } from "./grpc.ts";
import type { Event, Header, KeyValue, WatchCreateRequest, WatchRequest, WatchResponse } from "./messages.ts";
import { type Change, compareBytes, includes, isOpenEnd, type Keys } from "./rows.ts";
import { fragments, messagesOf } from "./watch_messages.ts";

/** What watches read from. All of it is on the disk. */
export interface History {
  /** The newest revision, and the compacted one. */
  numbers(): { revision: bigint; compacted: bigint };
  changes(keys: Keys, from: bigint, to: bigint, limit: bigint): Change[];
  /** A key's value as of a revision; undefined when there was none, or it is compacted. */
  before(key: Uint8Array, revision: bigint): KeyValue | undefined;
  /** False inside of a group of writes: what is read then is not yet on the disk. Its end is told by committed(). */
  settled(): boolean;
  header(revision: bigint): Header;
}

/** A client that reads slower than it is told to gets its news from the disk when it has read so far. Bytes. */
const slowClient = 4 << 20;
/** Changes that are read at once when a watch catches up. */
const pageSize = 2000n;
/** How often a watch that asked for it hears that it is up to date. */
const progressMs = 600_000;

/** A revision that never comes. */
const never = 1n << 63n;

interface Watch {
  id: bigint;
  keys: Keys;
  /** The revision of which it hears next. */
  next: bigint;
  noPuts: boolean;
  noDeletes: boolean;
  prevKv: boolean;
  fragment: boolean;
  progress: boolean;
  /** Monotonic time of the last message. */
  toldAt: number;
}

/** All watch streams of a store. */
export class Watches {
  readonly #streams = new Set<WatchStream>();

  constructor(private readonly history: History, private readonly clock: Clock) {}

  /** Serves one stream until the client ends it. */
  async serve(requests: AsyncGenerator<WatchRequest>, call: Call<WatchResponse>): Promise<void> {
    const stream = new WatchStream(this.history, call, this.clock);
    this.#streams.add(stream);
    try {
      for await (const request of requests) stream.take(request);
    } finally {
      stream.end();
      this.#streams.delete(stream);
    }
  }

  /** Tells of a commit. */
  committed(what: Committed): void {
    for (const stream of this.#streams) stream.committed(what);
  }

  /** Tells watches that asked for it and heard nothing for long that they are up to date. */
  async tellProgress(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.clock.sleep(progressMs / 10, signal);
      for (const stream of this.#streams) stream.progress(progressMs);
    }
  }
}

/** One client's stream: several watches, told apart by their id. */
class WatchStream {
  readonly #watches = new Map<bigint, Watch>();
  #nextId = 0n;
  #catchingUp = false;
  /** Requests for progress that wait until all watches are up to date. */
  #progressDue = 0;
  #over = false;

  constructor(
    private readonly history: History,
    private readonly call: Call<WatchResponse>,
    private readonly clock: Clock,
  ) {}

  take(request: WatchRequest): void {
    if (request.create_request) this.#create(request.create_request);
    else if (request.cancel_request) this.#cancel(request.cancel_request.watch_id);
    else if (request.progress_request) {
      this.#progressDue++;
      this.#catchUp();
    }
  }

  end(): void {
    this.#over = true;
    this.#watches.clear();
  }

  /** Who is up to date hears of it at once; the others will find it on the disk. */
  committed({ before, revision, changes }: Committed): void {
    for (const watch of changes.length > 0 ? this.#watches.values() : []) {
      if (watch.next <= before || this.call.backlog > slowClient) continue;
      this.#tell(watch, changes, revision);
      watch.next = watch.next > revision ? watch.next : revision + 1n;
    }
    this.#catchUp();
  }

  progress(silentMs: number): void {
    const { revision } = this.history.numbers(), now = this.clock.monotonicMs();
    for (const watch of this.#watches.values()) {
      if (!watch.progress || watch.next !== revision + 1n || now - watch.toldAt < silentMs) continue;
      this.#send({ watch_id: watch.id, header: this.history.header(revision) });
      watch.toldAt = now;
    }
  }

  #create(r: WatchCreateRequest): void {
    const keys = { start: r.key.length === 0 ? new Uint8Array(1) : r.key, end: r.range_end };
    const { revision } = this.history.numbers();
    const refuse = (cancel_reason: string) =>
      this.#send({
        ...{ header: this.history.header(revision), watch_id: -1n },
        ...{ created: true, canceled: true, cancel_reason },
      });
    if (r.start_revision < 0n) return refuse(refusal("compacted").message);
    if (r.range_end.length > 0 && !isOpenEnd(r.range_end) && compareBytes(keys.start, r.range_end) >= 0) {
      return refuse("mvcc: watcher range is empty");
    }
    if (r.watch_id !== 0n && this.#watches.has(r.watch_id)) {
      return refuse("mvcc: duplicate watch ID provided on the WatchStream");
    }
    const id = r.watch_id === 0n ? this.#freeId() : r.watch_id;
    this.#watches.set(id, {
      ...{ id, keys, prevKv: r.prev_kv, fragment: r.fragment, progress: r.progress_notify },
      next: r.start_revision === 0n ? revision + 1n : r.start_revision,
      noPuts: r.filters.includes(0),
      noDeletes: r.filters.includes(1),
      toldAt: this.clock.monotonicMs(),
    });
    this.#send({ header: this.history.header(revision), watch_id: id, created: true });
    this.#catchUp();
  }

  #freeId(): bigint {
    while (this.#watches.has(this.#nextId)) this.#nextId++;
    return this.#nextId++;
  }

  #cancel(id: bigint): void {
    if (!this.#watches.delete(id)) return;
    this.#send({ header: this.history.header(this.history.numbers().revision), watch_id: id, canceled: true });
  }

  /** Brings all watches up to date, as fast as the client reads, in turns. Begun once at a time. */
  #catchUp(): void {
    if (this.#catchingUp) return;
    this.#catchingUp = true;
    this.#catchUpAll().finally(() => this.#catchingUp = false);
  }

  async #catchUpAll(): Promise<void> {
    while (!this.#over) {
      if (this.call.backlog > slowClient) {
        await this.call.drained();
        continue;
      }
      if (!this.history.settled()) return; // the commit that is due calls again
      const { revision } = this.history.numbers();
      const late = [...this.#watches.values()].filter((w) => w.next <= revision);
      if (late.length === 0) break;
      for (const watch of late) this.#readOn(watch);
      await Promise.resolve(); // others may speak in between
    }
    const { revision } = this.history.numbers();
    for (; this.#progressDue > 0; this.#progressDue--) {
      this.#send({ header: this.history.header(revision), watch_id: -1n });
    }
  }

  /** Reads and tells one page. */
  #readOn(watch: Watch): void {
    const { revision, compacted } = this.history.numbers();
    if (watch.next < compacted) {
      watch.next = never; // as etcd: its id stays taken until it is cancelled
      this.#send({ header: this.history.header(0n), watch_id: watch.id, canceled: true, compact_revision: compacted });
      return;
    }
    const changes = this.history.changes(watch.keys, watch.next, revision, pageSize);
    const last = changes.at(-1)?.kv.mod_revision;
    if (last === undefined || BigInt(changes.length) < pageSize) {
      this.#tell(watch, changes, revision);
      watch.next = revision + 1n;
      return;
    }
    // The page may end in the middle of its last revision: that one is read as a whole.
    const whole = changes.filter((c) => c.kv.mod_revision < last);
    whole.push(...this.history.changes(watch.keys, last, last, -1n));
    this.#tell(watch, whole, revision);
    watch.next = last + 1n;
  }

  #tell(watch: Watch, changes: Change[], revision: bigint): void {
    const events: Event[] = [];
    for (const change of changes) {
      if (change.kv.mod_revision < watch.next || !includes(watch.keys, change.kv.key)) continue;
      if (change.deleted ? watch.noDeletes : watch.noPuts) continue;
      events.push(this.#event(change, watch.prevKv));
    }
    const header = this.history.header(revision);
    for (const group of messagesOf(events)) {
      for (const part of watch.fragment ? fragments(group) : [{ events: group, fragment: false }]) {
        this.#send({ header, watch_id: watch.id, ...part });
        watch.toldAt = this.clock.monotonicMs();
      }
    }
  }

  #event({ deleted, kv }: Change, prevKv: boolean): Event {
    const type = deleted ? 1 : 0;
    // As etcd: what was created has none, even when the same revision deleted its predecessor.
    if (!prevKv || kv.create_revision === kv.mod_revision) return { type, kv };
    return { type, kv, prev_kv: this.history.before(kv.key, kv.mod_revision - 1n) };
  }

  #send(answer: Partial<WatchResponse>): void {
    this.call.send({ ...silence, ...answer });
  }
}

const silence: WatchResponse = {
  ...{ watch_id: 0n, created: false, canceled: false, compact_revision: 0n, cancel_reason: "" },
  ...{ fragment: false, events: [] },
};
