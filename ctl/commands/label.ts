import { isProblem, Problem } from "../../lib/problem.ts";
import { badInput, type Call, type Command, forceFlag } from "../command.ts";
import { refuseForeign } from "../../datastore/foreign.ts";
import { named, placeInNamespace } from "../writing.ts";

/** `label`: sets or removes one label of an object. */
export const label: Command = {
  words: ["label"],
  summary: "Set or remove a label of an object",
  usage: "KIND NAME KEY=VALUE | KIND NAME KEY --remove",
  flags: [
    forceFlag,
    { name: "namespace", short: "n", value: "NAME", help: "namespace of the object" },
    { name: "overwrite", help: "change a label that is there" },
    { name: "remove", help: "remove the label" },
  ],
  atLeast: 3,
  examples: ["label node n1 rack=a", "label node n1 rack --remove"],
  run,
};

async function run(call: Call): Promise<number> {
  const [word, name, text] = call.args as [string, string, string];
  const removing = call.flags.on("remove");
  const at = text.indexOf("=");
  if (!removing && at < 0) throw badInput(`invalid label ${text}`);
  const [key, value] = removing ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  const { resource: asked } = named({ ...call, args: [word, name] })[0]!;
  placeInNamespace(call, asked);
  const resources = await call.resources();
  const stored = await found(word, name, () => resources.get(asked.kind, name, asked.metadata.namespace));
  const labels = { ...stored.metadata.labels };
  const before = labels[key];
  if (removing && before === undefined) {
    throw badInput(`cannot remove label of ${word} ${name}, key ${key} does not exist`);
  }
  if (!removing && before !== undefined && before !== value && !call.flags.on("overwrite")) {
    const what = `failed to update label of ${word} ${name}, key ${key} is already present.`;
    throw badInput(`${what} please use '--overwrite' to set a new value`);
  }
  if (removing) delete labels[key];
  else labels[key] = value;
  try {
    refuseForeign(stored, "label");
    await resources.update({ ...stored, metadata: { ...stored.metadata, labels } });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw badInput(`failed to update ${word} ${name}, label not changed`, error.message);
  }
  const done = removing ? `removed label ${key} from` : `${before === undefined ? "set" : "updated"} label ${key} on`;
  call.surroundings.out(`Successfully ${done} ${word} ${name}\n`);
  return 0;
}

async function found<T>(word: string, name: string, look: () => Promise<T>): Promise<T> {
  try {
    return await look();
  } catch (error) {
    if (isProblem(error, "not-found")) throw badInput(`${word} ${name} not found`);
    throw error;
  }
}
