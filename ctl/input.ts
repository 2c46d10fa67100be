import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { messageOf } from "../lib/problem.ts";
import { metadataFields, readResource, unknownMembers } from "../datastore/codec.ts";
import { apiVersion, type Kind, type Resource } from "../datastore/kind.ts";
import { kinds } from "../datastore/kinds/index.ts";
import type { Field } from "../datastore/schema/schema.ts";
import { badInput } from "./command.ts";
import { nearest } from "../lib/nearest.ts";
import { refuseUnknown } from "../datastore/unknown_members.ts";
import type { Tags } from "yaml";
import type { Surroundings } from "./surroundings.ts";

/** An object that was read, and where: `rules.yaml, document 2`. */
export interface Document {
  resource: Resource;
  where: string;
  /** The document's text, and the line of its file that it begins at; absent for what no file holds. */
  source?: DocumentSource;
}

/** A part of a file. Lines count from 1. */
export interface DocumentSource {
  text: string;
  line: number;
}

/** Input that cannot be understood; calicoctl puts its frame around this message. */
export class InvalidInput extends Error {
  /** @param hint for people at a terminal: where it is, what was probably meant. @param at line or field, in the document. */
  constructor(message: string, readonly hint?: string, readonly at: { line?: number; field?: string } = {}) {
    super(message);
  }
}

/** Longest document that is read, in characters. */
const maxLength = 10 << 20;

/**
 * Reads the objects of a file, of standard input (`-`), or of the `.yaml`, `.yml` and `.json` files of a folder, in
 * lexical order. A document is an object, a list object or a sequence of objects, in YAML or JSON.
 * @param recursive looks into folders of the folder too. @param allowEmpty no object at all is fine.
 * @throws InvalidInput, or Problem "bad-input" in calicoctl's words.
 */
export async function readDocuments(
  path: string,
  surroundings: Surroundings,
  options: { recursive: boolean; allowEmpty: boolean },
): Promise<Document[]> {
  const files = await filesOf(path, surroundings, options.recursive);
  const all: Document[] = [];
  for (const file of files ?? [path]) {
    const text = file === "-" ? await surroundings.stdin() : await surroundings.readFile(file);
    if (text === undefined) throw new InvalidInput(`open ${file}: no such file or directory`);
    const documents = await documentsIn(text, file);
    if (documents.length === 0 && !options.allowEmpty) throw badInput(`no resources specified in file ${file}`);
    all.push(...documents);
  }
  if (all.length === 0 && !options.allowEmpty) throw badInput(`no resources specified in directory ${path}`);
  return all;
}

/** Files of a folder; undefined when the path is no folder. */
async function filesOf(path: string, surroundings: Surroundings, recursive: boolean): Promise<string[] | undefined> {
  if (path === "-") return undefined;
  const folder = await surroundings.listFolder(path);
  if (!folder) return undefined;
  const here = folder.files.filter((name) => /\.(yaml|yml|json)$/i.test(name));
  const paths: string[] = [];
  for (const name of [...here, ...(recursive ? folder.folders : [])].sort()) {
    const child = `${path.replace(/\/$/, "")}/${name}`;
    if (folder.folders.includes(name)) paths.push(...await filesOf(child, surroundings, true) ?? []);
    else paths.push(child);
  }
  return paths;
}

/** The objects in a text, which may hold several documents between lines that begin with `---`. */
export async function documentsIn(text: string, file: string): Promise<Document[]> {
  const found: Document[] = [];
  for (const [i, source] of partsOf(text).entries()) {
    found.push(...await documentIn(source, `${file}, document ${i + 1}`));
  }
  return found;
}

/** The documents of a text, each with the line that it begins at. */
export function partsOf(text: string): DocumentSource[] {
  let line = 1;
  return text.split(/^---.*$/m).map((part) => {
    const source = { text: part, line };
    line += part.split("\n").length - 1;
    return source;
  });
}

