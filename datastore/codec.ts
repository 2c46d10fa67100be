import type { Resource } from "./kind.ts";
import type { KeyValue } from "./store.ts";

/** A stored value that could not be read. It stands for itself only: everything else goes on. */
export interface Undecodable {
  readonly undecodable: true;
  readonly key: string;
  /** What is wrong and where in the value: `spec.cidr: not a string`. */
  readonly why: string;
  readonly revision: bigint;
}

/** True for what decodeResource() could not read. */
export const isUndecodable = (value: object): value is Undecodable => "undecodable" in value;

/**
 * Reads a stored resource, tolerantly: unknown members stay, types are checked, meaning is not. `metadata.resourceVersion`
 * is the key's revision; a policy's name comes from its annotation (Calico: libcalico-go/lib/backend/model/keys.go).
 * @returns undefined when the key is not a resource's.
 */
export function decodeResource(_kv: KeyValue): Resource | Undecodable | undefined {
  throw new Error("not built yet");
}

/** The value to store for a resource: JSON without resourceVersion, members in Calico's order, nothing lost. */
export function encodeResource(_resource: Resource): string {
  throw new Error("not built yet");
}
