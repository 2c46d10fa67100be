import type { TableKey, Variant } from "../../kernel/netfilter/chain.ts";
import { watchLegacy } from "../../kernel/netfilter/legacy_watch.ts";
import { watchNft } from "../../kernel/netfilter/nft_watch.ts";
import { addMember, NETLINK_NETFILTER } from "../../kernel/netfilter/set_messages.ts";
import type { TableWatch } from "../../kernel/netfilter/table_watch.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import { systemClock } from "../../lib/clock.ts";

const IPSET_CMD_TEST = 11;
const tables: readonly TableKey[] = ["4 filter", "6 filter"];

/**
 * Sees changes of the calling thread's network namespace for some microseconds a look: legacy by the number and size of
 * a table's entries, nft by the kernel's notifications, sets by a question for one member.
 */
export class KernelEye implements Disposable {
  readonly #watch: TableWatch;
  readonly #socket = RtSocket.open(undefined, NETLINK_NETFILTER);

  constructor(variant: Variant) {
    this.#watch = variant === "nft" ? watchNft({ ownPrefixes: ["cali-"] }) : watchLegacy({ clock: systemClock });
    this.filterChanged();
  }

  /** A look for a change of the filter table of both families since now. */
  filterChanged(): () => boolean {
    const before = tables.map((t) => this.#watch.foreign(t));
    return () => tables.every((t, i) => this.#watch.foreign(t) !== before[i]);
  }

  /** A look for any change of the filter table of IPv4 since now. */
  filter4Changed(): () => boolean {
    const before = this.#watch.foreign("4 filter");
    return () => this.#watch.foreign("4 filter") !== before;
  }

  /** True when the IPv4 set has the member. */
  hasMember(set: string, member: string): boolean {
    const { type, ...request } = addMember(set, 4, member);
    return this.#socket.batch([{ ...request, type: (type & 0xff00) | IPSET_CMD_TEST }])[0]!.error === undefined;
  }

  [Symbol.dispose](): void {
    this.#watch[Symbol.dispose]();
    this.#socket[Symbol.dispose]();
  }
}

/** Waits for what `look` sees, looking about once a millisecond. @returns milliseconds since `began`. */
export async function seen(what: string, look: () => boolean, began: number, deadlineMs = 60_000): Promise<number> {
  while (!look()) {
    if (performance.now() - began > deadlineMs) throw new Error(`${what}: not seen within ${deadlineMs} ms`);
    await systemClock.sleep(1);
  }
  return performance.now() - began;
}
