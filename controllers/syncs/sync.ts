import type { Changes } from "../../datastore/mirror.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Batch, KubernetesObject } from "../../datastore/kubernetes/reflector.ts";
import type { Running } from "../settings.ts";
import type { Source } from "../sources.ts";
import type { Have, Step } from "./step.ts";

/** What follows Kubernetes and etcd, without I/O, and says what is in doubt. */
export interface Follower {
  /** For log, health and metrics. */
  readonly name: string;
  /** Collections of Kubernetes that it reads. */
  readonly sources: readonly Source[];
  /** Takes over what Kubernetes says; answers the keys that may need a step. */
  kubernetes(batch: Batch<unknown>, source: Source): string[];
  /** Takes over what etcd holds; answers the keys that may need a step. */
  stored(changes: Pick<Changes, "set" | "deleted">): string[];
  /** Takes over the settings in force, at the start and at each change; answers the keys that may need a step. */
  configure?(running: Running): string[];
}

/** What keeps objects in etcd as they should be. Keys are those of etcd. */
export interface Sync extends Follower {
  /** What must be done about a key, by all that was taken over. */
  step(key: string, have: Have): Step;
  /** What must stand in the key when what should stand there cannot be stored; it allows nothing. */
  closed?(key: string, why: string): Resource | undefined;
  /** What of a key's origin in Kubernetes is not followed as it is written. */
  trouble?(key: string): Trouble | undefined;
}

/** An object of Kubernetes of which something is not followed. */
export interface Trouble {
  object: { apiVersion: string; kind: string; name: string; namespace?: string; uid?: string };
  why: string[];
}

/** What identifies an object within its collection. */
export const idOf = ({ metadata }: KubernetesObject): string => `${metadata.namespace ?? ""}/${metadata.name}`;