/** The objects of one document. @param where names it in what is thrown. @throws as documentsIn(). */
export async function documentIn(source: DocumentSource, where: string): Promise<Document[]> {
  const { text } = source;
  if (text.length > maxLength) throw new InvalidInput(`${where}: longer than ${maxLength >> 20} MiB`);
  // DIFFERS: calicoctl refuses a document of comments only, such as a licence above the first separator.
  if (!/^\s*[^\s#]/m.test(text)) return [];
  const value = await parseDocument(text, where);
  return objectsIn(value).map((object) => ({ resource: toResource(object, where), where, source }));
}

/**
 * YAML 1.1, as Kubernetes' tools read it: `yes` and `on` are true, `010` is 8; but neither times nor numbers to the base
 * 60, so that `2:30` and `2024-01-01` are text. Source: go.yaml.in/yaml/v2 resolve.go.
 */
const dialect = {
  version: "1.1",
  customTags: (tags: Tags) =>
    tags.filter((tag) => typeof tag === "string" || tag.format !== "TIME" && !tag.tag.endsWith(":timestamp")),
} as const;

async function parseDocument(text: string, where: string): Promise<Json> {
  if (["{", "["].includes(text.trimStart()[0]!)) {
    try {
      return parseJson(text);
    } catch (error) {
      // JSON that is not strict may be YAML of the flow style.
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  const { parseDocument } = await import("../lib/yaml.ts");
  const document = parseDocument(text, { ...dialect, intAsBigInt: true, merge: true, logLevel: "error" });
  const problem = document.errors[0];
  if (problem) {
    const line = text.slice(0, problem.pos[0]).split("\n").length;
    const duplicate = problem.code === "DUPLICATE_KEY" ? keyAt(text, problem.pos[0]) : undefined;
    const why = duplicate ? `key "${duplicate}" already set in map` : problem.message.split("\n")[0]!;
    throw new InvalidInput(`error converting YAML to JSON: yaml: line ${line}: ${why} (${where})`, undefined, { line });
  }
  return plain(document.toJS({ maxAliasCount: 100 }));
}

/** The key that begins at a position. */
const keyAt = (text: string, at: number): string | undefined => /^["']?([^\s:"']+)/.exec(text.slice(at))?.[1];

/** A YAML value as JSON has it: integers that fit are numbers. */
function plain(value: unknown): Json {
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value as Json;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, plain(v)]));
}

/** The objects of a document: itself, the items of a list object, or those of a sequence. */
function objectsIn(value: Json): Json[] {
  if (Array.isArray(value)) return value.flatMap(objectsIn);
  if (!isObject(value) || typeof value.kind !== "string" || !kindOfList(value.kind)) return [value];
  const kind = value.kind.slice(0, -"List".length);
  const items = Array.isArray(value.items) ? value.items : [];
  return items.map((item) => (isObject(item) ? { apiVersion, kind, ...item } : item));
}

/** Kinds that a user may write. */
const kindOf = (name: unknown): Kind | undefined => kinds.find((k) => k.kind === name && !k.internal);

const publicKinds = (): string[] => kinds.filter((k) => !k.internal).map((k) => k.kind);

const kindOfList = (name: string): Kind | undefined => name.endsWith("List") ? kindOf(name.slice(0, -4)) : undefined;

/** A value as an object of its kind; nothing unknown may be in it. */
function toResource(value: Json, where: string): Resource {
  const { kind: name = "", apiVersion: version = "" } = isObject(value) ? value : {};
  const kind = version === apiVersion ? kindOf(name) : undefined;
  if (!kind) {
    const guess = version === apiVersion && typeof name === "string" && nearest(name, publicKinds());
    const hint = guess ? `${where}: did you mean kind ${guess}?` : where;
    throw new InvalidInput(`unknown resource type (${name}) and/or version (${version})`, hint);
  }
  const resource = readChecked(kind, value, where);
  refuseUnknown(kind, unknownMembers(kind, resource), where);
  return resource;
}

/** Numbers and truths written for text, such as a label `on: true`, as that text, like calicoctl's reader. In place. */
function spellOut(field: Field | undefined, value: unknown): unknown {
  if (field?.text && typeof value !== "object") return String(value);
  if (Array.isArray(value)) { for (const [i, v] of value.entries()) value[i] = spellOut(field?.item, v); }
  else if (isObject(value)) {
    const members = value as Record<string, unknown>;
    for (const [k, v] of Object.entries(members)) members[k] = spellOut(field?.item ?? memberOf(field, k), v);
  }
  return value;
}

const memberOf = (field: Field | undefined, name: string): Field | undefined =>
  field?.members && Object.hasOwn(field.members, name) ? field.members[name] : undefined;

function readChecked(kind: Kind, value: Json, where: string): Resource {
  try {
    spellOut(kind.fields, value);
    if (isObject(value)) spellOut(metadataFields, value.metadata);
    const read = readResource(kind, value);
    if (typeof read !== "string") return read;
    throw new InvalidInput(`${where}: ${kind.kind}: ${read}`, undefined, { field: read.split(": ")[0] });
  } catch (error) {
    throw error instanceof InvalidInput ? error : new InvalidInput(`${where}: ${messageOf(error)}`);
  }
}
