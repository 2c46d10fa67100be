import { messageOf } from "../../lib/problem.ts";
import { type Command, forceFlag, outputOf } from "../command.ts";
import { fileFlags, forEach, hint, objectsOf, outcomeFlag, tellJson } from "../writing.ts";
import { refuseForeign } from "../../datastore/foreign.ts";

/** `delete`: removes objects, and with a pool or node what it holds. */
export const remove: Command = {
  words: ["delete"],
  summary: "Delete objects by kind and name, or those of a file, a folder or standard input",
  usage: "KIND NAME... | -f FILE",
  flags: [...fileFlags, outcomeFlag, forceFlag, {
    name: "skip-not-exists",
    short: "s",
    help: "objects that do not exist are no error",
  }],
  examples: ["delete ippool old", "delete -f policy.yaml"],
  async run(call) {
    const documents = await objectsOf(call);
    const resources = await call.resources();
    const { removeResource } = await import("../../ipam/removal.ts");
    const outcome = await forEach(call, documents, (resource) => {
      refuseForeign(resource, "delete");
      return removeResource(resources, call.surroundings, resource);
    });
    if (outputOf(call) === "json") return tellJson(call, outcome);
    const { total, handled, errors, kind } = outcome;
    const which = kind ? `'${kind}' ` : "";
    if (total === 0) call.surroundings.out("No resources specified\n");
    else if (handled > 0) call.surroundings.out(`Successfully deleted ${handled} ${which}resource(s)\n`);
    const lines = errors.map(({ error }) => `Failed to delete ${which}resource: ${messageOf(error)}\n`);
    if (lines.length > 0) call.surroundings.err(lines.join("") + "\n");
    hint(call, outcome);
    return errors.length > 0 ? 1 : 0;
  },
};
