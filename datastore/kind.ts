import type { FieldProblem } from "../lib/problem.ts";

/** Metadata of a resource as stored (Kubernetes' ObjectMeta; unknown members are kept). */
export interface Metadata {
  name: string;
  namespace?: string;
  uid?: string;
  /** etcd's mod revision in decimal; never stored. */
  resourceVersion?: string;
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

/** A column of `ctl get`. `wide` = only with -o wide. */
export interface Column<R extends Resource> {
  head: string;
  value(resource: R): string;
  wide?: boolean;
}

/** What a check may look at besides the object itself. `old` is there at an update. */
export interface CheckContext<R extends Resource> {
  old?: R;
}

/**
 * A resource kind as data: everything that the codec, CRUD, ctl, API, docs and tests need to know. Adding a kind is one
 * file with one of these and its line in kinds/index.ts.
 */
export interface Kind<R extends Resource = Resource> {
  kind: string;
  plural: string;
  shortNames: string[];
  namespaced: boolean;
  /** Fills in what Calico's client writes when a field is absent, at create and update. Pure; returns a new object. */
  defaults(resource: R): R;
  /** Every rule that the object breaks, with Calico's field names. Pure. */
  check(resource: R, context: CheckContext<R>): FieldProblem[];
  columns: Column<R>[];
  /** A valid object: goes through codec, CRUD, ctl and api in tests that walk the index. */
  example: R;
}
