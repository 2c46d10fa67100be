import { bits, formatIp, parseIp } from "../../lib/ip.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/log.ts";
import { messageOf } from "../../lib/problem.ts";
import { deleteFlowsOf } from "../../kernel/netfilter/conntrack.ts";
import { NETLINK_NETFILTER } from "../../kernel/netfilter/set_messages.ts";
import { RtSocket } from "../../kernel/rtnetlink/socket.ts";
import type { LocalEndpoint } from "../desired.ts";

/**
 * Ends the tracked flows of addresses that left this host: who gets such an address next must not inherit what its
 * predecessor was allowed. Source: Calico's felix/conntrack.
 */
export class EndedFlows implements AsyncDisposable {
  readonly #log: Logger;
  readonly #clock: Clock;
  #socket: RtSocket | undefined;
  #endpoints: ReadonlyMap<string, LocalEndpoint> = new Map();
  #addresses = new Set<string>();
  #gone = new Set<string>();
  #work: Promise<void> = Promise.resolve();

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** The routes of these endpoints are in the kernel, and no others. */
  hold(endpoints: ReadonlyMap<string, LocalEndpoint>): void {
    if (endpoints === this.#endpoints) return;
    this.#endpoints = endpoints;
    const now = new Set([...endpoints.values()].flatMap(addressesOf));
    const gone = [...this.#addresses].filter((a) => !now.has(a));
    this.#addresses = now;
    if (gone.length === 0) return;
    // Those that go while the kernel still looks for others are looked for together.
    if (this.#gone.size === 0) this.#work = this.#work.then(() => this.#end());
    for (const address of gone) this.#gone.add(address);
  }

  /** Waits for what was begun. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#work;
    this.#socket?.[Symbol.dispose]();
  }

  async #end(): Promise<void> {
    const addresses = [...this.#gone].map((a) => parseIp(a));
    this.#gone = new Set();
    try {
      this.#socket ??= RtSocket.open(undefined, NETLINK_NETFILTER);
      await deleteFlowsOf(this.#socket, addresses, () => this.#clock.sleep(0));
    } catch (error) {
      const of = addresses.map(formatIp).join(" ");
      this.#log.warn("flows of addresses that are gone could not be ended", { addresses: of, why: messageOf(error) });
    }
  }
}

const addressesOf = ({ nets, floatingIps }: LocalEndpoint): string[] =>
  [...nets.filter((n) => n.len === bits(n.v)), ...floatingIps].map(formatIp);
