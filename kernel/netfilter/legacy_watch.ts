import type { Clock } from "../../lib/clock.ts";
import { Problem } from "../../lib/problem.ts";
import { cString, lastError, libc } from "../_ffi.ts";
import { inNetns, type Netns } from "../netns.ts";
import type { TableKey } from "./chain.ts";
import type { TableWatch } from "./table_watch.ts";

const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const IPPROTO_RAW = 255;
/** IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES; IPv6 has the same numbers (linux/netfilter_ipv4/ip_tables.h). */
const option = { info: 64, entries: 65 };
/** By family: address family, socket level, and where things are in `struct ipt_entry` / `struct ip6t_entry`. */
const layout = {
  4: { domain: 2, level: 0, nextOffset: 90, counters: 96 },
  6: { domain: 10, level: 41, nextOffset: 142, counters: 152 },
} as const;
/** `struct ipt_getinfo`: name 32, valid_hooks, hook_entry[5], underflow[5], num_entries, size. */
const infoBytes = 84;
/** `struct ipt_get_entries`: name 32, size, padding; then the entries. */
const entriesHead = 40;

/** The kernel's own description of a table, cheap to get: 84 bytes. */
interface Info {
  entries: number;
  size: number;
  /** Hook entries, underflows and both numbers as they come: another when a rule moves between built-in chains. */
  shape: Uint8Array;
}

interface Seen {
  info: Info;
  /** Hash of all entries with their counters masked; undefined until it is taken. */
  content: string | undefined;
  contentDueMs: number;
  /** When it was looked at last, and what that cost in milliseconds of CPU, about. */
  contentAtMs: number;
  contentCostMs: number;
  foreign: number;
  /** Programs of ours that write it now, and that have ever begun to. */
  writers: number;
  writes: number;
}

/** How the legacy tables are watched. */
export interface LegacyWatchOptions {
  clock: Clock;
  netns?: Netns;
  /** Time between two looks at the counts. Default 350: a wake-up costs a third of a millisecond. */
  everyMs?: number;
  /** Shortest time between two looks at all entries of a table. Default 300, so at every look; longer when the look costs more. */
  contentEveryMs?: number;
}

/** A look at all entries may take this part of the time; this one after a change, when there is nothing to compare with. */
const contentShare = 0.001;
const firstShare = 0.02;
/** Bytes of entries that the kernel copies, and we read, in a millisecond: 3 MB of 12,000 rules cost 20. */
const bytesPerMs = 150_000;

/**
 * Watches legacy tables, of whose changes the kernel does not tell: number and size of the entries a few times a second
 * (a microsecond each), their content as well, or every few seconds when a table has thousands of rules. Only
 * the content shows that rules have changed places.
 * @throws Problem "kernel" when there is no such table.
 */
export function watchLegacy(options: LegacyWatchOptions): TableWatch {
  return new LegacyWatch({ everyMs: 350, contentEveryMs: 300, ...options });
}

class LegacyWatch implements TableWatch {
  readonly #fds = new Map<4 | 6, number>();
  readonly #seen = new Map<TableKey, Seen>();
  constructor(private readonly options: LegacyWatchOptions & { everyMs: number; contentEveryMs: number }) {}

  foreign(table: TableKey): number {
    const seen = this.#seen.get(table) ?? this.#first(table);
    this.#look(table, seen);
    return seen.foreign;
  }

  begin(table: TableKey, _pid: number): void {
    const seen = this.#seen.get(table) ?? this.#first(table);
    seen.writers++;
    seen.writes++;
  }

  end(table: TableKey, _pid: number, entries: number | undefined): void {
    const seen = this.#seen.get(table)!;
    seen.writers--;
    const info = this.#info(table);
    if (entries === undefined) return this.#changed(seen, info);
    if (info.entries !== seen.info.entries + entries) seen.foreign++;
    seen.info = info;
    this.#forgetContent(seen);
  }

  async *changes(signal: AbortSignal): AsyncGenerator<TableKey[]> {
    const told = new Map<TableKey, number>();
    for (const [table, { foreign }] of this.#seen) told.set(table, foreign);
    while (!signal.aborted) {
      const changed: TableKey[] = [];
      for (const [table, seen] of this.#seen) {
        this.#look(table, seen);
        await this.#lookInside(table, seen);
        if (seen.foreign !== (told.get(table) ?? 0)) changed.push(table);
        told.set(table, seen.foreign);
      }
      if (changed.length > 0) yield changed;
      else await this.options.clock.sleep(this.options.everyMs, signal).catch(() => {});
    }
  }

  #first(table: TableKey): Seen {
    const never = { content: undefined, contentDueMs: 0, contentAtMs: 0, contentCostMs: 0 };
    const seen: Seen = { info: this.#info(table), ...never, foreign: 0, writers: 0, writes: 0 };
    this.#seen.set(table, seen);
    return seen;
  }

  #look(table: TableKey, seen: Seen): void {
    if (seen.writers > 0) return;
    this.#changed(seen, this.#info(table));
  }

