import type { Changes } from "../datastore/mirror.ts";
import type { Batch, KubernetesObject } from "../datastore/kubernetes/reflector.ts";
import type { Have, Step } from "./step.ts";

/** What one controller knows and decides, without I/O. Keys are those of etcd. */
export interface Sync<T = unknown> {
  /** As ENABLED_CONTROLLERS calls it. */
  readonly name: string;
  /** Of the collection of Kubernetes that it reads. */
  readonly path: string;
  /** What it keeps of an object. */
  keep(object: KubernetesObject): T;
  /** Takes over what Kubernetes says; answers the keys that may need a step. */
  kubernetes(batch: Batch<T>): string[];
  /** Takes over what etcd holds; answers the keys that may need a step. */
  stored(changes: Pick<Changes, "set" | "deleted">): string[];
  /** What must be done about a key, by all that was taken over. */
  step(key: string, have: Have): Step;
}

/** What identifies an object within its collection. */
export const idOf = ({ metadata }: KubernetesObject): string => `${metadata.namespace ?? ""}/${metadata.name}`;
