import { validate as check } from "../../datastore/validation.ts";
import type { Command } from "../command.ts";
import { fileFlags, forEach, objectsOf, outcomeFlag, report } from "../writing.ts";

/** `validate`: checks objects without a datastore. */
export const validate: Command = {
  words: ["validate"],
  summary: "Check objects of a file, a folder or standard input, without a datastore",
  usage: "-f FILE",
  flags: [...fileFlags, outcomeFlag],
  anyVersion: true,
  examples: ["validate -f policies/"],
  async run(call) {
    const outcome = await forEach(call, await objectsOf(call), (resource, kind) => {
      check(kind, resource);
      return Promise.resolve();
    });
    return report(call, outcome, "validate", "validated");
  },
};
