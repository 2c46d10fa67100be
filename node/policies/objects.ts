import { Problem } from "../../lib/problem.ts";
import { refuseForeign } from "../../datastore/foreign.ts";
import { resourceKey } from "../../datastore/keys.ts";
import { kindByName } from "../../datastore/kinds/index.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Resources } from "../../datastore/resources.ts";
import { lineOfField } from "../../ctl/field_line.ts";
import { type Document, documentIn, InvalidInput, partsOf } from "../../ctl/input.ts";

/** What is wrong in a file, and where. */
export interface Fault {
  file: string;
  /** From 1. */
  document: number;
  /** Within the file, from 1. */
  line: number;
  why: string;
}

/** An object of a file. */
export interface FileObject {
  key: string;
  resource: Resource;
  document: number;
  source: Document["source"] & object;
}

/** The objects of a file, or everything that is wrong with it. Nothing is checked yet that needs the datastore. */
export async function objectsIn(file: string, text: string): Promise<{ objects: FileObject[]; faults: Fault[] }> {
  const objects: FileObject[] = [], faults: Fault[] = [];
  for (const [i, source] of partsOf(text).entries()) {
    try {
      for (const { resource } of await documentIn(source, `document ${i + 1}`)) {
        objects.push(placed(resource, { document: i + 1, source }));
      }
    } catch (error) {
      faults.push(await faultOf(error, { file, document: i + 1, source }));
    }
  }
  for (const { key, document, source } of repeated(objects)) {
    faults.push({
      file,
      document,
      line: source.line + firstLine(source.text) - 1,
      why: `${key} is in this file twice`,
    });
  }
  return { objects, faults };
}

function placed(resource: Resource, at: Pick<FileObject, "document" | "source">): FileObject {
  refuseForeign(resource, "apply");
  const kind = kindByName(resource.kind), { metadata } = resource;
  const namespace = kind.namespaced ? metadata.namespace || "default" : undefined;
  const name = metadata.name || kind.computeName(resource);
  const { labels, annotations } = metadata;
  const own = { ...resource, metadata: { name, ...(namespace && { namespace }), labels, annotations } };
  return { key: resourceKey(kind.kind, name, namespace), resource: own, ...at };
}

const repeated = (objects: readonly FileObject[]): FileObject[] =>
  objects.filter((o, i) => objects.findIndex((other) => other.key === o.key) < i);

/** A refusal with the line that it is about. @throws `error` when it is none. */
export async function faultOf(
  error: unknown,
  { file, document, source }: { file: string } & Pick<FileObject, "document" | "source">,
): Promise<Fault> {
  const at = async (field: string | undefined, line?: number) => {
    const within = line ?? (field === undefined ? undefined : await lineOfField(source.text, field));
    return { file, document, line: source.line + (within ?? firstLine(source.text)) - 1 };
  };
  if (error instanceof InvalidInput) {
    return { ...await at(error.at.field, error.at.line), why: error.message.replace(/^document \d+: /, "") };
  }
  if (!isRefusal(error)) throw error;
  const [first] = error.fields ?? [], hint = error.code === "bad-input" ? first?.reason : undefined;
  const why = hint ? `${error.what}: ${hint}` : error.what;
  return { ...await at(first?.field.replace(/^document \d+: /, "")), why };
}

/** True for what is wrong with an object, and not with the way to the datastore. */
export const isRefusal = (error: unknown): error is Problem =>
  error instanceof Problem && !["unavailable", "unauthorized", "not-ready"].includes(error.code);

/** The first line that says something. */
const firstLine = (text: string): number => Math.max(1, text.split("\n").findIndex((l) => /^\s*[^\s#]/.test(l)) + 1);

/** Applies a file's objects to a rehearsal, with every check; tiers first. @returns what is wrong with them. */
export async function checkAll(resources: Resources, file: string, objects: readonly FileObject[]): Promise<Fault[]> {
  const faults: Fault[] = [];
  const order = (o: FileObject) => Number(o.resource.kind !== "Tier");
  for (const { resource, document, source } of objects.toSorted((a, b) => order(a) - order(b))) {
    try {
      await resources.apply(resource);
    } catch (error) {
      faults.push(await faultOf(error, { file, document, source }));
    }
  }
  return faults;
}
