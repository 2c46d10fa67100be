import { type Clock, rfc3339 } from "../../lib/clock.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, messageOf, Problem } from "../../lib/problem.ts";
import { decodeResource, encodeResource } from "../../datastore/codec.ts";
import { parseKey } from "../../datastore/keys.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import type { Resources } from "../../datastore/resources.ts";
import type { Acted } from "../worker.ts";
import { type Have, type Step, stepTo } from "./step.ts";
import type { Sync, Trouble } from "./sync.ts";

/** What a writer works with. */
export interface WriterParts {
  sync: Sync;
  mirror: Pick<Mirror, "get">;
  resources: Resources;
  clock: Clock;
  log: Logger;
  /** Takes a node away with what is about it, unless it is in Kubernetes after all. */
  removeNode(node: { name: string; nameThere: string }): Promise<void>;
  /** Says in Kubernetes what is not followed of an object there; undefined = nothing any more. */
  tell(key: string, trouble: Trouble | undefined): Promise<void>;
}

/** Takes the steps of a Sync in etcd. */
export class Writer {
  constructor(private readonly parts: WriterParts) {}

  /** The step of one key. What cannot be made or stored as it should be is replaced by what allows nothing. @throws Problem. */
  async act(key: string): Promise<Acted> {
    const { sync, mirror, tell } = this.parts;
    const kv = mirror.get(key), have = kv && decodeResource(kv);
    let step: Step;
    try {
      step = this.#decide(key, have);
      if (step.do !== "nothing") await this.#take(key, step);
    } catch (error) {
      if (!isProblem(error, "validation", "unsupported")) throw error;
      const closed = sync.closed?.(key, messageOf(error));
      if (!closed) throw error;
      step = stepTo(closed, have);
      if (step.do !== "nothing") await this.#take(key, step);
    }
    await tell(key, sync.trouble?.(key));
    return { wrote: step.do !== "nothing" };
  }

  /** What must be done about a key. What no converter foresaw in one object is that object's failure, not everybody's. */
  #decide(key: string, have: Have): Step {
    try {
      return this.parts.sync.step(key, have);
    } catch (cause) {
      if (isProblem(cause)) throw cause;
      throw new Problem({ code: "unsupported", what: "its origin in Kubernetes is not understood", where: key, cause });
    }
  }

  async #take(key: string, step: Exclude<Step, { do: "nothing" }>): Promise<void> {
    const { sync, resources, mirror, log } = this.parts;
    log.debug("step", { controller: sync.name, key, do: step.do });
    if (step.do === "create") await resources.create(step.resource);
    else if (step.do === "update") await resources.update(this.#identified(step.resource));
    else if (step.do === "overwrite") await this.#overwrite(key, step);
    else if (step.do === "remove node") await this.parts.removeNode(step);
    else await this.#remove(key, mirror.get(key)?.revision);
  }

  /** Resources refuse to change what has no UID or age; who wrote it by hand need not have known. */
  #identified({ metadata, ...rest }: Resource): Resource {
    const uid = metadata.uid || crypto.randomUUID();
    const creationTimestamp = metadata.creationTimestamp || rfc3339(this.parts.clock.now());
    return { ...rest, metadata: { ...metadata, uid, creationTimestamp } };
  }

  /** Deletes what was looked at; what is gone is fine. */
  async #remove(key: string, revision: bigint | undefined): Promise<void> {
    const { resources } = this.parts;
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
    const { resources } = this.parts;
    const fresh = { ...resource, metadata: { ...resource.metadata, uid: crypto.randomUUID() } };
    const write = [{ put: key, value: encodeResource(fresh) }];
    // A failed compare means that the key has changed, and its event brings it here again.
    await resources.store.txn({ compare: [{ key, revision }], write });
  }
}
