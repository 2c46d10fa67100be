import { Problem } from "../../lib/problem.ts";
import { E, KernelError, lastError, libc } from "../_ffi.ts";
import { inNetns, type Netns } from "../netns.ts";
import { attributesOf, decodeMessages, encodeRequests, type Message, readText } from "../rtnetlink/message.ts";
import { openNetlink } from "../rtnetlink/socket.ts";
import type { TableKey, TableName } from "./chain.ts";
import type { TableWatch } from "./table_watch.ts";

const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
const SUBSYS_NFTABLES = 10;
const NFT_MSG_GETGEN = 16;
/** Messages about a generation name no table; in all others attribute 1 is the table's name (NFTA_*_TABLE, NFTA_TABLE_NAME). */
const generation = [15, 16];
const TABLE_NAME = 1;
const MSG_DONTWAIT = 0x40;
const POLLIN = 1;
const names: readonly TableName[] = ["raw", "mangle", "nat", "filter"];

/** How the tables of the nft variant are watched. */
export interface NftWatchOptions {
  netns?: Netns;
  /** Receive buffer. Default 8 MiB. */
  receiveBytes?: number;
}

/**
 * Watches the tables of iptables-nft by the kernel's notifications. Those that a program of ours caused carry the number
 * of its netlink socket, which is its process id. Holds one thread of Deno's pool while changes() waits.
 * @throws Problem "kernel" when the kernel has no nftables or refuses.
 */
export function watchNft(options: NftWatchOptions = {}): TableWatch {
  return new NftWatch(options);
}

class NftWatch implements TableWatch {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(256 * 1024);
  readonly #foreign = new Map<TableKey, number>();
  readonly #own = new Set<number>();
  /** Notifications were lost: counted for every table. */
  #lost = 0;

  constructor({ netns, receiveBytes }: NftWatchOptions) {
    const open = () => openNetlink([NFNLGRP_NFTABLES], receiveBytes ?? 8 << 20, NETLINK_NETFILTER);
    try {
      this.#fd = netns ? inNetns(netns, open) : open();
    } catch (cause) {
      if (!(cause instanceof KernelError)) throw cause;
      throw new Problem({ code: "kernel", what: "changes of nftables cannot be followed", where: netns?.path, cause });
    }
  }

  foreign(table: TableKey): number {
    this.#drain();
    return (this.#foreign.get(table) ?? 0) + this.#lost;
  }

  begin(_table: TableKey, pid: number): void {
    this.#own.add(pid);
  }

  end(_table: TableKey, pid: number): void {
    // What the program caused is queued by now.
    this.#drain();
    this.#own.delete(pid);
  }

  async *changes(signal: AbortSignal): AsyncGenerator<TableKey[]> {
    const all: TableKey[] = names.flatMap((n): TableKey[] => [`4 ${n}`, `6 ${n}`]);
    const told = new Map(all.map((table) => [table, this.foreign(table)]));
    const wake = () => this.#askGeneration();
    signal.addEventListener("abort", wake, { once: true });
    try {
      while (!signal.aborted) {
        this.#drain();
        const changed = all.filter((table) => told.get(table) !== (this.#foreign.get(table) ?? 0) + this.#lost);
        for (const table of changed) told.set(table, (this.#foreign.get(table) ?? 0) + this.#lost);
        if (changed.length > 0) yield changed;
        else if (!signal.aborted) await this.#readable();
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
  }

  /** Waits until something is queued, and leaves it there. */
  async #readable(): Promise<void> {
    const pollfd = new Uint8Array(8);
    const view = new DataView(pollfd.buffer);
    view.setInt32(0, this.#fd, true);
    view.setInt16(4, POLLIN, true);
    await libc().pollLater(pollfd, 1n, -1);
  }

  /** Its answer wakes who waits. */
  #askGeneration(): void {
    const bytes = encodeRequests(
      [{ type: (SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN, flags: 0, body: new Uint8Array(4) }],
      1,
    );
    libc().send(this.#fd, bytes, BigInt(bytes.length), 0);
  }

  #drain(): void {
    for (;;) {
      const n = Number(libc().recv(this.#fd, this.#buffer, BigInt(this.#buffer.length), MSG_DONTWAIT));
      if (n >= 0) {
        for (const message of decodeMessages(this.#buffer.subarray(0, n))) this.#take(message);
        continue;
      }
      const error = lastError();
      if (error.errno === E.AGAIN) return;
      if (error.errno !== E.NOBUFS) {
        throw new Problem({ code: "kernel", what: "changes of nftables broke off", cause: error });
      }
      this.#lost++;
    }
  }

  #take(message: Message): void {
    if (this.#own.has(message.port) || message.type >> 8 !== SUBSYS_NFTABLES) return;
    if (generation.includes(message.type & 0xff)) return;
    const table = tableOf(message);
    if (table) this.#foreign.set(table, (this.#foreign.get(table) ?? 0) + 1);
  }

  [Symbol.dispose](): void {
    libc().close(this.#fd);
  }
}

/** The table of iptables that a notification is about; undefined when it is about another. */
function tableOf({ body }: Message): TableKey | undefined {
  const family = body[0] === 2 ? 4 : body[0] === 10 ? 6 : undefined;
  const name = readText(attributesOf(body, 4).get(TABLE_NAME));
  const known = names.find((n) => n === name);
  return family && known ? `${family} ${known}` : undefined;
}
