import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf, Problem } from "../lib/problem.ts";
import { Wake } from "../lib/wake.ts";
import { decodeResource, encodeResource } from "../datastore/codec.ts";
import { parseKey } from "../datastore/keys.ts";
import type { Mirror } from "../datastore/mirror.ts";
import type { Resources } from "../datastore/resources.ts";
import type { Step } from "./step.ts";
import type { Sync } from "./sync.ts";

/** What a worker works with. */
export interface WorkerParts {
  sync: Sync;
  mirror: Pick<Mirror, "get">;
  resources: Resources;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
  /** Takes a node away with what is about it, unless it is in Kubernetes after all. */
  removeNode(node: { name: string; nameThere: string }): Promise<void>;
}

/** Steps at the same time. */
const width = 16;
/** Between two tries of a key that fails. */
const retry = { firstMs: 50, maxMs: 60_000 };
const idleMs = 60_000;

/** Takes steps for keys in doubt, each key by one at a time, until nothing is in doubt. What fails is tried for ever. */
export class Worker {
  readonly #parts: WorkerParts;
  readonly #doubted = new Set<string>();
  readonly #failing = new Map<string, { backoff: Backoff; atMs: number; why: string }>();
  readonly #wake: Wake;
  /** Steps that changed etcd since the start. */
  written = 0;

  constructor(parts: WorkerParts) {
    this.#parts = parts;
    this.#wake = new Wake(parts.clock);
  }

  /** These keys may not be as they should be. */
  doubt(keys: Iterable<string>): void {
    for (const key of keys) this.#doubted.add(key);
    if (this.#doubted.size > 0) this.#wake.call();
  }

  /** Keys that fail, and why. */
  failing(): Map<string, string> {
    return new Map([...this.#failing].map(([key, { why }]) => [key, why]));
  }

  /** Works until the signal. Who else may write is not our matter: each write names the revision that it replaces. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, random, log, sync } = this.#parts;
    const away = new Backoff({ firstMs: 100, maxMs: 5_000, clock, random });
    while (!signal.aborted) {
      const now = clock.monotonicMs();
      for (const [key, { atMs }] of this.#failing) if (atMs <= now) this.#doubted.add(key);
      if (this.#doubted.size === 0) {
        const next = Math.min(...[...this.#failing.values()].map(({ atMs }) => atMs), now + idleMs);
        await this.#wake.sleep(next - now, signal);
        continue;
      }
      if (await this.#round(signal)) away.reset();
      else {
        log.warn("the datastore cannot be written now", { controller: sync.name, waiting: this.#doubted.size });
        await away.wait(signal).catch(() => {}); // aborted: the loop looks for that
      }
    }
    // Whoever works next, perhaps we again, begins with these; until then they are not our failures.
    this.doubt(this.#failing.keys());
    this.#failing.clear();
  }

  /** A step for every key in doubt; false when the datastore is away, and what is left stays in doubt. */
  async #round(signal: AbortSignal): Promise<boolean> {
    const keys = [...this.#doubted];
    this.#doubted.clear();
    let isThere = true;
    const lane = async () => {
      for (let key = keys.pop(); key !== undefined; key = keys.pop()) {
        if (isThere && !signal.aborted && await this.#try(key)) continue;
        isThere = false;
        this.#doubted.add(key);
      }
    };
    await Promise.all(Array.from({ length: Math.min(width, keys.length) }, lane));
    return isThere || signal.aborted;
  }

  /** One step; false when the datastore is away. @throws what is a bug. */
  async #try(key: string): Promise<boolean> {
    const { sync, clock, random, log } = this.#parts;
    try {
      const step = this.#decide(key);
      if (step.do !== "nothing") await this.#take(key, step);
      if (this.#failing.delete(key)) log.info("in order again", { controller: sync.name, key });
      return true;
    } catch (error) {
      if (!isProblem(error)) throw error;
      if (error.code === "unavailable") return false;
      const backoff = this.#failing.get(key)?.backoff ?? new Backoff({ ...retry, clock, random });
      const atMs = clock.monotonicMs() + backoff.next();
      this.#failing.set(key, { backoff, atMs, why: messageOf(error) });
      // Somebody was faster, or our copy is behind: the next look has the newer one.
      if (!isProblem(error, "conflict", "exists")) {
        log.warn("cannot be brought in order now", { controller: sync.name, key, why: messageOf(error) });
      }
      return true;
    }
  }

  /** What must be done about a key. What no converter foresaw in one object is that object's failure, not everybody's. */
  #decide(key: string): Step {
    const { sync, mirror } = this.#parts;
    const kv = mirror.get(key);
    try {
      return sync.step(key, kv && decodeResource(kv));
    } catch (cause) {
      if (isProblem(cause)) throw cause;
      throw new Problem({ code: "unsupported", what: "its origin in Kubernetes is not understood", where: key, cause });
    }
  }

  async #take(key: string, step: Exclude<Step, { do: "nothing" }>): Promise<void> {
    const { sync, resources, mirror, log } = this.#parts;
    log.debug("step", { controller: sync.name, key, do: step.do });
    if (step.do === "create") await resources.create(step.resource);
    else if (step.do === "update") await resources.update(step.resource);
    else if (step.do === "overwrite") await this.#overwrite(key, step);
    else if (step.do === "remove node") await this.#parts.removeNode(step);
    else await this.#remove(key, mirror.get(key)?.revision);
    this.written++;
  }

  /** Deletes what was looked at; what is gone is fine. */
  async #remove(key: string, revision: bigint | undefined): Promise<void> {
    const { resources } = this.#parts;
    const parsed = parseKey(key);
    if (parsed?.is !== "resource") throw new Error(`${key} is no resource's key`);
    try {
      await resources.delete(parsed.kind, parsed.name, parsed.namespace, revision?.toString());
    } catch (error) {
      if (!isProblem(error, "not-found")) throw error;
    }
  }

  /** Resources refuse to touch what they cannot read, so this is a write of our own. */
  async #overwrite(key: string, { resource, revision }: Extract<Step, { do: "overwrite" }>): Promise<void> {
    const { resources } = this.#parts;
    const fresh = { ...resource, metadata: { ...resource.metadata, uid: crypto.randomUUID() } };
    const write = [{ put: key, value: encodeResource(fresh) }];
    // A failed compare means that the key has changed, and its event brings it here again.
    await resources.store.txn({ compare: [{ key, revision }], write });
  }
}
