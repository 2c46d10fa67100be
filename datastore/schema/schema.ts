import type { Json } from "../../lib/json64.ts";
import type { FieldProblem } from "../../lib/problem.ts";

/**
 * When a member is written, as Go's client writes it: `nonzero` = left out when it is the zero value (`omitempty`),
 * `given` = kept whenever it was given (a pointer: false and 0 count), `always` = written even when it was not given.
 */
export type Presence = "nonzero" | "given" | "always";

/** Tells of a value that cannot be read as the field's type. `path` is a JSON path such as `spec.bgp.asNumber`. */
export type Mismatch = (path: string, wanted: string, value: unknown) => void;

/**
 * One member of an object, or one item of a list, as data. Every sort of field brings its own behaviour, so that nobody
 * branches on what sort it is.
 */
export interface Field<T = unknown, P extends Presence = Presence> {
  readonly presence: P;
  /** Name in Go's error messages ("IPv4NormalRoutePriority"); default: the JSON name with its first letter upper-case. */
  readonly goName?: string;
  /** The schema refuses an object without this member. */
  readonly required?: boolean;
  /** Members of an object. */
  readonly members?: Members;
  /** What a list or map holds. */
  readonly item?: Field;
  /** A number that Go has as float64. */
  readonly float?: boolean;
  /** Text, of whatever rules. */
  readonly text?: boolean;
  /** The zero value: what an absent member means. */
  blank(): T;
  /** True for a value that `nonzero` leaves out. */
  empty(value: unknown): boolean;
  /**
   * Reads a parsed JSON value tolerantly, as Go's decoder does: null is absent, unknown members stay. Changes objects
   * and lists in place. Scalars with several spellings get their canonical one.
   */
  read(value: unknown, path: string, mismatch: Mismatch): unknown;
  /** The value as it is written: members in declared order, empty ones left out, unknown ones kept at the end. */
  write(value: unknown): unknown;
  /** The value, or a new one, with the schema's defaults filled in. `undefined` in = absent. Changes objects in place. */
  fill(value: unknown): unknown;
  /** Breaches of the schema's own rules (length, range, allowed values); `path` is the JSON path of the value. */
  check(value: unknown, path: string, problems: FieldProblem[]): void;
  /**
   * Breaches of the tag rules, which Calico names by Go's field name `name`. `undefined` = absent.
   * @param evenEmpty an empty text counts as a value too: in a list, or where it was given on purpose.
   */
  checkTags(value: unknown, name: string, problems: FieldProblem[], evenEmpty?: boolean): void;
  /** What a valid value looks like, in JSON Schema's words (OpenAPI 3.1): types, limits, allowed values, defaults. */
  schema(): JsonSchema;
  /** JSON paths of members that the schema does not know. */
  unknown(value: unknown, path: string): string[];
  /** Only for the type checker. */
  readonly valueType?: T;
}

/** A JSON Schema of draft 2020-12. */
export type JsonSchema = { [word: string]: Json };

/** A table of members. */
export type Members = Record<string, Field>;

type AlwaysKeys<M extends Members> = { [K in keyof M]: M[K]["presence"] extends "always" ? K : never }[keyof M];
type Flat<T> = { [K in keyof T]: T[K] };

/** The value type of a field. */
export type Of<F> = F extends Field<infer T> ? T : never;

/** The object type of a table: `always` members are there after reading, the others may be missing. */
export type ObjectOf<M extends Members> = Flat<
  & { [K in AlwaysKeys<M>]: Of<M[K]> }
  & { [K in Exclude<keyof M, AlwaysKeys<M>>]?: Of<M[K]> }
>;
