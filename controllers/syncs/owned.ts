import type { Changes } from "../../datastore/mirror.ts";
import { kindPrefix, resourceKey } from "../../datastore/keys.ts";
import type { Metadata, Resource } from "../../datastore/kind.ts";
import type { Batch, KubernetesObject } from "../../datastore/kubernetes/reflector.ts";
import type { Source } from "../sources.ts";
import { type Have, problemsAnnotation, type Step, stepTo } from "./step.ts";
import type { Sync, Trouble } from "./sync.ts";

/** What an object of Kubernetes becomes, and what of it could not be followed. Nothing = what is stored stays. */
export interface Made {
  resource: Resource | undefined;
  problems: string[];
}

/** A kind of object that is made of one of Kubernetes, one for one, and known as ours by how its name begins. */
export interface Owned<T extends KubernetesObject> {
  name: string;
  source: Source<T>;
  kind: string;
  prefix: string;
  /** What Kubernetes calls the origin, for messages to its users. */
  origin: Pick<Trouble["object"], "apiVersion" | "kind">;
  /** Name and namespace of what is made of it. */
  identityOf(metadata: T["metadata"]): Pick<Metadata, "name" | "namespace">;
  /** What is made of it. */
  make(object: T): Made;
  /** What stands for an object that cannot be made, or cannot be stored: it allows nothing. */
  closed?(object: T): Resource;
}

/** Keeps what is made of Kubernetes' objects as it should be; everything with our prefix that has no origin goes. */
export class OwnedObjects<T extends KubernetesObject> implements Sync {
  readonly name: string;
  readonly sources: readonly Source[];
  #origins = new Map<string, T>();
  /** What of an origin is not followed, by key. */
  readonly #problems = new Map<string, string[]>();
  readonly #below: string;

  constructor(private readonly owned: Owned<T>) {
    this.name = owned.name;
    this.sources = [owned.source as Source];
    this.#below = kindPrefix(owned.kind);
  }

  kubernetes(given: Batch<unknown>): string[] {
    const batch = given as Batch<T>;
    if ("all" in batch) {
      const before = this.#origins;
      this.#origins = new Map(batch.all.map((object) => [this.#keyOf(object), object]));
      return [...new Set([...before.keys(), ...this.#origins.keys()])];
    }
    return batch.changes.map(({ object, gone }) => {
      const key = this.#keyOf(object);
      if (gone) this.#origins.delete(key);
      else this.#origins.set(key, object);
      return key;
    });
  }

  stored({ set, deleted }: Pick<Changes, "set" | "deleted">): string[] {
    return [...set.map((kv) => kv.key), ...deleted].filter((key) => this.#isOurs(key));
  }

  step(key: string, have: Have): Step {
    const origin = this.#origins.get(key);
    this.#problems.delete(key);
    if (!origin) return stepTo(undefined, have);
    const { resource, problems } = this.owned.make(origin);
    if (problems.length > 0) this.#problems.set(key, problems);
    return resource ? stepTo(withProblems(resource, problems), have) : { do: "nothing" };
  }

  closed(key: string, why: string): Resource | undefined {
    const origin = this.#origins.get(key);
    if (!origin || !this.owned.closed) return undefined;
    const problems = [`it is replaced by a policy that allows nothing: ${why}`];
    this.#problems.set(key, problems);
    return withProblems(this.owned.closed(origin), problems);
  }

  trouble(key: string): Trouble | undefined {
    const why = this.#problems.get(key), origin = this.#origins.get(key);
    if (!why || !origin) return undefined;
    const { name, namespace, uid } = origin.metadata;
    return { object: { ...this.owned.origin, name, namespace, uid }, why };
  }

  #keyOf({ metadata }: T): string {
    const { name, namespace } = this.owned.identityOf(metadata);
    return resourceKey(this.owned.kind, name, namespace);
  }

  #isOurs(key: string): boolean {
    return key.startsWith(this.#below) && key.slice(key.lastIndexOf("/") + 1).startsWith(this.owned.prefix);
  }
}

function withProblems(resource: Resource, problems: string[]): Resource {
  if (problems.length === 0) return resource;
  const annotations = { [problemsAnnotation]: problems.join("; ") };
  return { ...resource, metadata: { ...resource.metadata, annotations } };
}
