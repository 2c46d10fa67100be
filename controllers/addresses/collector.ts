import { type Clock, withDeadline } from "../../lib/clock.ts";
import { formatIp } from "../../lib/ip.ts";
import { isObject, parseJson } from "../../lib/json64.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, Problem } from "../../lib/problem.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { ipamPrefix, nodePrefix, poolPrefix, readyKey, reservationPrefix } from "../../datastore/keys.ts";
import type { Node } from "../../datastore/kinds/node.ts";
import type { Api, Batch, KubernetesObject } from "../../datastore/kubernetes/reflector.ts";
import type { Changes, Mirror } from "../../datastore/mirror.ts";
import type { Suspects } from "../../ipam/collect.ts";
import type { Allocator } from "../../ipam/commit.ts";
import { type Decoded, viewOf } from "../../ipam/view.ts";
import type { Running } from "../settings.ts";
import { type KeptPod, keptPod, nodes, pods, type Source } from "../sources.ts";
import { type Follower, idOf } from "../syncs/sync.ts";
import type { Acted } from "../worker.ts";
import { type Confirmed, type Findings, lookForLeaks, podUses, type Truth } from "./leaks.ts";
import { count, type PerPoolAndNode, poolNameOf } from "./samples.ts";

/** What a collector works with. */
export interface CollectorParts {
  mirror: Pick<Mirror, "get" | "list" | "learn" | "revision">;
  allocator: Allocator;
  api: Pick<Api, "open">;
  clock: Clock;
  log: Logger;
}

/** The only key: there is one look at everything. */
const look = "addresses";
/** Changes that come together are looked at together. */
const gatherMs = 1_000;
/** Between two looks when no suspect is due earlier. */
const idleMs = 300_000;
/** Of one question to Kubernetes. */
const deadlineMs = 10_000;
/** Questions at the same time, and addresses a round. */
const width = 8, maxRelease = 1_000;

/** Releases addresses, blocks and handles that nobody uses, after asking Kubernetes once more about each. */
export class Collector implements Follower {
  readonly name = "addresses";
  readonly sources: readonly Source[] = [pods, nodes];
  readonly #parts: CollectorParts;
  #pods = new Map<string, KeptPod>();
  #there = new Set<string>();
  /** Names in Kubernetes of the nodes in etcd; undefined for one that is none of Kubernetes. */
  readonly #nodes = new Map<string, string | undefined>();
  readonly #decoded: Decoded = new WeakMap();
  #suspects: Suspects = new Map();
  #graceMs = 0;
  /** What the last look came to; undefined = nobody has looked. */
  findings: Findings | undefined;
  /** Addresses released since the start, by pool and node. */
  readonly reclaimed: PerPoolAndNode = new Map();

  constructor(parts: CollectorParts) {
    this.#parts = parts;
  }

