import { isObject, type Json, parseJson } from "../../lib/json64.ts";
import { isProblem, Problem } from "../../lib/problem.ts";
import { readResource, shapeResource } from "../../datastore/codec.ts";
import { kindByName } from "../../datastore/kinds/index.ts";
import { badInput, type Call, type Command } from "../command.ts";
import { named, placeInNamespace } from "../writing.ts";

/** `patch`: changes members of a stored object. */
export const patch: Command = {
  words: ["patch"],
  summary: "Change members of an object; null removes one, a list replaces a list",
  usage: "KIND NAME -p JSON",
  flags: [
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
  placeInNamespace(call, asked);
  try {
    const resources = await call.resources();
    const { name, namespace } = asked.metadata;
    const stored = await resources.get(asked.kind, name, namespace);
    const merged = merge(shapeResource(stored, true) as Json, parsePatch(call.flags.text("patch") ?? ""));
    const next = readResource(kindByName(asked.kind), merged);
    if (typeof next === "string") throw badInput(`creating resource from patched data: ${next}`);
    await resources.update(next);
  } catch (error) {
    if (!isProblem(error)) throw error;
    throw new Problem({ code: error.code, what: `hit error: ${error.message}` });
  }
  call.surroundings.out(`Successfully patched 1 '${asked.kind}' resource\n`);
  return 0;
}

function parsePatch(text: string): Json {
  try {
    const value = parseJson(text);
    if (isObject(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw badInput("performing strategic merge patch: invalid JSON document");
}

/** RFC 7386, which for Calico's objects is what Kubernetes' strategic merge does: no list of theirs has a merge key. */
function merge(target: Json, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const result: Record<string, Json> = isObject(target) ? { ...target } : {};
  for (const [member, value] of Object.entries(patch)) {
    if (value === null) delete result[member];
    else result[member] = merge(result[member] ?? null, value);
  }
  return result;
}
