import type { Problem } from "../lib/problem.ts";
import type { Refuse } from "./schema/fields.ts";
import type { Field } from "./schema/schema.ts";
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

/** Below it lie all resources: `<plural>/<name>` or `<plural>/<namespace>/<name>`. */
export const resourcePrefix = `/calico/resources/v3/${apiVersion.split("/")[0]}/`;

/** What a cell may need beside its object. */
export interface CellContext {
  /** AS number of nodes that give none: BGPConfiguration `default`, or 64512. */
  asNumber: number;
}

/** A column of `ctl get`. */
export interface Column<R extends Resource = Resource> {
  head: string;
  value(resource: R, context: CellContext): string;
  /** `ps` = only in the short table, `wide` = only with -o wide; absent = both. */
  only?: "ps" | "wide";
}

/** What is done to an object. */
export type Action = "create" | "update" | "delete";

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
  /** `spec` and `status` as a table. */
  readonly fields: Field;
  /** True when Calico checks the schema's own rules at a write (a CRD stands behind the kind). */
  readonly hasSchema: boolean;
  /** The name lives in an annotation, and the tier in a label; see codec.ts. */
  readonly isPolicy: boolean;
  /** Not shown by Calico's tools. */
  readonly internal: boolean;
  /** Objects that are in no key: lists and gets show them. */
  readonly builtIn: readonly R[];
  /** The name of an object that has none; "" when the kind computes none. @throws Problem "validation". */
  computeName(resource: R): string;
  /**
   * Fills in what Calico's client writes when a field is absent, at create and update. Changes `resource`, which is the
   * caller's own copy. `old` is there at an update. @throws Problem "validation" when it cannot.
   */
  defaults(resource: R, old?: R): void;
  /** Rules that Calico's client checks before all others; a breach hides the rest. */
  precheck(resource: R, refuse: Refuse): void;
  /** Rules of Calico's client over the whole object, and on the name beyond the general rule. */
  check(resource: R, refuse: Refuse): void;
  /** Rules of the schema over the whole object; `path` is "spec" unless it says another. */
  checkSchema(resource: R, refuse: (reason: string, path?: string) => void): void;
  /** What an update may not change. */
  checkUpdate(resource: R, old: R, refuse: Refuse): void;
  /** The reason why this object may not be written that way at all. */
  forbids(action: Action, metadata: Metadata): Problem | undefined;
  /** Fills in what Calico's client shows for members that the stored object lacks. Changes `resource`. */
  onRead(resource: R, how: "get" | "list"): void;
  /** What a create (`old` undefined) or update depends on. */
  needs(resource: R, old: R | undefined): Needs | undefined;
  /** What a delete depends on. */
  deleteNeeds(metadata: Metadata): Needs | undefined;
  /** Order of lists; default: that of the keys. */
  compare?(a: R, b: R): number;
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
    internal: false,
    builtIn: [],
    computeName: () => "",
    defaults: () => {},
    precheck: () => {},
    check: () => {},
    checkSchema: () => {},
    checkUpdate: () => {},
    forbids: () => undefined,
    onRead: () => {},
    needs: () => undefined,
    deleteNeeds: () => undefined,
    ...declaration,
    example: { kind: declaration.kind, apiVersion, ...declaration.example } as unknown as R,
  };
}
