import { type Clock, goTimestamp, withDeadline } from "../../lib/clock.ts";
import { type Family, formatIp, type Ip } from "../../lib/ip.ts";
import { isObject, parseJson } from "../../lib/json64.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, messageOf, Problem } from "../../lib/problem.ts";
import { blockPrefix, poolPrefix, readyKey } from "../../datastore/keys.ts";
import type { LabelledObject } from "../../datastore/kubernetes/profile.ts";
import type { Api, Batch } from "../../datastore/kubernetes/reflector.ts";
import type { Changes, Mirror } from "../../datastore/mirror.ts";
import { type Allocator } from "../../ipam/commit.ts";
import { decodeBlock } from "../../ipam/block.ts";
import type { Pool } from "../../ipam/pools/pool.ts";
import type { AssignRequest } from "../../ipam/request.ts";
import { type Decoded, viewOf } from "../../ipam/view.ts";
import type { Running } from "../settings.ts";
import { type KeptService, namespaces, services, type Source } from "../sources.ts";
import { type Follower, idOf, type Trouble } from "../syncs/sync.ts";
import type { Acted } from "../worker.ts";
import { type Allocation, allocationsIn } from "./allocations.ts";
import { type Balance, balanceOf, balancerNode, handleOfService, ingressOf, isManaged } from "./load_balancers.ts";

/** What a balancer works with. */
export interface BalancerParts {
  mirror: Pick<Mirror, "get" | "list" | "learn" | "revision">;
  allocator: Allocator;
  api: Pick<Api, "open">;
  /** Says in Kubernetes what is not followed of a Service; undefined = nothing any more. */
  tell(key: string, trouble: Trouble | undefined): Promise<void>;
  clock: Clock;
  log: Logger;
}

/** Between two tries of a Service that gets no address, when nothing changes. */
const againMs = 300_000;
/** Of one request to Kubernetes. */
const deadlineMs = 10_000;

/** Gives addresses to Services of type LoadBalancer, and says so in their status. Keys are `namespace/name`. */
export class Balancer implements Follower {
  readonly name = "loadbalancer";
  readonly sources: readonly Source[] = [services as Source, namespaces as Source];
  readonly #parts: BalancerParts;
  #services = new Map<string, KeptService>();
  #labels = new Map<string, Record<string, string>>();
  /** Addresses of Services by block, and the blocks by Service. */
  readonly #given = new Map<string, Map<string, Allocation[]>>();
  readonly #decoded: Decoded = new WeakMap();
  #assignIPs: Running["assignIPs"] = "AllServices";

  constructor(parts: BalancerParts) {
    this.#parts = parts;
  }

  configure({ assignIPs }: Running): string[] {
    this.#assignIPs = assignIPs;
    return this.#all();
  }

