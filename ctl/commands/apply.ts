import type { Command } from "../command.ts";
import { fileFlags, forEach, objectsOf, report } from "../writing.ts";
import { refuseForeign } from "../refusal.ts";
import { initialize, newObject } from "./create.ts";

/** `apply`: stores objects, new or not. */
export const apply: Command = {
  words: ["apply"],
  summary: "Store objects from a file, a folder or standard input, whether they exist or not",
  usage: "-f FILE",
  flags: fileFlags,
  examples: ["apply -f policies/", "cat pool.json | tortie ctl apply -f -"],
  async run(call) {
    const documents = await objectsOf(call);
    const resources = await call.resources();
    await initialize(call, resources);
    const outcome = await forEach(call, documents, (resource) => {
      refuseForeign(resource, "apply");
      return resources.apply(newObject(resource));
    });
    return report(call, outcome, "apply", "applied");
  },
};
