import type { Clock } from "../../lib/clock.ts";
import { bits, type Cidr, cidrOf, formatCidr, type Ip } from "../../lib/ip.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, messageOf, Problem } from "../../lib/problem.ts";
import { encodeResource } from "../../datastore/codec.ts";
import { resourceKey } from "../../datastore/keys.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import type { Compare, Event, Store, Write } from "../../datastore/store.ts";
import type { Allocator } from "../../ipam/commit.ts";
import type { AssignedAddress, AssignRequest, Extra } from "../../ipam/request.ts";
import type { Dataplane } from "../dataplane/apply.ts";
import type { LocalEndpoint } from "../desired.ts";
import { handleOf } from "./attachment.ts";
import type { Endpoints } from "./_endpoints.ts";
import type { OpenJournal } from "./journal.ts";
import type { Leases } from "./leases.ts";
import { Pair } from "./_pair.ts";
import type { Patience } from "./_patience.ts";
import { refresh, refuseWhenLocked, release } from "./_release.ts";
import type { AddRequest, AddStep } from "./request.ts";
import { storedEndpoint } from "./stored.ts";
import type { Wiring } from "./wiring.ts";

/** What an addition works with. */
export interface AdditionParts {
  node: string;
  store: Pick<Store, "read" | "txn">;
  mirror: Pick<Mirror, "get" | "learn" | "state">;
  allocator: Pick<Allocator, "assign" | "release">;
  wiring: Pick<Wiring, "connect" | "inspect">;
  dataplane: Pick<Dataplane, "enforced">;
  journal: OpenJournal;
  leases: Pick<Leases, "add">;
  endpoints: Endpoints;
  patience: Patience;
  random: { mac(): string; uuid(): string };
  clock: Clock;
  log: Logger;
  step: (step: AddStep) => void;
  /** Something was left to the journal. */
  later: () => void;
}

/** How long etcd may be silent before an ADD gives up; the runtime tries again. */
const patienceMs = 1_500;
/** How long address management may go on with a request, behind others: it ends before when etcd is silent. */
const deadlineMs = 20_000;
/** How long the kernel may take to enforce what the endpoint needs. */
const enforceMs = 10_000;
/** A transaction with this compare never commits; no revision of etcd is so large. */
const never = 1n << 62n;
const maxConflicts = 5;

/** What an addition made. */
export interface Made {
  endpoint: WorkloadEndpoint;
  addresses: { ip: Ip; block: Cidr }[];
}

/**
 * One ADD, from nothing to a pod that is reachable. When a step fails, the earlier ones are undone in reverse; what
 * cannot be undone now (etcd away, its answer lost) stays in the journal, which undoes it later.
 */
export class Addition {
  readonly #mac: string;
  readonly #pair: Pair;
  #planned = false;
  #over = false;
  #given: AssignedAddress[] = [];
  #stored: WorkloadEndpoint | undefined;

  constructor(
    private readonly parts: AdditionParts,
    private readonly request: AddRequest,
    /** Aborted when a DEL for the container came, or who asked went away: the ADD must not come true. */
    private readonly signal: AbortSignal,
  ) {
    this.#mac = request.mac ?? parts.random.mac();
    const { attachment, netns, endpoint, mtu, queues, routes, ipForwarding } = request;
    const wanted = {
      netns,
      interfaceName: attachment.interfaceName,
      hostInterface: endpoint.spec.interfaceName!,
      mac: this.#mac,
      ...{ mtu, queues, routes, ipForwarding },
      replaceHostInterface: parts.endpoints.at(this.#key) !== undefined,
      endpointKey: this.#key,
    };
    this.#pair = new Pair(parts.wiring, parts.endpoints, wanted, () => parts.clock.sleep(0));
  }

  get #key(): string {
    const { name, namespace } = this.request.endpoint.metadata;
    return resourceKey("WorkloadEndpoint", name, namespace);
  }

