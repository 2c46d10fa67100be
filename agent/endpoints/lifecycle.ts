import { Backoff } from "../../lib/backoff.ts";
import type { Clock } from "../../lib/clock.ts";
import { type Cidr, formatIp, type Ip } from "../../lib/ip.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, messageOf, Problem } from "../../lib/problem.ts";
import { handleKey, resourceKey } from "../../datastore/keys.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import type { Store } from "../../datastore/store.ts";
import type { Allocator } from "../../ipam/commit.ts";
import type { Dataplane } from "../dataplane/apply.ts";
import { Addition, type AdditionParts, refuseWhenLost } from "./_addition.ts";
import { type Attachment, attachmentId, handleOf } from "./attachment.ts";
import { differences } from "./differences.ts";
import { belongsTo, Endpoints } from "./_endpoints.ts";
import type { JournalEntry, OpenJournal } from "./journal.ts";
import type { Leases } from "./leases.ts";
import { addressesUnder, handleHolding, holdersOf } from "./leftovers.ts";
import { Lease } from "./_lease.ts";
import { Locks } from "./_locks.ts";
import { Patience } from "./_patience.ts";
import { isAnothers, Previous } from "./_previous.ts";
import { type AddressWish, type Readiness, readiness } from "./readiness.ts";
import { refuseWhenLocked, refuseWhenUnknown, release } from "./_release.ts";
import { Replay } from "./_replay.ts";
import type { Added, AddRequest, AddStep, CheckRequest, LeaseRequest, Removed, RemoveRequest } from "./request.ts";
import { addressesOf } from "./stored.ts";
import type { Wiring } from "./wiring.ts";

export { type AddStep, addSteps } from "./request.ts";

/** What a Lifecycle works with. */
export interface LifecycleDeps {
  /** This node's name. */
  node: string;
  store: Pick<Store, "read" | "txn">;
  mirror: Pick<Mirror, "get" | "list" | "learn" | "state" | "revision">;
  allocator: Pick<Allocator, "assign" | "release">;
  wiring: Pick<Wiring, "connect" | "disconnect" | "inspect">;
  dataplane: Pick<Dataplane, "enforced" | "status">;
  journal: OpenJournal;
  /** Addresses given without an endpoint. */
  leases: Pick<Leases, "add" | "remove" | "scan">;
  /** A random MAC, locally administered, and a random UUID. */
  random: { mac(): string; uuid(): string };
  clock: Clock;
  log: Logger;
  /** Told when each step of an add() is done; for tests that end the process there. */
  step?: (step: AddStep, attachment: Attachment) => void;
}

/** An ADD that somebody asked for, from the moment it was asked. Disposed of when it is answered. */
export interface Asked extends Disposable {
  /** Aborted when nobody wants the ADD any more. */
  readonly signal: AbortSignal;
}

/** How long etcd may be silent before a DEL goes to the journal. */
const removePatienceMs = 1_000;
/** How often the journal looks whether etcd is back. */
const lookAgainMs = 250;
/** How long an ADD waits for a connection to etcd that has just broken. */
const connectMs = 1_000;

/**
 * The life of this node's endpoints, and the only one who changes them. Calls for one pod or container run one after
 * another; a DEL overtakes an ADD of the same container, which then loses.
 */
export class Lifecycle {
  readonly #endpoints: Endpoints;
  readonly #locks = new Locks();
  readonly #patience: Patience;
  readonly #adding = new Set<{ id: string; stop: AbortController }>();
  readonly #replay: Replay;

  constructor(private readonly deps: LifecycleDeps) {
    this.#endpoints = new Endpoints(deps.mirror, deps.node);
    this.#patience = new Patience(deps.clock);
    this.#replay = new Replay(this.#parts(), (entry, work) => this.#unlessAdding(entry, work));
  }

