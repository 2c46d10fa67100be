import { type KubernetesObject, Reflector, type ReflectorOptions, type ReflectorState } from "./reflector.ts";

/** A collection of Kubernetes in memory, as far as it is known. */
export class Followed<T extends KubernetesObject> {
  readonly #reflector: Reflector<T>;
  readonly #objects = new Map<string, T>();

  constructor(options: ReflectorOptions<T>) {
    this.#reflector = new Reflector(options);
  }

  /** The object as it was told last; undefined when none was. @param namespace "" for what lives in none. */
  get(namespace: string, name: string): T | undefined {
    return this.#objects.get(`${namespace}/${name}`);
  }

  /** How the reflector stands, and how many objects are known. */
  state(): ReflectorState & { objects: number } {
    return { ...this.#reflector.state(), objects: this.#objects.size };
  }

  /** Follows the collection until the signal. @throws what is a bug. */
  async run(signal: AbortSignal): Promise<void> {
    for await (const batch of this.#reflector.batches(signal)) {
      if ("all" in batch) {
        this.#objects.clear();
        for (const object of batch.all) this.#objects.set(idOf(object), object);
      } else {
        for (const { object, gone } of batch.changes) {
          if (gone) this.#objects.delete(idOf(object));
          else this.#objects.set(idOf(object), object);
        }
      }
    }
  }
}

const idOf = ({ metadata }: KubernetesObject): string => `${metadata.namespace ?? ""}/${metadata.name}`;
