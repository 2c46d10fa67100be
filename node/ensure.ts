import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem } from "../lib/problem.ts";
import type { Resource } from "../datastore/kind.ts";
import type { Resources } from "../datastore/resources.ts";

/** The part of CRUD that start-up needs. */
export type StartUpResources = Pick<Resources, "get" | "list" | "create" | "update">;

/** An object that must be in the datastore: what it must be, given what it is. */
export interface Wanted {
  kind: string;
  name: string;
  /** The object to write; undefined = nothing to do. Unknown members of `existing` are kept. */
  wanted(existing: Resource | undefined): Resource | undefined | Promise<Resource | undefined>;
}

/** What a Writer works with. */
export interface WriterParts {
  resources: StartUpResources;
  clock: Clock;
  log: Logger;
  /** In [0, 1). */
  random: () => number;
  signal?: AbortSignal;
}

/** Creates and updates with compare-and-swap; what somebody else wrote meanwhile is read and judged anew. */
export class Writer {
  readonly created: string[] = [];
  readonly updated: string[] = [];
  constructor(private readonly parts: WriterParts) {}

  /** Returns the object as it is in the end. @throws Problem "conflict" after 20 tries. */
  async ensure(one: Wanted): Promise<Resource | undefined> {
    const { random, clock, signal } = this.parts;
    const backoff = new Backoff({ firstMs: 20, maxMs: 500, random, clock });
    for (let attempt = 1;; attempt++) {
      const existing = await this.#find(one);
      const wanted = await one.wanted(existing);
      if (!wanted) return existing;
      try {
        return await this.#write(existing, wanted);
      } catch (error) {
        if (attempt === 20 || !isProblem(error, "exists", "conflict", "not-found")) throw error;
        await backoff.wait(signal);
      }
    }
  }

  async #find(one: Wanted): Promise<Resource | undefined> {
    try {
      return await this.parts.resources.get(one.kind, one.name);
    } catch (error) {
      if (isProblem(error, "not-found")) return undefined;
      throw error;
    }
  }

  async #write(existing: Resource | undefined, wanted: Resource): Promise<Resource> {
    const { resources, log } = this.parts;
    const name = `${wanted.kind}/${wanted.metadata.name}`;
    const written = existing ? await resources.update(wanted) : await resources.create(wanted);
    (existing ? this.updated : this.created).push(name);
    log.info(existing ? "resource updated" : "resource created", { resource: name });
    return written;
  }
}