  /**
   * An ADD was asked for and is being prepared. A remove() from now on ends it, and so does `gone`: who asked went away.
   * Without this a DEL could come while an ADD still asks the API server, find nothing, and the ADD would come true after it.
   */
  expect(attachment: Attachment, gone?: AbortSignal): Asked {
    const call = { id: attachmentId(attachment), stop: new AbortController() };
    this.#adding.add(call);
    const signal = gone ? AbortSignal.any([call.stop.signal, gone]) : call.stop.signal;
    return { signal, [Symbol.dispose]: () => void this.#adding.delete(call) };
  }

  /**
   * Makes an endpoint: address, link, etcd, kernel. A repeated call for a live attachment gets the same answer. When it
   * fails nothing is left, or what etcd did not confirm is in the journal.
   * @throws Problem "unavailable" and "not-ready": try again; "exhausted", "exists", "not-found", "bad-input", "kernel";
   * "conflict": a DEL for the container came, or who asked went away.
   * @param asked of expect(), when the ADD was prepared.
   */
  async add(request: AddRequest, asked = this.expect(request.attachment)): Promise<Added> {
    using call = asked;
    const { attachment, endpoint: { metadata } } = request;
    const key = resourceKey("WorkloadEndpoint", metadata.name, metadata.namespace);
    return await this.#locks.hold([...keysOf(attachment, undefined), key], async () => {
      refuseWhenLost(call.signal, key);
      await this.#whenConnected();
      const previous = new Previous(this.#parts(), request, key);
      previous.refuseSecond();
      const again = await previous.answer();
      if (again) return again;
      await previous.clear();
      const made = await new Addition(this.#additionParts(attachment), request, call.signal).run();
      return { ...made, again: false };
    });
  }

  /** Addresses without an endpoint, for a main plugin that is not ours. @throws Problem as add(). */
  async lease(request: LeaseRequest, asked = this.expect(request.attachment)): Promise<{ ip: Ip; block: Cidr }[]> {
    using call = asked;
    const { attachment } = request;
    return await this.#locks.hold(keysOf(attachment, undefined), async () => {
      refuseWhenLost(call.signal, handleOf(attachment));
      await this.#whenConnected();
      return await new Lease(this.#additionParts(attachment), request).run();
    });
  }

