import { isObject } from "../../lib/json64.ts";
import type { FieldProblem } from "../../lib/problem.ts";
import { tryParseCidr } from "../../lib/ip.ts";
import { integerSchema, listSchema, mapSchema, objectSchema, orNull, textSchema, withDefault } from "./_json_schema.ts";
import type { FieldOptions, IntegerOptions, ListOptions, ObjectOptions, TextOptions } from "./options.ts";
import type { Field, JsonSchema, Members, Mismatch, ObjectOf } from "./schema.ts";

export type { FieldOptions, Pattern, Refuse, TextOptions } from "./options.ts";

/** The field, written even when absent. */
export const always = <T>(field: Field<T>): Field<T, "always"> => ({ ...field, presence: "always" });

/** The field, written whenever it was given, zero or not. */
export const given = <T>(field: Field<T>): Field<T, "given"> => ({
  ...field,
  presence: "given",
  checkTags: (value, name, problems) => field.checkTags(value, name, problems, true),
});

/** The field, where absent is written as null. */
export function nullable<T>(field: Field<T>): Field<T | null> {
  return {
    ...field,
    blank: () => null,
    check: (value, path, problems) => value === null || field.check(value, path, problems),
    checkTags: (value, name, problems) => value === null || field.checkTags(value, name, problems),
    schema: () => orNull(field.schema()),
  };
}

/** A scalar of one JSON type: what text(), integer() and the rest are made from. */
export function scalar<T>(parts: {
  blank: T;
  /** The canonical value, or undefined when it cannot be read; `wanted` names the type for the message. */
  read(value: unknown): T | undefined;
  wanted: string;
  /** Made when it is asked for: few programs do, and all of them declare the kinds. */
  schema(): JsonSchema;
  check?(value: T, path: string, problems: FieldProblem[]): void;
}, options: FieldOptions<T> = {}): Field<T, "nonzero"> {
  return {
    presence: "nonzero",
    goName: options.go,
    required: options.required,
    blank: () => parts.blank,
    empty: (value) => value === undefined || value === parts.blank,
    read(value, path, mismatch) {
      const read = parts.read(value);
      if (read === undefined) mismatch(path, parts.wanted, value);
      return read ?? value;
    },
    write: (value) => value,
    fill: (value) => value ?? options.default,
    check: (value, path, problems) => parts.check?.(value as T, path, problems),
    checkTags(value, name, problems, evenEmpty = false) {
      const subject = evenEmpty || value !== "" ? value : undefined;
      if (runTags(options, subject as T, name, problems, parts.blank === "" ? "" : undefined)) return;
      runRules(options, value as T, problems);
    },
    schema: () => withDefault(parts.schema(), options.default),
    unknown: () => [],
  };
}

/** Text. */
export function text(options: TextOptions = {}): Field<string, "nonzero"> {
  const field = scalar({
    blank: "",
    wanted: "string",
    read: (value) => (typeof value === "string" ? value : undefined),
    schema: () => textSchema(options),
    check: (value, path, problems) => checkText(value, path, problems, options),
  }, options);
  return { ...field, text: true };
}

/** true or false. */
export function flag(options: FieldOptions<boolean> = {}): Field<boolean, "nonzero"> {
  return scalar({
    blank: false,
    wanted: "bool",
    schema: () => ({ type: "boolean" }),
    read: (value) => (typeof value === "boolean" ? value : undefined),
  }, options);
}

/** Any JSON number. */
export function number(options: FieldOptions<number> = {}): Field<number, "nonzero"> {
  const field = scalar({
    blank: 0,
    wanted: "float64",
    schema: () => ({ type: "number" }),
    read: (value) => (typeof value === "number" || typeof value === "bigint" ? Number(value) : undefined),
  }, options);
  return { ...field, float: true };
}

