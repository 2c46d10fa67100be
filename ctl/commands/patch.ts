import { isObject, type Json, parseJson } from "../../lib/json64.ts";
import { isProblem, Problem } from "../../lib/problem.ts";
import { readResource, shapeResource, unknownMembers } from "../../datastore/codec.ts";
import { apiVersion, type Resource } from "../../datastore/kind.ts";
import { kindByName } from "../../datastore/kinds/index.ts";
import { badInput, type Call, type Command, forceFlag } from "../command.ts";
import { refuseUnknown } from "../../datastore/unknown_members.ts";
import { merge } from "../../lib/json_merge.ts";
import { refuseForeign } from "../../datastore/foreign.ts";
import { named, placeInNamespace } from "../writing.ts";

/** `patch`: changes members of a stored object. */
export const patch: Command = {
  words: ["patch"],
  summary: "Change members of an object; null removes one, a list replaces a list",
  usage: "KIND NAME -p JSON",
  flags: [
    forceFlag,
    { name: "namespace", short: "n", value: "NAME", help: "namespace of the object" },
    { name: "patch", short: "p", value: "JSON", help: "the members to change" },
    { name: "type", short: "t", value: "TYPE", help: "accepted and ignored" },
  ],
  takes: 2,
  examples: [`patch ippool main -p '{"spec": {"natOutgoing": false}}'`],
  run,
};

async function run(call: Call): Promise<number> {
  const { resource: asked } = named(call)[0]!;
  const resources = await call.resources();
  const stored = await framed("hit error: ", () => {
    placeInNamespace(call, asked);
    const { name, namespace } = asked.metadata;
    return resources.get(asked.kind, name, namespace);
  });
  const next = patched(stored, parsePatch(call.flags.text("patch") ?? ""));
  await framed("hit error: updating existing resource: ", () => {
    refuseForeign(stored, "patch");
    return resources.update(next);
  });
  call.surroundings.out(`Successfully patched 1 '${asked.kind}' resource\n`);
  return 0;
}

/** What `work` answers; a problem of its gets calicoctl's words in front. */
async function framed<T>(frame: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isProblem(error)) throw error;
    throw new Problem({ code: error.code, what: frame + error.message, fields: error.fields });
  }
}

/**
 * The object with the patch laid over it. Members that the kind does not know are refused unless they are stored.
 * DIFFERS: calicoctl refuses stored ones too, and lets the kind change.
 */
function patched(stored: Resource, patch: Json): Resource {
  const kind = kindByName(stored.kind);
  const before = unknownMembers(kind, stored);
  const { kind: kindName, apiVersion: version, ...content } = patch as Record<string, Json>;
  if ((kindName ?? stored.kind) !== stored.kind || (version ?? apiVersion) !== apiVersion) {
    throw badInput("hit error: creating resource from patched data: a patch cannot change kind and apiVersion");
  }
  const next = readResource(kind, merge(shapeResource(stored, true) as Json, content));
  if (typeof next === "string") throw badInput(`hit error: creating resource from patched data: ${next}`);
  refuseUnknown(kind, unknownMembers(kind, next).filter((path) => !before.includes(path)));
  return next;
}

function parsePatch(text: string): Json {
  try {
    const value = parseJson(text);
    if (isObject(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw badInput("hit error: performing strategic merge patch: invalid JSON document");
}