  /** @throws Problem whatever went wrong; nothing is left, or the journal has it. */
  async run(): Promise<Made> {
    const { parts, request: { attachment, netns } } = this;
    const link = { netns, mac: this.#mac };
    const entry = { attachment, endpointKey: this.#key, link };
    await parts.journal.begin(entry, parts.clock.now());
    let committed: "no" | "perhaps" | "yes" = "no";
    try {
      parts.step("recorded");
      refuseWhenLocked(parts.mirror);
      committed = "perhaps";
      const events = await this.#commit().catch((error) => {
        if (!isProblem(error, "unavailable")) committed = "no";
        throw error;
      });
      committed = "yes";
      parts.step("committed");
      parts.mirror.learn(events);
      parts.step("learned");
      await this.#pair.finished();
      this.#refuseWhenLost();
      await this.#ensureProfile();
      await parts.dataplane.enforced(this.#key, enforceMs, (known) => this.#isThis(known));
      parts.step("enforced");
      this.#refuseWhenLost();
      await parts.journal.drop(attachment);
      parts.step("settled");
      return { endpoint: this.#stored!, addresses: this.#answered() };
    } catch (error) {
      await this.#undo(committed, entry);
      throw error;
    }
  }

  /** An address that was asked for by name stands for itself, not for its block: as in Calico's answers. */
  #answered(): Made["addresses"] {
    const { addresses } = this.request;
    const byName = addresses.from === "ipam" && (addresses.specific?.length ?? 0) > 0;
    return byName ? this.#given.map(({ ip }) => ({ ip, block: cidrOf(ip, bits(ip.v)) })) : this.#given;
  }

  #commit(): Promise<Event[]> {
    const { addresses } = this.request;
    return addresses.from === "given" ? this.#commitGiven(addresses.addresses) : this.#commitAssigned();
  }

