import { messageOf } from "../../lib/problem.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Resources } from "../../datastore/resources.ts";
import { type Call, type Command, forceFlag, outputOf } from "../command.ts";
import { fileFlags, forEach, hint, objectsOf, type Outcome, outcomeFlag, tellJson } from "../writing.ts";
import { refuseForeign } from "../../datastore/foreign.ts";
import { initialize, newObject } from "./create.ts";

/** `replace`: stores objects that exist. */
export const replace: Command = {
  words: ["replace"],
  summary: "Replace objects that exist by those of a file, a folder or standard input",
  usage: "-f FILE",
  flags: [...fileFlags, outcomeFlag, forceFlag],
  examples: ["replace -f pool.yaml"],
  async run(call) {
    const documents = await objectsOf(call);
    const resources = await call.resources();
    await initialize(call, resources);
    const outcome = await forEach(call, documents, (resource) => replaceOne(resources, resource));
    return outputOf(call) === "json" ? tellJson(call, outcome) : tell(call, outcome);
  },
};

async function replaceOne(resources: Resources, resource: Resource): Promise<void> {
  refuseForeign(resource, "replace");
  await resources.get(resource.kind, resource.metadata.name, resource.metadata.namespace);
  await resources.apply(newObject(resource));
}

/** calicoctl counts objects that it could not replace as handled, and says so; only the last error is told. */
function tell(call: Call, outcome: Outcome): number {
  const { total, errors, kind } = outcome;
  const which = kind ? `'${kind}' ` : "";
  const last = errors.at(-1);
  if (total === 0) call.surroundings.out("No resources specified\n");
  else if (!last) call.surroundings.out(`Successfully replaced ${total} ${which}resource(s)\n`);
  else {
    call.surroundings.out(`Partial success: replaced the first ${total} out of ${total} ${which}resources:\n`);
    call.surroundings.err(`hit error: ${messageOf(last.error)}\n`);
  }
  hint(call, outcome);
  return last ? 1 : 0;
}
