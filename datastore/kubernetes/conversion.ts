import { Problem } from "../../lib/problem.ts";
import { apiVersion, type Metadata, type Resource } from "../kind.ts";
import type { PodMetadata } from "./pod.ts";

/** What a Kubernetes object becomes. */
export interface Converted {
  /** Undefined: the object asks for something that cannot be had, and counts as absent. */
  resource: Resource | undefined;
  /** Parts that could not be converted; they are left out of the resource so that it allows less, never more. */
  problems: string[];
}

/** A Kubernetes object's metadata, as far as conversion needs it. */
export type SourceMetadata = PodMetadata & { resourceVersion?: string };

/**
 * The uid of a resource that is made of another object: each byte's bits reversed, but for the two that hold version and
 * variant (RFC 9562), so that two objects never share one. Source: Calico conversion.go, ConvertUID.
 * @throws Problem "bad-input" when it is not a UUID.
 */
export function derivedUid(uid: string): string {
  const digits = uid.replaceAll("-", "");
  if (!/^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/.test(uid)) {
    throw new Problem({ code: "bad-input", what: `"${uid}" is not a UUID`, where: "metadata.uid" });
  }
  const bytes = Array.from({ length: 16 }, (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16));
  const hex = bytes.map((byte, i) => (i === 6 || i === 8 ? byte : reversed(byte)).toString(16).padStart(2, "0")).join(
    "",
  );
  return [8, 12, 16, 20].reduceRight((text, at) => `${text.slice(0, at)}-${text.slice(at)}`, hex);
}

function reversed(byte: number): number {
  let result = 0;
  for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) result |= 0x80 >> bit;
  return result;
}

/** A resource made of another object; members that are undefined are left out. */
export function derivedResource(kind: string, metadata: Metadata, spec: Record<string, unknown>): Resource {
  return { kind, apiVersion, metadata: present(metadata), spec: present(spec) };
}

/** Metadata of a policy made of a policy: labels and annotations are not taken over. @throws Problem for a bad uid. */
export const policyMetadata = (source: SourceMetadata): Metadata => ({
  name: source.name,
  namespace: source.namespace,
  uid: source.uid ? derivedUid(source.uid) : undefined,
  resourceVersion: source.resourceVersion,
  creationTimestamp: source.creationTimestamp ?? undefined,
});

/** The members that are not undefined. */
export const present = <T extends Record<string, unknown>>(members: T): T =>
  Object.fromEntries(Object.entries(members).filter(([, v]) => v !== undefined)) as T;

/** The list, or undefined when it is empty. */
export const nonEmpty = <T>(list: T[]): T[] | undefined => (list.length > 0 ? list : undefined);