/** An integer that a JavaScript number holds exactly. */
export function integer(options: IntegerOptions = {}): Field<number, "nonzero"> {
  const [least, greatest] = options.readable ?? [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER];
  return scalar({
    blank: 0,
    wanted: "int",
    read: (value) =>
      typeof value === "number" && Number.isInteger(value) && value >= least && value <= greatest ? value : undefined,
    schema: () => integerSchema(options),
    check: (value, path, problems) => checkInteger(value, path, problems, options),
  }, options);
}

/** An integer of 64 bits: bigint beyond ±2^53. */
export function integer64(options: FieldOptions<number | bigint> = {}): Field<number | bigint, "nonzero"> {
  return scalar<number | bigint>({
    blank: 0,
    wanted: "int64",
    schema: () => ({ type: "integer", format: "int64" }),
    read: (value) =>
      Number.isSafeInteger(value) || typeof value === "bigint" && BigInt.asIntN(64, value) === value
        ? (value as number | bigint)
        : undefined,
  }, options);
}

/** A value that nobody looks into. */
export function anything(options: FieldOptions<unknown> = {}): Field<unknown, "nonzero"> {
  return scalar<unknown>({ blank: undefined, wanted: "any", schema: () => ({}), read: (value) => value }, options);
}

/** A list of `item`. */
export function list<T>(item: Field<T>, options: ListOptions<T> = {}): Field<T[], "nonzero"> {
  const items = (value: unknown) => (Array.isArray(value) ? value : []);
  return {
    item,
    presence: "nonzero",
    goName: options.go,
    required: options.required,
    blank: () => [],
    empty: (value) => value === undefined || Array.isArray(value) && value.length === 0,
    read(value, path, mismatch) {
      if (!Array.isArray(value)) {
        mismatch(path, "array", value);
        return value;
      }
      for (let i = 0; i < value.length; i++) {
        value[i] = value[i] === null ? item.blank() : item.read(value[i], `${path}[${i}]`, mismatch);
      }
      return value;
    },
    write: (value) => (Array.isArray(value) ? value.map((v) => item.write(v)) : value),
    fill: (value) => (Array.isArray(value) ? value.map((v) => item.fill(v)) : value ?? options.default?.slice()),
    check(value, path, problems) {
      checkCount(items(value).length, options.minItems, options.maxItems, path, problems);
      for (const [i, v] of items(value).entries()) item.check(v, `${path}[${i}]`, problems);
    },
    checkTags(value, name, problems) {
      if (runTags(options, value as T[], name, problems, [])) return;
      for (const [i, v] of items(value).entries()) item.checkTags(v, `${name}[${i}]`, problems, true);
      runRules(options, value as T[], problems);
    },
    schema: () => withDefault(listSchema(item, options as ListOptions<never>), options.default),
    unknown: (value, path) => items(value).flatMap((v, i) => item.unknown(v, `${path}[${i}]`)),
  };
}

/** An object whose member names are data; written sorted by name. */
export function map<T>(item: Field<T>, options: ObjectOptions<Record<string, T>> = {}): Field<
  Record<string, T>,
  "nonzero"
> {
  const entries = (value: unknown) => (isObject(value) ? Object.entries(value) : []);
  return {
    item,
    presence: "nonzero",
    goName: options.go,
    required: options.required,
    blank: () => ({}),
    empty: (value) => value === undefined || isObject(value) && Object.keys(value).length === 0,
    read(value, path, mismatch) {
      if (!isObject(value)) {
        mismatch(path, "object", value);
        return value;
      }
      const members = value as Record<string, unknown>;
      for (const [k, v] of Object.entries(members)) {
        members[k] = v === null ? item.blank() : item.read(v, `${path}.${k}`, mismatch);
      }
      return members;
    },
    write: (value) => Object.fromEntries(entries(value).sort(byName).map(([k, v]) => [k, item.write(v)])),
    fill: (value) => value ?? options.default,
    check(value, path, problems) {
      for (const [k, v] of entries(value)) item.check(v, `${path}.${k}`, problems);
    },
    checkTags(value, name, problems) {
      if (runTags(options, value as Record<string, T>, name, problems)) return;
      for (const [k, v] of entries(value)) item.checkTags(v, `${name}[${k}]`, problems);
      runRules(options, value as Record<string, T>, problems);
    },
    schema: () => withDefault(mapSchema(item, options as ObjectOptions<never>), options.default),
    unknown: (value, path) => entries(value).flatMap(([k, v]) => item.unknown(v, `${path}.${k}`)),
  };
}