  kubernetes(given: Batch<unknown>, source: Source): string[] {
    if (source === namespaces) return this.#takeNamespaces(given as Batch<LabelledObject>);
    const batch = given as Batch<KeptService>;
    if ("all" in batch) {
      const before = this.#all();
      this.#services = new Map(batch.all.map((service) => [idOf(service), service]));
      return [...new Set([...before, ...this.#all()])];
    }
    return batch.changes.map(({ object, gone }) => {
      const id = idOf(object);
      if (gone) this.#services.delete(id);
      else this.#services.set(id, object);
      return id;
    });
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    const touched = new Set<string>();
    const replace = (key: string, now: Map<string, Allocation[]>) => {
      for (const id of [...this.#given.get(key)?.keys() ?? [], ...now.keys()]) touched.add(id);
      if (now.size > 0) this.#given.set(key, now);
      else this.#given.delete(key);
    };
    for (const kv of set) if (kv.key.startsWith(blockPrefix)) replace(kv.key, givenIn(kv));
    for (const key of deleted) if (key.startsWith(blockPrefix)) replace(key, new Map());
    const isPools = (key: string) => key.startsWith(poolPrefix) || key === readyKey;
    return set.some(({ key }) => isPools(key)) || deleted.some(isPools) ? this.#all() : [...touched];
  }

  /** Brings one Service in order. @throws Problem when etcd or Kubernetes do not answer. */
  async act(id: string): Promise<Acted> {
    const service = this.#services.get(id), have = this.#of(id);
    if (!service) return { wrote: await this.#release(have) };
    const view = viewOf(this.#parts.mirror, this.#decoded);
    if (!view.ready()) return { wrote: false, againMs };
    if (!isManaged(service, this.#assignIPs)) return { wrote: await this.#letGo(service, have) };
    const pools = view.pools().filter(({ uses, enabled }) => enabled && uses.includes("LoadBalancer"));
    if (pools.length === 0 && have.length === 0) return { wrote: false };
    return await this.#balance(service, have, pools);
  }

  async #balance(service: KeptService, have: Allocation[], pools: Pool[]): Promise<Acted> {
    const { tell } = this.#parts;
    let balance: Balance;
    try {
      balance = balanceOf(service, have, pools);
    } catch (error) {
      if (!isProblem(error, "bad-input")) throw error;
      await tell(idOf(service), troubleOf(service, messageOf(error)));
      return { wrote: false };
    }
    const released = await this.#release(balance.release);
    const { ips, why } = balance.take ? await this.#take(service, balance.take) : { ips: [], why: undefined };
    const ingress = ingressOf(service, [...balance.keep.map(({ ip }) => ip), ...ips]);
    if (ingress) await this.#say(service, ingress);
    await tell(idOf(service), why === undefined ? undefined : troubleOf(service, why));
    return { wrote: released || ips.length > 0 || ingress !== undefined, ...(why !== undefined && { againMs }) };
  }

  /** Takes what is wanted, as much of it as there is. */
  async #take(service: KeptService, wanted: NonNullable<Balance["take"]>): Promise<{ ips: Ip[]; why?: string }> {
    const { allocator, clock, log } = this.#parts;
    const { name, namespace = "" } = service.metadata;
    const timestamp = goTimestamp(clock.now());
    const common = {
      handle: handleOfService(service),
      attributes: { namespace, service: name, timestamp, type: "LoadBalancer" },
      node: balancerNode,
      use: "LoadBalancer" as const,
      namespace: this.#labels.get(namespace) ?? {},
    };
    // Each address by itself: one that cannot be had does not hold up the other.
    const requests: AssignRequest[] = "addresses" in wanted
      ? wanted.addresses.map((ip) => ({ ...common, address: [ip] }))
      : wanted.families.map((v: Family) => ({ ...common, families: { [v]: 1 }, pools: wanted.pools, maxPerHandle: 1 }));
    const outcomes = await allocator.assign(requests);
    this.#learn(outcomes);
    const away = outcomes.find(({ problem }) => isProblem(problem, "unavailable", "conflict"));
    if (away) throw away.problem;
    const ips = outcomes.flatMap(({ addresses }) => addresses.map(({ ip }) => ip));
    for (const ip of ips) log.info("Service has an address", { service: idOf(service), ip: formatIp(ip) });
    const whys = outcomes.flatMap(({ problem }) => problem ? [problem.message] : []);
    return whys.length > 0 ? { ips, why: [...new Set(whys)].join("; ") } : { ips };
  }

  /** A Service that is not ours any more: its addresses go, and from its status those alone. */
  async #letGo(service: KeptService, have: Allocation[]): Promise<boolean> {
    if (have.length === 0) return false;
    const ours = have.map(({ ip }) => formatIp(ip));
    const left = service.ingress.filter(({ ip }) => !ip || !ours.includes(ip));
    if (service.type === "LoadBalancer" && left.length < service.ingress.length) await this.#say(service, left);
    await this.#release(have);
    return true;
  }

  async #release(gone: Allocation[]): Promise<boolean> {
    const { allocator, log } = this.#parts;
    if (gone.length === 0) return false;
    const outcomes = await allocator.release(
      gone.map(({ ip, handle, sequenceNumber }) => ({ addresses: [{ ip, handle, sequenceNumber }] })),
    );
    this.#learn(outcomes);
    const problem = outcomes.find((outcome) => outcome.problem)?.problem;
    if (problem) throw problem;
    for (const { ip, owner } of gone) {
      log.info("address of a Service released", { service: `${owner.namespace}/${owner.service}`, ip: formatIp(ip) });
    }
    return true;
  }

  #learn(outcomes: { commit?: { events: Parameters<Mirror["learn"]>[0] } }[]): void {
    for (const { commit } of outcomes) if (commit) this.#parts.mirror.learn(commit.events);
  }

  /** Writes the Service's status, on top of what it is now. By GET and PUT, as Calico's role allows them. */
  async #say({ metadata: { name, namespace = "" }, uid }: KeptService, ingress: unknown[]): Promise<void> {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/services/${encodeURIComponent(name)}`;
    const { status, object } = await this.#ask(path);
    const metadata = isObject(object?.metadata) ? object.metadata : {};
    if (status === 404 || (status === 200 && metadata.uid !== uid)) return; // its events are on their way
    if (status !== 200 || !object) throw refused(path, status);
    const now = isObject(object.status) ? object.status : {};
    const balancer = isObject(now.loadBalancer) ? now.loadBalancer : {};
    const next = { ...object, status: { ...now, loadBalancer: { ...balancer, ingress } } };
    const put = await this.#ask(`${path}/status`, { method: "PUT", object: next });
    if (put.status >= 300) throw refused(`${path}/status`, put.status);
  }

  async #ask(path: string, send?: Parameters<Api["open"]>[2]) {
    const { api, clock } = this.#parts;
    const said = (what: string) => new Problem({ code: "not-ready", what, where: path });
    const work = async (signal: AbortSignal) => {
      const answer = await api.open(path, signal, send);
      const text = await answer.text(), object = answer.ok ? parseJson(text) : undefined;
      return { status: answer.status, object: isObject(object) ? object : undefined };
    };
    const late = () => said("Kubernetes does not answer in time");
    return await withDeadline(deadlineMs, work, late, clock).catch((error) => {
      throw isProblem(error, "unavailable") ? said(error.what) : error;
    });
  }

  #takeNamespaces(batch: Batch<LabelledObject>): string[] {
    if ("all" in batch) {
      this.#labels = new Map(batch.all.map(({ metadata }) => [metadata.name, metadata.labels ?? {}]));
      return this.#all();
    }
    const names = new Set<string>();
    for (const { object: { metadata }, gone } of batch.changes) {
      if (gone) this.#labels.delete(metadata.name);
      else this.#labels.set(metadata.name, metadata.labels ?? {});
      names.add(metadata.name);
    }
    return [...this.#services].filter(([, { metadata }]) => names.has(metadata.namespace ?? "")).map(([id]) => id);
  }

  /** Addresses that a Service has, of any of its lives. */
  #of(id: string): Allocation[] {
    return [...this.#given.values()].flatMap((perService) => perService.get(id) ?? []);
  }

  #all(): string[] {
    return [...new Set([...this.#services.keys(), ...[...this.#given.values()].flatMap((m) => [...m.keys()])])];
  }
}

/** Addresses of Services in a block of load balancers; none in one that cannot be read, where nothing is released either. */
function givenIn(kv: { key: string; value: string }): Map<string, Allocation[]> {
  if (!kv.value.includes(`virtual:${balancerNode}`)) return new Map();
  try {
    const block = decodeBlock(kv.value, kv.key);
    if (block.affinity !== `virtual:${balancerNode}`) return new Map();
    const named = allocationsIn(block).filter(({ owner }) => owner.service && owner.namespace);
    return Map.groupBy(named, ({ owner }) => `${owner.namespace}/${owner.service}`);
  } catch (error) {
    if (isProblem(error, "undecodable")) return new Map();
    throw error;
  }
}

const troubleOf = ({ metadata: { name, namespace }, uid }: KeptService, why: string): Trouble => ({
  object: { apiVersion: "v1", kind: "Service", name, namespace, uid },
  why: [why],
});

/** Somebody was faster, or we may not: another try, later. */
const refused = (path: string, status: number): Problem =>
  new Problem({
    code: status === 403 || status === 401 ? "unauthorized" : status === 409 ? "conflict" : "not-ready",
    what: `the status of a Service cannot be written: HTTP ${status}`,
    where: path,
  });