  #changed(seen: Seen, info: Info): void {
    if (info.shape.every((byte, i) => byte === seen.info.shape[i])) return;
    seen.info = info;
    seen.foreign++;
    this.#forgetContent(seen);
  }

  #forgetContent(seen: Seen): void {
    seen.content = undefined;
    seen.contentDueMs = seen.contentAtMs + seen.contentCostMs / firstShare;
  }

  async #lookInside(table: TableKey, seen: Seen): Promise<void> {
    const { clock, contentEveryMs } = this.options;
    const start = clock.monotonicMs();
    if (seen.writers > 0 || seen.contentDueMs > start) return;
    const { writes, foreign } = seen;
    const content = await this.#content(table, seen.info.size);
    seen.contentAtMs = start;
    seen.contentCostMs = seen.info.size / bytesPerMs;
    if (seen.writes !== writes || seen.foreign !== foreign) return this.#forgetContent(seen); // it is of before, or of after
    seen.contentDueMs = start + Math.max(contentEveryMs, seen.contentCostMs / contentShare);
    // undefined: the size changed just now, which the next look at the counts sees.
    if (content === undefined) return this.#forgetContent(seen);
    if (seen.content !== undefined && seen.content !== content) seen.foreign++;
    seen.content = content;
  }

  #info(table: TableKey): Info {
    const bytes = this.#ask(table, option.info, infoBytes);
    if (!bytes) {
      throw new Problem({ code: "kernel", what: "table cannot be looked at", where: table, cause: lastError() });
    }
    const view = new DataView(bytes.buffer);
    return { entries: view.getUint32(76, true), size: view.getUint32(80, true), shape: bytes.subarray(36) };
  }

  /** The kernel copies, and the hash is made, while the event loop goes on: thousands of rules take tens of milliseconds. */
  async #content(table: TableKey, size: number): Promise<string | undefined> {
    const { bytes, lengthBytes } = question(table, entriesHead + size, size);
    const family = familyOf(table);
    const answer = libc().getsockoptLater(
      ...[this.#fd(family), layout[family].level, option.entries, bytes, lengthBytes] as const,
    );
    if (await answer !== 0) return undefined;
    const { nextOffset, counters } = layout[familyOf(table)];
    const view = new DataView(bytes.buffer);
    for (let at = entriesHead; at < bytes.length;) {
      bytes.fill(0, at + counters, at + counters + 16);
      const next = view.getUint16(at + nextOffset, true);
      if (next === 0) return undefined;
      at += next;
    }
    return new Uint8Array(await crypto.subtle.digest("SHA-1", bytes)).toBase64();
  }

  /** getsockopt() about a table; undefined when it is refused. */
  #ask(table: TableKey, name: number, length: number): Uint8Array<ArrayBuffer> | undefined {
    const { bytes, lengthBytes } = question(table, length);
    const family = familyOf(table);
    const answer = libc().getsockopt(this.#fd(family), layout[family].level, name, bytes, lengthBytes);
    return answer === 0 ? bytes : undefined;
  }

  #fd(family: 4 | 6): number {
    const known = this.#fds.get(family);
    if (known !== undefined) return known;
    const open = () => libc().socket(layout[family].domain, SOCK_RAW_CLOEXEC, IPPROTO_RAW);
    const fd = this.options.netns ? inNetns(this.options.netns, open) : open();
    if (fd < 0) {
      throw new Problem({ code: "kernel", what: `no raw socket of IPv${family}`, where: "tables", cause: lastError() });
    }
    this.#fds.set(family, fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.values()) libc().close(fd);
    this.#fds.clear();
  }
}

/** The two buffers of a getsockopt() about a table: its name, and the size of its entries where they are asked for. */
function question(table: TableKey, length: number, size?: number) {
  const bytes = new Uint8Array(length), lengthBytes = new Uint8Array(4);
  bytes.set(cString(table.slice(2)));
  if (size !== undefined) new DataView(bytes.buffer).setUint32(32, size, true);
  new DataView(lengthBytes.buffer).setUint32(0, length, true);
  return { bytes, lengthBytes };
}

const familyOf = (table: TableKey): 4 | 6 => (table.startsWith("4") ? 4 : 6);