/** An object with the members of a table. */
export function object<M extends Members>(
  members: M,
  options: ObjectOptions<ObjectOf<M>> = {},
): Field<ObjectOf<M>, "nonzero"> & { readonly members: M } {
  const rows = Object.entries(members);
  const known = new Map(rows);
  return {
    members,
    presence: "nonzero",
    goName: options.go,
    required: options.required,
    blank: () => blankObject(rows) as ObjectOf<M>,
    empty: (value) =>
      value === undefined ||
      isObject(value) && Object.entries(value).every(([k, v]) => known.get(k)?.empty(v) ?? v === undefined),
    read: (value, path, mismatch) => readObject(rows, known, value, path, mismatch),
    write: (value) => (isObject(value) ? writeObject(rows, known, value) : value),
    fill: (value) => fillObject(rows, value, options.default),
    check: (value, path, problems) => checkObject(rows, options, value, path, problems),
    checkTags(value, name, problems) {
      if (runTags(options, value as ObjectOf<M>, name, problems) || !isObject(value)) return;
      for (const [k, field] of rows) field.checkTags(value[k], field.goName ?? goNameOf(k), problems);
      runRules(options, value as ObjectOf<M>, problems);
    },
    schema: () => withDefault(objectSchema(rows, options as ObjectOptions<never>), options.default),
    unknown: (value, path) =>
      isObject(value)
        ? Object.entries(value).flatMap(([k, v]) => known.get(k)?.unknown(v, join(path, k)) ?? [join(path, k)])
        : [],
  };
}

type Row = [string, Field];

function blankObject(rows: Row[]): Record<string, unknown> {
  return Object.fromEntries(rows.filter(([, f]) => f.presence === "always").map(([k, f]) => [k, f.blank()]));
}

function readObject(
  rows: Row[],
  known: Map<string, Field>,
  value: unknown,
  path: string,
  mismatch: Mismatch,
): unknown {
  if (!isObject(value)) {
    mismatch(path, "object", value);
    return value;
  }
  const members = value as Record<string, unknown>;
  for (const k in members) {
    const field = known.get(k);
    if (!field) continue;
    if (members[k] === null || members[k] === undefined) delete members[k];
    else members[k] = field.read(members[k], join(path, k), mismatch);
  }
  for (const [k, field] of rows) {
    if (field.presence === "always" && members[k] === undefined) members[k] = field.blank();
  }
  return members;
}

function writeObject(rows: Row[], known: Map<string, Field>, value: Record<string, unknown>): Record<string, unknown> {
  const written: [string, unknown][] = [];
  for (const [k, field] of rows) {
    const v = value[k];
    if (v === undefined) {
      if (field.presence === "always") written.push([k, field.write(field.blank())]);
    } else if (field.presence !== "nonzero" || !field.empty(v)) written.push([k, field.write(v)]);
  }
  for (const [k, v] of Object.entries(value)) if (!known.has(k) && v !== undefined) written.push([k, v]);
  // Not by assignment: a member may be called __proto__.
  return Object.fromEntries(written);
}

function fillObject(rows: Row[], value: unknown, whole: unknown): unknown {
  const target = value ?? (whole === undefined ? undefined : { ...(whole as object) });
  if (!isObject(target)) return target;
  const members = target as Record<string, unknown>;
  for (const [k, field] of rows) {
    const absent = members[k] === undefined || field.presence === "nonzero" && field.empty(members[k]);
    const filled = field.fill(absent ? undefined : members[k]);
    if (filled !== undefined) members[k] = filled;
  }
  return members;
}

