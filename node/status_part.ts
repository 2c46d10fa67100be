import { listAddresses } from "../kernel/rtnetlink/address.ts";
import { changes } from "../kernel/rtnetlink/changes.ts";
import { type Link, listLinks } from "../kernel/rtnetlink/link.ts";
import { RtSocket } from "../kernel/rtnetlink/socket.ts";
import type { Dataplane } from "../agent/dataplane/apply.ts";
import type { Interface } from "../agent/status/endpoint_states.ts";
import { runStatus } from "../agent/status/status.ts";
import type { Shared } from "./parts.ts";
import type { PolicyPart } from "./policy_part.ts";

/** Tells of this node and its endpoints from when policy is in force, until the signal. */
export async function startStatus(
  shared: Shared,
  { dataplane, policy }: { dataplane: Dataplane; policy: PolicyPart },
  cleanup: AsyncDisposableStack,
): Promise<void> {
  const { settings, signal, log } = shared;
  const links = new Links(cleanup.use(RtSocket.open()));
  // Policy that cannot start ends the process.
  if (!await policy.ready.then(() => true, () => false)) return;
  await runStatus({
    ...shared,
    env: (name) => settings.get(name),
    random: Math.random,
    lacking: ({ key, interfaceName }) => dataplane.lacking(key) ?? policy.lacking(interfaceName),
    interfaces: links,
    changes: [links.follow(signal), dataplane.changes(signal), policy.changes(signal)],
    log: log.child("status"),
  });
}

/** This host's interfaces, followed by what the kernel tells. */
class Links {
  readonly #socket: RtSocket;
  readonly #byIndex = new Map<number, Link>();
  #byName = new Map<string, Link>();

  constructor(socket: RtSocket) {
    this.#socket = socket;
  }

  /** Yields when an interface or an address changed. */
  async *follow(signal: AbortSignal): AsyncGenerator<void> {
    for await (const batch of changes(signal, { of: ["link", "address"] })) {
      for (const change of batch) {
        if (change.what === "everything") this.#take(listLinks(this.#socket).values());
        else if (change.what !== "link") continue;
        else if (change.removed) this.#byIndex.delete(change.link.index);
        else this.#byIndex.set(change.link.index, change.link);
      }
      this.#byName = new Map([...this.#byIndex.values()].map((link) => [link.name, link]));
      yield;
    }
  }

  exists(name: string): boolean {
    return this.#byName.has(name);
  }

  isUp(name: string): boolean {
    const link = this.#byName.get(name);
    return link !== undefined && link.up && link.operUp;
  }

  hosts(): Interface[] {
    const addresses = Map.groupBy(listAddresses(this.#socket), (a) => a.index);
    return [...this.#byIndex.values()].map(({ name, index }) => ({
      ...{ name, up: this.isUp(name), addresses: (addresses.get(index) ?? []).map((a) => a.ip) },
    }));
  }

  #take(links: Iterable<Link>): void {
    this.#byIndex.clear();
    for (const link of links) this.#byIndex.set(link.index, link);
  }
}
