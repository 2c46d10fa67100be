import type { Json } from "../../lib/json64.ts";
import type { IntegerOptions, ListOptions, ObjectOptions, TextOptions } from "./options.ts";
import type { Field, JsonSchema } from "./schema.ts";

/** What was said, without what was not. */
const said = (words: { [word: string]: unknown }): JsonSchema =>
  Object.fromEntries(Object.entries(words).filter(([, v]) => v !== undefined)) as JsonSchema;

/** Text with its limits; a length in bytes is one in characters at most. */
export const textSchema = ({ max, oneOf, pattern, format }: TextOptions): JsonSchema =>
  said({ type: "string", maxLength: max, enum: oneOf as Json | undefined, pattern: pattern?.test.source, format });

/** An integer with its limits. */
export const integerSchema = ({ min, max, oneOf }: IntegerOptions): JsonSchema =>
  said({ type: "integer", minimum: min, maximum: max, enum: oneOf as Json | undefined });

/** A list of `item`. */
export const listSchema = (item: Field, { minItems, maxItems }: ListOptions<never>): JsonSchema =>
  said({ type: "array", items: item.schema(), minItems, maxItems });

/** An object whose member names are data. */
export const mapSchema = (item: Field, { minMembers, maxMembers }: ObjectOptions<never>): JsonSchema =>
  said({
    ...{ type: "object", additionalProperties: item.schema(), minProperties: minMembers, maxProperties: maxMembers },
  });

/** An object with the members of a table. Members that the table does not know are kept when they are stored. */
export function objectSchema(rows: [string, Field][], { minMembers, maxMembers }: ObjectOptions<never>): JsonSchema {
  const required = rows.filter(([, field]) => field.required).map(([name]) => name);
  return said({
    type: "object",
    properties: Object.fromEntries(rows.map(([name, field]) => [name, field.schema()])),
    required: required.length > 0 ? required : undefined,
    ...{ minProperties: minMembers, maxProperties: maxMembers },
  });
}

/** The schema with the value that stands for an absent one. */
export const withDefault = (schema: JsonSchema, value: unknown): JsonSchema =>
  value === undefined ? schema : { ...schema, default: value as Json };

/** The schema, where null is a value, too. */
export const orNull = (schema: JsonSchema): JsonSchema => ({ anyOf: [schema, { type: "null" }] });