  /** Addresses, handle and endpoint in one transaction. */
  async #commitAssigned(): Promise<Event[]> {
    const { parts, request } = this;
    for (let conflicts = 0;; conflicts++) {
      const wanted: AssignRequest = { ...assignRequest(request, parts.node), with: (got) => this.#plan(got) };
      const work = () => parts.allocator.assign([wanted]);
      const [outcome] = await parts.patience.within(patienceMs, work, "ADD");
      if (!outcome!.problem) {
        this.#given = outcome!.addresses;
        return outcome!.commit?.events ?? [];
      }
      this.#refuseWhenLost();
      if (!isProblem(outcome!.problem, "conflict") || conflicts === maxConflicts) throw outcome!.problem;
      if (!outcome!.current) throw outcome!.problem;
      await parts.patience.within(patienceMs, () => refresh(parts, this.#key), "ADD");
    }
  }

  /** The endpoint alone; its addresses are somebody else's business. */
  async #commitGiven(ips: Ip[]): Promise<Event[]> {
    const { parts } = this;
    for (let conflicts = 0;; conflicts++) {
      const { compare, write } = this.#plan(ips.map((ip) => ({ ip, block: cidrOf(ip, bits(ip.v)) })));
      const result = await parts.patience.within(patienceMs, () => parts.store.txn({ compare, write }), "ADD");
      if (result.committed) {
        const { value } = write[0] as { value: string };
        const created = parts.mirror.get(this.#key)?.created ?? result.revision;
        return [{ key: this.#key, value, revision: result.revision, created }];
      }
      this.#refuseWhenLost();
      if (conflicts === maxConflicts) throw lost(this.#key);
      await parts.patience.within(patienceMs, () => refresh(parts, this.#key), "ADD");
    }
  }

  /** The endpoint with these addresses, as a write beside theirs; the pair begins to be made for them. */
  #plan(addresses: AssignedAddress[]): Extra {
    const key = this.#key;
    if (this.signal.aborted || this.#over) return { compare: [{ key, revision: never }], write: [] };
    if (!this.#planned) this.parts.step("planned");
    const { parts, request } = this;
    const ips = addresses.map((a) => a.ip);
    const old = parts.endpoints.at(key);
    const { floatingIps, attachment: { containerId } } = request;
    const found = { containerId, mac: this.#mac, addresses: ips, floatingIps };
    const stored = storedEndpoint(request.endpoint, found, old?.endpoint, parts.random.uuid(), parts.clock.now());
    this.#stored = stored;
    this.#given = addresses;
    this.#pair.begin(ips);
    if (!this.#planned) this.#pair.finished().then(() => parts.step("connected"), () => {});
    this.#planned = true;
    const compare: Compare[] = [{ key, revision: old?.revision ?? 0n }];
    const write: Write[] = [{ put: key, value: encodeResource(stored as Resource) }];
    return { compare, write };
  }

  /** Creates the network's profile when there is none; it is never changed and never removed. */
  async #ensureProfile(): Promise<void> {
    const { parts, request: { profile } } = this;
    if (!profile) return;
    const key = resourceKey(profile.kind, profile.metadata.name);
    if (parts.mirror.get(key)) return;
    const { uuid } = parts.random;
    const metadata = { ...profile.metadata, uid: uuid(), creationTimestamp: this.#stored!.metadata.creationTimestamp };
    const value = encodeResource({ ...profile, metadata });
    const txn = { compare: [{ key, revision: 0n }], write: [{ put: key, value }] };
    const result = await parts.patience.within(patienceMs, () => parts.store.txn(txn), "ADD");
    if (result.committed) {
      parts.mirror.learn([{ key, value, revision: result.revision, created: result.revision }]);
    }
  }

  /** True for the endpoint as this ADD stored it, not as an older sandbox of the same pod had it. */
  #isThis(known: LocalEndpoint): boolean {
    const { mac, ipNetworks } = this.#stored!.spec;
    return known.mac === mac && known.nets.map(formatCidr).join() === ipNetworks!.join();
  }

  #refuseWhenLost(): void {
    refuseWhenLost(this.signal, this.#key);
  }

  /** Undoes what was done, newest first, and says so in the log when something stays for the journal. */
  async #undo(
    committed: "no" | "perhaps" | "yes",
    entry: { attachment: AddRequest["attachment"]; endpointKey: string },
  ): Promise<void> {
    const { parts } = this;
    const { attachment, endpointKey } = entry;
    this.#over = true;
    try {
      await this.#pair.undo();
      if (committed === "yes") await release(parts, { attachment, endpointKey, patienceMs });
      if (committed !== "perhaps") return await parts.journal.drop(attachment);
      await parts.journal.mustGo(entry, parts.clock.now());
      parts.later();
    } catch (error) {
      const fields = { container: attachment.containerId, network: attachment.network, why: messageOf(error) };
      parts.log.warn("a failed ADD is undone later", fields);
      await parts.journal.mustGo(entry, parts.clock.now());
      parts.later();
    }
  }
}

/** The wish for addresses, without what goes beside them. */
export function assignRequest(
  request: Pick<AddRequest, "attachment" | "addresses" | "attributes" | "namespaceLabels">,
  node: string,
): AssignRequest {
  if (request.addresses.from !== "ipam") throw new Error("addresses are given");
  const { v4, v6, pools4, pools6, specific } = request.addresses;
  const handle = handleOf(request.attachment);
  const common = { handle, attributes: request.attributes, node, use: "Workload" as const, deadlineMs };
  if (specific && specific.length > 0) return { ...common, address: specific };
  return {
    ...common,
    families: { ...(v4 ? { 4: 1 } : {}), ...(v6 ? { 6: 1 } : {}) },
    pools: { ...(pools4 ? { 4: pools4 } : {}), ...(pools6 ? { 6: pools6 } : {}) },
    namespace: request.namespaceLabels,
  };
}

const lost = (where: string): Problem =>
  new Problem({
    code: "conflict",
    what: "the container was deleted, or its runtime gave up, while it was being added",
    where,
  });

/** @throws Problem "conflict" when nobody wants the ADD any more. */
export function refuseWhenLost(signal: AbortSignal, where: string): void {
  if (signal.aborted) throw lost(where);
}
