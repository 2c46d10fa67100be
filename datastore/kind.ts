import type { FieldProblem, Problem } from "../lib/problem.ts";
import type { Field } from "./schema.ts";
import type { KeyValue, Range } from "./store.ts";

/** Metadata of a resource (Kubernetes' ObjectMeta; unknown members are kept). */
export interface Metadata {
  name: string;
  namespace?: string;
  uid?: string;
  /** etcd's mod revision in decimal; never stored. */
  resourceVersion?: string;
  /** RFC 3339, whole seconds, UTC. */
  creationTimestamp?: string | null;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  generateName?: string;
  [member: string]: unknown;
}

/** An object of `projectcalico.org/v3`. */
export interface Resource<Spec = Record<string, unknown>, Status = unknown> {
  apiVersion: "projectcalico.org/v3";
  kind: string;
  metadata: Metadata;
  spec: Spec;
  status?: Status;
  [member: string]: unknown;
}

/** The API version of every resource. */
export const apiVersion = "projectcalico.org/v3";

/** A column of `ctl get`. */
export interface Column<R extends Resource = Resource> {
  head: string;
  value(resource: R): string;
  /** `ps` = only in the short table, `wide` = only with -o wide; absent = both. */
  only?: "ps" | "wide";
}

/** Other values of the store that a write depends on. They are read beside the object and compared in its transaction. */
export interface Needs {
  read: (string | Range)[];
  /** The reason to refuse, judging by what was read. `values` holds every key that exists. */
  verdict(values: Map<string, KeyValue>): Problem | undefined;
}

/**
 * A resource kind as data: all that the codec, CRUD, ctl, API, docs and tests need to know. Adding a kind is one file
 * that calls defineKind() and its line in kinds/index.ts.
 */
export interface Kind<R extends Resource = Resource> {
  readonly kind: string;
  readonly plural: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
  /** The only name that an object of this kind may have. */
  readonly singleton?: string;
  /** `spec` and `status` as a table. */
  readonly fields: Field;
  /** True when Calico checks the schema's own rules at a write (a CRD stands behind the kind). */
  readonly hasSchema: boolean;
  /** Name of a policy lives in an annotation; see codec.ts. */
  readonly isPolicy: boolean;
  /**
   * Fills in what Calico's client writes when a field is absent, at create and update. Changes `resource`, which is the
   * caller's own copy. @throws Problem "validation" when it cannot.
   */
  defaults(resource: R): void;
  /** Rules on metadata.name beyond the general one, and rules over the whole object (Calico's struct validators). */
  check(resource: R): FieldProblem[];
  /** Rules of the schema over the whole object (CEL on its root). */
  checkRoot(resource: R): FieldProblem[];
  /** What an update may not change. */
  checkUpdate(resource: R, old: R): FieldProblem[];
  needs(resource: R, old: R | undefined): Needs | undefined;
  readonly columns: readonly Column<R>[];
  /** A valid object: goes through codec, CRUD, ctl and api in tests that walk the index. */
  readonly example: R;
}

/** What a kind's file says; the rest follows. */
export type Declaration<R extends Resource> =
  & Pick<Kind<R>, "kind" | "plural" | "namespaced" | "fields" | "columns">
  & Partial<Omit<Kind<R>, "example">>
  & { example: { metadata: Metadata; spec: R["spec"]; status?: R["status"] } };

/** A kind from its declaration, with everything that was not said. */
export function defineKind<R extends Resource>(declaration: Declaration<R>): Kind<R> {
  return {
    shortNames: [],
    hasSchema: true,
    isPolicy: false,
    defaults: () => {},
    check: () => [],
    checkRoot: () => [],
    checkUpdate: () => [],
    needs: () => undefined,
    ...declaration,
    example: { kind: declaration.kind, apiVersion, ...declaration.example } as unknown as R,
  };
}