function checkObject<T>(
  rows: Row[],
  options: ObjectOptions<T>,
  value: unknown,
  path: string,
  problems: FieldProblem[],
): void {
  if (!isObject(value)) return;
  const count = Object.keys(value).length;
  const { minMembers: least = 0 } = options;
  checkCount(count, undefined, options.maxMembers, path, problems);
  if (count < least) problems.push({ field: path, reason: `${path} in body should have at least ${least} properties` });
  for (const [k, field] of rows) {
    if (value[k] !== undefined) field.check(value[k], join(path, k), problems);
    else if (field.required) problems.push({ field: join(path, k), value: "", reason: "Required value" });
  }
  options.cel?.(value as T, (reason) => problems.push({ field: path, value: undefined, reason }));
}

/** True when a tag refused the value. */
function runTags<T>(
  options: FieldOptions<T>,
  value: T | undefined,
  name: string,
  problems: FieldProblem[],
  blank?: unknown,
): boolean {
  const broken = options.tags?.find((tag) => (tag.evenEmpty || value !== undefined) && !tag.ok(value as T));
  if (!broken) return false;
  problems.push({ field: name, value: value ?? blank, reason: tagReason(name, broken.name) });
  return true;
}

/** Calico's sentence about a broken tag, its trailing space included. */
export const tagReason = (name: string, tag: string) =>
  `Reason: failed to validate Field: ${name} because of Tag: ${tag} `;

function runRules<T>(options: FieldOptions<T>, value: T | undefined, problems: FieldProblem[]): void {
  if (value === undefined) return;
  options.rules?.(value, (field, reason, bad) => problems.push({ field, reason, value: bad }));
}

function checkText(value: string, path: string, problems: FieldProblem[], options: TextOptions): void {
  const { max, oneOf, pattern, format } = options;
  const refuse = (reason: string) => problems.push({ field: path, value, reason });
  if (max !== undefined && new TextEncoder().encode(value).length > max) refuse(`may not be more than ${max} bytes`);
  else if (pattern && !pattern.test.test(value)) refuse(`${path} in body should match '${pattern.text}'`);
  if (oneOf && !oneOf.includes(value)) refuse(`supported values: ${oneOf.map((v) => JSON.stringify(v)).join(", ")}`);
  if (format === "cidr" && !tryParseCidr(value)) {
    refuse(`${path} in body must be of type cidr: ${JSON.stringify(value)}`);
  }
}

function checkInteger(value: number, path: string, problems: FieldProblem[], options: IntegerOptions): void {
  const { min, max, oneOf } = options;
  const refuse = (reason: string) => problems.push({ field: path, value, reason });
  if (min !== undefined && value < min) refuse(`${path} in body should be greater than or equal to ${min}`);
  if (max !== undefined && value > max) refuse(`${path} in body should be less than or equal to ${max}`);
  if (oneOf && !oneOf.includes(value)) refuse(`supported values: ${oneOf.map((v) => `"${v}"`).join(", ")}`);
}

function checkCount(
  count: number,
  min: number | undefined,
  max: number | undefined,
  path: string,
  problems: FieldProblem[],
): void {
  const items = (n: number) => `${n} item${n === 1 ? "" : "s"}`;
  if (max !== undefined && count > max) {
    problems.push({ field: path, value: count, reason: `must have at most ${items(max)}` });
  }
  if (min !== undefined && count < min) {
    problems.push({ field: path, value: count, reason: `should have at least ${items(min)}` });
  }
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]) => (a < b ? -1 : a > b ? 1 : 0);
const join = (path: string, member: string) => (path === "" ? member : `${path}.${member}`);

/** Go's name of a member: the first letter, or the abbreviation that begins the name, in capitals. */
export function goNameOf(member: string): string {
  const short = /^(cidr|ipip|vxlan|nat|mac|icmp|http|bgp|as|bpf|mtu|ttl|xdp|ip|aws|tcp|udp|ipv[46])(?=[A-Z]|$)/.exec(
    member,
  )?.[1];
  if (!short) return member.charAt(0).toUpperCase() + member.slice(1);
  return (short.startsWith("ipv") ? `IPv${short[3]}` : short.toUpperCase()) + member.slice(short.length);
}
