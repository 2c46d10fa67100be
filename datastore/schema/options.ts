/** A rule on one value that Calico's client checks by a struct tag. `ok` gets a value that is not empty. */
export interface Tag<T> {
  /** The tag's name as Calico's messages have it: "net", "gte". */
  readonly name: string;
  ok(value: T): boolean;
  /** Asked for empty texts and absent values too. */
  readonly evenEmpty?: boolean;
}

/** Tells of a breach. `field` is Calico's own name for the place. */
export type Refuse = (field: string, reason: string, value?: unknown) => void;

/** What every sort of field may be given. */
export interface FieldOptions<T> {
  /** Name in Calico's messages about tags; see Field.goName. */
  go?: string;
  /** Default of the schema, filled in when the member is absent. */
  default?: T;
  /** Rules on the value, checked in order; the first breach is told. */
  tags?: Tag<T>[];
  /** Rules of Calico's client that no tag can say; checked after the members. */
  rules?(value: T, refuse: Refuse): void;
  /** Rules of the schema over several members; told under the JSON path of the value. */
  cel?(value: T, refuse: (reason: string) => void): void;
  /** See Field.required. */
  required?: boolean;
}

/** A pattern as the schema prints it in its message, and how to test it (Go's syntax differs here and there). */
export interface Pattern {
  text: string;
  test: RegExp;
}

/** Text with the schema's limits. */
export interface TextOptions extends FieldOptions<string> {
  /** Longest length in bytes. */
  max?: number;
  /** Allowed values. */
  oneOf?: readonly string[];
  pattern?: Pattern;
  /** `cidr`: a real `address/length`, host bits allowed. */
  format?: "cidr";
}

/** An integer with the schema's limits. */
export interface IntegerOptions extends FieldOptions<number> {
  min?: number;
  max?: number;
  oneOf?: readonly number[];
  /** Least and greatest value that can be read at all (Go's type); default: the safe integers. */
  readable?: [number, number];
}

/** A list's limits. */
export interface ListOptions<T> extends FieldOptions<T[]> {
  minItems?: number;
  maxItems?: number;
}

/** An object's limits. */
export interface ObjectOptions<T> extends FieldOptions<T> {
  minMembers?: number;
  maxMembers?: number;
}