  /** Names of the nodes of Kubernetes, as etcd calls them. */
  nodeNames(): string[] {
    return [...this.#nodes].filter(([, there]) => there !== undefined).map(([name]) => name);
  }

  configure({ leakGraceMs }: Running): string[] {
    this.#graceMs = leakGraceMs;
    return [look];
  }

  kubernetes(batch: Batch<unknown>, source: Source): string[] {
    if (source === pods) return this.#takePods(batch as Batch<KeptPod>);
    if ("all" in batch) this.#there = new Set((batch.all as KubernetesObject[]).map(({ metadata }) => metadata.name));
    else {
      for (const { object, gone } of batch.changes as { object: KubernetesObject; gone: boolean }[]) {
        if (gone) this.#there.delete(object.metadata.name);
        else this.#there.add(object.metadata.name);
      }
    }
    return [look];
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    for (const kv of set) {
      if (!kv.key.startsWith(nodePrefix)) continue;
      const node = decodeResource(kv);
      if (!node || isUndecodable(node)) continue;
      const refs = (node as Node).spec.orchRefs ?? [];
      this.#nodes.set(node.metadata.name, refs.find((ref) => ref.orchestrator === "k8s")?.nodeName || undefined);
    }
    for (const key of deleted) if (key.startsWith(nodePrefix)) this.#nodes.delete(key.slice(nodePrefix.length));
    const matters = (key: string) =>
      [ipamPrefix, poolPrefix, nodePrefix, reservationPrefix].some((p) => key.startsWith(p)) || key === readyKey;
    return set.some(({ key }) => matters(key)) || deleted.some(matters) ? [look] : [];
  }

  /** One look, and the release of what it confirms. @throws Problem when Kubernetes or etcd do not answer. */
  async act(_key: string, signal: AbortSignal): Promise<Acted> {
    const { mirror, clock } = this.#parts;
    await clock.sleep(gatherMs, signal);
    const view = viewOf(mirror, this.#decoded);
    if (!view.ready()) return { wrote: false, againMs: idleMs };
    const time = { nowMs: clock.now(), graceMs: this.#graceMs };
    const findings = lookForLeaks(view, this.#truth(), this.#suspects, time);
    this.#suspects = findings.suspects;
    this.findings = findings;
    const wrote = await this.#release(findings);
    const periodMs = this.#graceMs > 0 ? Math.min(this.#graceMs / 2, idleMs) : idleMs;
    return { wrote, againMs: Math.min(periodMs, findings.dueMs ?? Infinity) };
  }

  #takePods(batch: Batch<KeptPod>): string[] {
    if ("all" in batch) {
      this.#pods = new Map(batch.all.map((pod) => [idOf(pod), pod]));
      return [look];
    }
    for (const { object, gone } of batch.changes) {
      if (gone) this.#pods.delete(idOf(object));
      else this.#pods.set(idOf(object), object);
    }
    // A pod that comes or changes frees nothing that the next look does not find.
    return batch.changes.some(({ gone }) => gone) ? [look] : [];
  }

  #truth(): Truth {
    return {
      pod: (namespace, name) => this.#pods.get(`${namespace}/${name}`),
      node: (name) => {
        if (!this.#nodes.has(name)) return { is: "gone" };
        const there = this.#nodes.get(name);
        if (there === undefined) return { is: "foreign" };
        return this.#there.has(there) ? { is: "there", name: there } : { is: "gone" };
      },
    };
  }

  async #release({ leaks, nodes, spare, handles, cooled, suspects }: Findings): Promise<boolean> {
    const { allocator, mirror, log } = this.#parts;
    const sure = await this.#sure(leaks.slice(0, maxRelease));
    const nothing = { leaks: [], handles: [], spare: [], abandoned: [], cooled: [], suspects };
    const rounds = [
      await allocator.clean({ ...nothing, leaks: sure, handles, cooled }, ""),
      ...await Promise.all(spare.map(({ node, cidr }) => allocator.clean({ ...nothing, spare: [cidr] }, node))),
    ];
    const commits = rounds.flatMap((round) => round.commits);
    const released = rounds.flatMap((round) => round.released) as Confirmed[];
    for (const { ip, handle, reason } of released) {
      log.info("address released", { ip: formatIp(ip), handle, why: reason });
    }
    const { pools } = viewOf(mirror, this.#decoded), all = pools();
    for (const leak of released) count(this.reclaimed, poolNameOf(all, leak.block), leak.owner.node);
    for (const node of sure.length === leaks.length ? await this.#gone(nodes) : []) {
      const given = await allocator.releaseAffinities({ node }, true);
      commits.push(...given.commits);
      if (given.blocks.length > 0) log.info("blocks of a node that is gone are given up", { node });
    }
    for (const { events } of commits) mirror.learn(events);
    return commits.length > 0;
  }

  /** Those of the leaks that Kubernetes, asked once more, knows nothing of either; whole handles only. */
  async #sure(leaks: Confirmed[]): Promise<Confirmed[]> {
    const doubtful = new Set<string>(), left = [...leaks];
    const lane = async () => {
      for (let leak = left.pop(); leak; leak = left.pop()) {
        if (!await this.#isUnused(leak)) doubtful.add(leak.handle);
      }
    };
    await Promise.all(Array.from({ length: Math.min(width, left.length) }, lane));
    return leaks.filter(({ handle }) => !doubtful.has(handle));
  }

  async #isUnused({ ip, owner, nodeGone }: Confirmed): Promise<boolean> {
    const nodeThere = this.#nodes.get(owner.node!) ?? owner.node!;
    if (nodeGone && await this.#ask(`/api/v1/nodes/${encodeURIComponent(nodeThere)}`)) return false;
    if (!owner.pod || !owner.namespace) return true;
    const [namespace, pod] = [owner.namespace, owner.pod].map(encodeURIComponent);
    const object = await this.#ask(`/api/v1/namespaces/${namespace}/pods/${pod}`);
    return !podUses(ip, object && keptPod(object), nodeGone ? undefined : nodeThere);
  }

  /** Nodes that Kubernetes, asked once more, does not have. */
  async #gone(names: string[]): Promise<string[]> {
    const gone = await Promise.all(names.map(async (name) => {
      return await this.#ask(`/api/v1/nodes/${encodeURIComponent(this.#nodes.get(name) ?? name)}`) === undefined;
    }));
    return names.filter((_, i) => gone[i]);
  }

  /** An object of Kubernetes as it is now; undefined when there is none. @throws Problem "not-ready" when it does not say. */
  async #ask(path: string): Promise<KubernetesObject | undefined> {
    const { api, clock } = this.#parts;
    const said = (what: string) => new Problem({ code: "not-ready", what, where: path });
    const get = async (signal: AbortSignal) => {
      const answer = await api.open(path, signal);
      return { status: answer.status, text: await answer.text() };
    };
    const late = () => said("Kubernetes does not answer in time");
    const { status, text } = await withDeadline(deadlineMs, get, late, clock).catch((error) => {
      throw isProblem(error, "unavailable") ? said(error.what) : error;
    });
    if (status === 404) return undefined;
    const object = status === 200 ? parseJson(text) : undefined;
    if (isObject(object) && isObject(object.metadata)) return object as unknown as KubernetesObject;
    throw said(`Kubernetes does not say whether it is there: HTTP ${status}`);
  }
}
