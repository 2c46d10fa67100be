import { formatIp, type Ip } from "../../lib/ip.ts";
import type { Address } from "../../kernel/rtnetlink/address.ts";
import type { Link } from "../../kernel/rtnetlink/link.ts";

/** A network interface of this host, as far as routes depend on it. */
export interface HostInterface {
  name: string;
  /** Routes are bound to it: an interface that is made anew has another one. */
  index: number;
  /** Raised by somebody. Without it the kernel takes no routes; a lost carrier does not matter. */
  up: boolean;
  mtuBytes: number;
  /** Monotonic time at which it was seen first, in milliseconds. */
  firstSeenMs: number;
}

/** The host's interfaces, followed by what the kernel tells. */
export class Interfaces {
  readonly #byIndex = new Map<number, HostInterface>();
  #byName = new Map<string, HostInterface>();
  /** Indexes of interfaces by their addresses. */
  #byAddress = new Map<string, Set<number>>();

  /** All there is; the rest is gone. @returns true when something differs from before. */
  replace(links: Iterable<Link>, nowMs: number): boolean {
    const before = new Map(this.#byIndex);
    this.#byIndex.clear();
    for (const link of links) this.#byIndex.set(link.index, merge(before.get(link.index), link, nowMs));
    this.#rename();
    return before.size !== this.#byIndex.size ||
      [...this.#byIndex].some(([index, now]) => !same(before.get(index), now));
  }

  /** One change. @returns true when something differs from before. */
  update(link: Link, removed: boolean, nowMs: number): boolean {
    const before = this.#byIndex.get(link.index);
    if (removed) this.#byIndex.delete(link.index);
    else this.#byIndex.set(link.index, merge(before, link, nowMs));
    const changed = removed ? before !== undefined : !same(before, this.#byIndex.get(link.index)!);
    if (changed) this.#rename();
    return changed;
  }

  /** Undefined when there is none. */
  named(name: string): HostInterface | undefined {
    return this.#byName.get(name);
  }

  /** Undefined when there is none. */
  at(index: number): HostInterface | undefined {
    return this.#byIndex.get(index);
  }

  /** The interface that has an address; that with the lowest index when several have it. Undefined when there is none. */
  withAddress(ip: Ip): HostInterface | undefined {
    const indexes = [...this.#byAddress.get(formatIp(ip)) ?? []].sort((a, b) => a - b);
    return indexes.map((index) => this.#byIndex.get(index)).find((i) => i !== undefined);
  }

  /** Names of the interfaces that have an address, without one of them. */
  othersWith(ip: Ip, index: number): string[] {
    const others = [...this.#byAddress.get(formatIp(ip)) ?? []].filter((other) => other !== index);
    return others.flatMap((other) => this.#byIndex.get(other)?.name ?? []).sort();
  }

  /** All addresses there are. */
  replaceAddresses(addresses: Iterable<Address>): void {
    this.#byAddress = new Map();
    for (const address of addresses) this.updateAddress(address, false);
  }

  /** One change. @returns true when it is news. */
  updateAddress({ ip, index }: Address, removed: boolean): boolean {
    const key = formatIp(ip), indexes = this.#byAddress.get(key) ?? new Set();
    const news = indexes.has(index) === removed;
    if (removed) indexes.delete(index);
    else indexes.add(index);
    if (indexes.size > 0) this.#byAddress.set(key, indexes);
    else this.#byAddress.delete(key);
    return news;
  }

  /** All of them, in no order. */
  all(): Iterable<HostInterface> {
    return this.#byIndex.values();
  }

  #rename(): void {
    this.#byName = new Map([...this.#byIndex.values()].map((i) => [i.name, i]));
  }
}

const merge = (
  before: HostInterface | undefined,
  { index, name, up, mtuBytes }: Link,
  nowMs: number,
): HostInterface => ({
  index,
  name,
  up,
  mtuBytes,
  firstSeenMs: before?.name === name ? before.firstSeenMs : nowMs,
});

const same = (a: HostInterface | undefined, b: HostInterface): boolean =>
  a?.name === b.name && a.up === b.up && a.mtuBytes === b.mtuBytes;
