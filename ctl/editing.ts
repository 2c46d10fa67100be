import type { Json } from "../lib/json64.ts";
import { isProblem, Problem } from "../lib/problem.ts";
import { readResource, shapeResource } from "../datastore/codec.ts";
import type { Resource } from "../datastore/kind.ts";
import { kindByName } from "../datastore/kinds/index.ts";
import type { Resources } from "../datastore/resources.ts";
import { badInput, type Call } from "./command.ts";
import type { Host } from "./host.ts";
import { documentsIn, InvalidInput } from "./input.ts";
import { lineDiff } from "./line_diff.ts";
import { conflicts, merge, patchBetween } from "../lib/json_merge.ts";
import { refuseForeign } from "../datastore/foreign.ts";
import { yamlText } from "./yaml_text.ts";

/** Times that a change of somebody else meanwhile is joined with ours. */
const tries = 5;

/**
 * Opens an object in the user's editor until it can be stored or the user leaves it as it was. What was refused stands as a
 * comment above the text the next time. A change of somebody else meanwhile is kept when it touched other members.
 * @returns the exit code: 1 when an edit was given up after a refusal; its text stays in a file that is named.
 */
export async function editResource(call: Call, asked: Resource): Promise<number> {
  const { surroundings } = call;
  const resources = await call.resources();
  const { name, namespace } = asked.metadata;
  let stored = await resources.get(asked.kind, name, namespace);
  refuseForeign(stored, "patch");
  const host = await surroundings.host();
  const file = `${await host.temporaryFolder()}/${asked.kind.toLowerCase()}-${name}.yaml`;
  let text = yamlOf(stored), refused = "";
  for (;;) {
    const edited = await inEditor(call, host, file, comment(refused) + text);
    if (edited === text) {
      surroundings.err(
        refused ? `Edit given up, nothing was changed; the text is in ${file}\n` : "Nothing was changed.\n",
      );
      return refused ? 1 : 0;
    }
    text = edited;
    try {
      const next = await parse(edited, stored);
      const done = await store(resources, stored, next);
      surroundings.out(lineDiff(withoutVersion(stored), withoutVersion(done)));
      surroundings.out(`Successfully edited 1 '${asked.kind}' resource\n`);
      return 0;
    } catch (error) {
      if (error instanceof Overlap) {
        stored = error.current;
        refused = `Somebody else changed ${error.paths.join(", ")} meanwhile. Stored now:\n${yamlOf(stored)}`;
      } else if (error instanceof InvalidInput || isProblem(error, "validation", "bad-input", "unsupported")) {
        refused = error.message;
      } else throw error;
    }
  }
}

/** Somebody else changed the same members. */
class Overlap extends Error {
  constructor(readonly current: Resource, readonly paths: string[]) {
    super("changed meanwhile");
  }
}

const yamlOf = (resource: Resource): string => yamlText(shapeResource(resource, true));

const withoutVersion = (resource: Resource): string =>
  yamlOf({ ...resource, metadata: { ...resource.metadata, resourceVersion: undefined } });

const comment = (text: string): string =>
  text === "" ? "" : `${text.trimEnd().split("\n").map((line) => `# ${line}\n`).join("")}#\n`;

/** The text after the editor, without the comments above it. */
async function inEditor(call: Call, host: Host, file: string, text: string): Promise<string> {
  const { env, readFile } = call.surroundings;
  await host.writeFile(file, text);
  const [program, ...args] = (env("VISUAL") || env("EDITOR") || "vi").split(" ") as [string, ...string[]];
  const code = await host.attend(program, [...args, file]);
  if (code === undefined) throw badInput(`the editor ${program} is not installed`, "Set EDITOR to one that is");
  if (code !== 0) throw badInput(`the editor ended with exit code ${code}; nothing was changed`);
  return (await readFile(file) ?? "").replace(/^(#.*\n)+/, "");
}

/** @throws InvalidInput or Problem for a text that is not this object. */
async function parse(text: string, stored: Resource): Promise<Resource> {
  const documents = await documentsIn(text, "the edited text");
  const [only] = documents;
  if (!only || documents.length > 1) throw badInput("the text must hold one object");
  const { kind, metadata } = only.resource;
  const same = kind === stored.kind && metadata.name === stored.metadata.name &&
    (metadata.namespace ?? "") === (stored.metadata.namespace ?? "");
  if (!same) throw badInput("kind, name and namespace of an object cannot be changed; create another one");
  return only.resource;
}

/** Stores the object, over a newer version of it too when that changed other members. @throws Overlap. */
async function store(resources: Resources, stored: Resource, next: Resource): Promise<Resource> {
  const plain = (resource: Resource): Json => {
    const { metadata: { resourceVersion: _, ...metadata }, ...rest } = shapeResource(
      resource,
      true,
    ) as unknown as Resource;
    return JSON.parse(JSON.stringify({ ...rest, metadata }));
  };
  const ours = patchBetween(plain(stored), plain(next));
  let current = stored;
  for (let left = tries; left > 0; left--) {
    const { resourceVersion, uid, creationTimestamp } = current.metadata;
    const wanted = left === tries ? next : joined(current, ours ?? {});
    try {
      return await resources.update({
        ...wanted,
        metadata: { ...wanted.metadata, resourceVersion, uid, creationTimestamp },
      });
    } catch (error) {
      if (!isProblem(error, "conflict")) throw error;
      current = await resources.get(stored.kind, stored.metadata.name, stored.metadata.namespace);
      const paths = conflicts(ours ?? {}, patchBetween(plain(stored), plain(current)) ?? {});
      if (paths.length > 0) throw new Overlap(current, paths);
    }
  }
  throw new Problem({ code: "conflict", what: "the object keeps changing", todo: "Try again" });
}

function joined(current: Resource, patch: Json): Resource {
  const kind = kindByName(current.kind);
  const read = readResource(kind, merge(shapeResource(current, true) as Json, patch));
  if (typeof read === "string") throw badInput(read);
  return read;
}
