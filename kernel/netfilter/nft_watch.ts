import { Problem } from "../../lib/problem.ts";
import { E, errno, KernelError, libc } from "../_ffi.ts";
import { inNetns, type Netns } from "../netns.ts";
import { attributesOf, decodeMessages, encodeRequests, type Message, readText } from "../rtnetlink/message.ts";
import { openNetlink } from "../rtnetlink/socket.ts";
import { isOwnChain, type TableKey, type TableName } from "./chain.ts";
import type { TableWatch } from "./table_watch.ts";

const NETLINK_NETFILTER = 12;
const NFNLGRP_NFTABLES = 7;
const SUBSYS_NFTABLES = 10;
const NFT_MSG_GETGEN = 16;
/** Messages about tables, chains and rules, new and deleted; in all of them attribute 1 is the table's name. */
const message = { table: [0, 2], chain: [3, 5], rule: [6, 8] };
const TABLE_NAME = 1;
/** NFTA_CHAIN_NAME and NFTA_RULE_CHAIN. */
const chainAttribute = { chain: 3, rule: 2 };
const MSG_DONTWAIT = 0x40;
const POLLIN = 1;
/** Chains of the kernel, in which our hooks are. */
const kernelChains = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
const names: readonly TableName[] = ["raw", "mangle", "nat", "filter", "security"];

/** How the tables of the nft variant are watched. */
export interface NftWatchOptions {
  /** What names of our chains begin with: only these and the kernel's own chains concern us, not those of kube-proxy. */
  ownPrefixes: readonly string[];
  netns?: Netns;
  /** Receive buffer. Default 8 MiB. */
  receiveBytes?: number;
}

/**
 * Watches the tables of iptables-nft by the kernel's notifications. Those that a program of ours caused carry the number
 * of its netlink socket, which is its process id. Holds one thread of Deno's pool while changes() waits.
 * @throws Problem "kernel" when the kernel has no nftables or refuses.
 */
export function watchNft(options: NftWatchOptions): TableWatch {
  return new NftWatch(options);
}

class NftWatch implements TableWatch {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(256 * 1024);
  readonly #foreign = new Map<TableKey, number>();
  readonly #own = new Set<number>();
  /** Notifications were lost: counted for every table. */
  #lost = 0;

  readonly #ownPrefixes: readonly string[];

  constructor({ netns, receiveBytes, ownPrefixes }: NftWatchOptions) {
    this.#ownPrefixes = ownPrefixes;
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
        for (const told of decodeMessages(this.#buffer.subarray(0, n))) this.#take(told);
        continue;
      }
      const number = errno(); // an error with its stack costs ten microseconds, and most looks end here
      if (number === E.AGAIN) return;
      if (number !== E.NOBUFS) {
        throw new Problem({ code: "kernel", what: "changes of nftables broke off", cause: new KernelError(number) });
      }
      this.#lost++;
    }
  }

  #take(told: Message): void {
    if (this.#own.has(told.port) || told.type >> 8 !== SUBSYS_NFTABLES) return;
    const table = concernedTable(told, this.#ownPrefixes);
    if (table) this.#foreign.set(table, (this.#foreign.get(table) ?? 0) + 1);
  }

  [Symbol.dispose](): void {
    libc().close(this.#fd);
  }
}

/** The table of iptables whose part of ours a notification is about; undefined when it is about something else. */
function concernedTable({ type, body }: Message, ownPrefixes: readonly string[]): TableKey | undefined {
  const what = (["table", "chain", "rule"] as const).find((w) => message[w].includes(type & 0xff));
  const family = body[0] === 2 ? 4 : body[0] === 10 ? 6 : undefined;
  if (!what || !family) return undefined;
  const found = attributesOf(body, 4);
  const name = names.find((n) => n === readText(found.get(TABLE_NAME)));
  if (!name) return undefined;
  const chain = what === "table" ? undefined : readText(found.get(chainAttribute[what])) ?? "";
  const concerns = chain === undefined || kernelChains.includes(chain) || isOwnChain(chain, ownPrefixes);
  return concerns ? `${family} ${name}` : undefined;
}