  /**
   * Removes link, endpoint and addresses of an attachment. What is missing is fine. The link goes first and needs no etcd.
   * @throws Problem "kernel" when the link cannot be removed; "not-ready" while the cluster is locked; "bad-input" when
   * the namespace is the host's own; "unavailable" only when the journal cannot be written either.
   */
  async remove(request: RemoveRequest): Promise<Removed> {
    const { attachment, netns, endpointKey } = request;
    for (const { id, stop } of this.#adding) if (id === attachmentId(attachment)) stop.abort();
    return await this.#locks.hold(keysOf(attachment, endpointKey), async () => {
      if (this.deps.mirror.state().inSync) refuseWhenLocked(this.deps.mirror);
      const own = this.#endpoints.of({ key: endpointKey, containerId: attachment.containerId });
      if (isAnothers(this.deps.mirror, own, attachment)) return await this.#release(attachment, undefined);
      const hostInterface = own?.endpoint?.spec.interfaceName;
      const { interfaceName } = attachment;
      if (endpointKey !== undefined) await this.deps.wiring.disconnect({ netns, interfaceName, hostInterface });
      const removed = await this.#release(attachment, endpointKey);
      await this.deps.leases.remove(attachment);
      return removed;
    });
  }

  /** What is not as ADD left it, one sentence each. @throws Problem "kernel", "unavailable" before etcd was read. */
  async check(request: CheckRequest): Promise<string[]> {
    refuseWhenUnknown(this.deps.mirror);
    const { attachment, netns, endpointKey, hostInterface } = request;
    const { interfaceName, containerId } = attachment;
    const at = this.#endpoints.at(endpointKey);
    const endpoint = at && belongsTo(at, containerId) ? at.endpoint : undefined;
    const actual = await this.deps.wiring.inspect({ netns, interfaceName, hostInterface });
    const found = differences({ endpoint, actual, netns, interfaceName, hostInterface, answered: request.addresses });
    return [...found, ...this.#notHeld(attachment, endpoint ? addressesOf(endpoint) : [])];
  }

  /** Addresses that IPAM has under another handle, or not under the one that this attachment has. */
  #notHeld(attachment: Attachment, ips: Ip[]): string[] {
    const handle = handleOf(attachment);
    const hasHandle = this.deps.mirror.get(handleKey(handle)) !== undefined;
    return ips.flatMap((ip) => {
      const holder = handleHolding(this.deps.mirror, ip);
      const isWrong = holder === undefined ? hasHandle : holder !== handle;
      return isWrong ? [`IPAM has ${formatIp(ip)} ${holder ? `under ${holder}` : "free"}, not under ${handle}`] : [];
    });
  }

  /**
   * Removes what containers of a network hold on this node that are not in `valid`. Goes on after a failure.
   * @returns what could not be removed or judged, one sentence each. @throws Problem "unavailable" before etcd was read.
   */
  async collect(network: string, valid: { containerId: string; interfaceName: string }[]): Promise<string[]> {
    refuseWhenUnknown(this.deps.mirror);
    const alive = new Set(valid.map((v) => v.containerId));
    const all = holdersOf(this.deps.mirror, this.deps.node, network, this.#endpoints.ofThisNode());
    const problems = all.unclear.map((id) => `handle ${id}: cannot tell which network it belongs to`);
    for (const { containerId, interfaceName, endpointKey } of all.holders) {
      const attachment = { network, containerId, interfaceName };
      if (alive.has(containerId) || this.#isBusy(containerId)) continue;
      try {
        await this.remove({ attachment, endpointKey });
        this.deps.log.info("removed what a vanished container held", { network, container: containerId });
      } catch (error) {
        problems.push(`container ${containerId}: ${messageOf(error)}`);
      }
    }
    return problems;
  }

  /** Whether an add() would be served now. @param wish undefined when the addresses are another plugin's business. */
  readiness(wish: AddressWish | undefined): Readiness {
    return readiness(this.deps, wish);
  }

  /** Addresses that etcd has under the attachment's handle. */
  addressesOf(attachment: Attachment): Ip[] {
    return addressesUnder(this.deps.mirror, handleOf(attachment));
  }

  /** This node's endpoints in etcd. */
  list(): WorkloadEndpoint[] {
    return this.#endpoints.ofThisNode().map((e) => e.endpoint);
  }

  /** How far in etcd's history the agent has read. */
  revision(): bigint {
    return this.deps.mirror.revision;
  }

  /** Deletes that etcd has not seen, and ADDs under way. */
  pending(): JournalEntry[] {
    return this.deps.journal.entries();
  }

  /**
   * To be awaited once before the first add(): reads the journal and removes the links of ADDs in which the last process
   * died. Needs no etcd.
   */
  async recover(): Promise<void> {
    await this.deps.journal.scan();
    await this.deps.leases.scan();
    await this.#replay.links();
  }

  /** Replays the journal whenever etcd answers; ends when `signal` is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.deps;
    const backoff = new Backoff({ firstMs: 200, maxMs: 5_000, clock });
    while (!signal.aborted) {
      const left = await this.#replay.all();
      if (left !== "failed") backoff.reset();
      const pauses = {
        nothing: () => this.#replay.wanted(signal),
        waiting: () => clock.sleep(lookAgainMs, signal),
        failed: () => backoff.wait(signal),
      };
      await pauses[left]().catch(() => {}); // aborted: the loop's condition ends it
    }
  }

  async #release(attachment: Attachment, endpointKey: string | undefined): Promise<Removed> {
    const { journal, clock, log } = this.deps;
    try {
      const etcd = await release(this.#parts(), { attachment, endpointKey, patienceMs: removePatienceMs });
      if (!journal.get(attachment)) return { etcd };
    } catch (error) {
      if (!isProblem(error, "unavailable")) throw error;
      log.warn("delete waits for etcd", { container: attachment.containerId, why: messageOf(error) });
    }
    // An ADD whose transaction etcd did not confirm may still come true: the journal watches for it.
    await journal.mustGo({ attachment, endpointKey }, clock.now());
    this.#replay.want();
    return { etcd: "journalled" };
  }

  async #whenConnected(): Promise<void> {
    const { mirror, clock } = this.deps;
    const end = clock.monotonicMs() + connectMs;
    for (;;) {
      const { inSync, connected, why } = mirror.state();
      if (inSync && connected) return;
      if (clock.monotonicMs() >= end) {
        const what = inSync ? "etcd is away" : "the agent is not in sync with etcd";
        throw new Problem({
          code: "not-ready",
          what: why ? `${what}: ${why}` : what,
          todo: "The runtime tries again; `tortie ctl node status` says what the agent waits for",
        });
      }
      await clock.sleep(20);
    }
  }

  /** For the replay of an entry: runs it alone, and not while its ADD goes on. */
  async #unlessAdding(entry: JournalEntry, work: () => Promise<void>): Promise<void> {
    if ([...this.#adding].some(({ id }) => id === attachmentId(entry.attachment))) return;
    await this.#locks.hold(keysOf(entry.attachment, entry.endpointKey), work);
  }

  #isBusy(containerId: string): boolean {
    return [...this.#adding].some(({ id }) => id.includes(`,${containerId},`));
  }

  #additionParts(attachment: Attachment): AdditionParts {
    const { step } = this.deps;
    return { ...this.#parts(), step: (name) => step?.(name, attachment), later: () => this.#replay.want() };
  }

  #parts() {
    return { ...this.deps, endpoints: this.#endpoints, patience: this.#patience };
  }
}

const keysOf = (attachment: Attachment, endpointKey: string | undefined): string[] => [
  handleOf(attachment),
  ...(endpointKey === undefined ? [] : [endpointKey]),
];
