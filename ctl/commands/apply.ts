import type { Command } from "../command.ts";
import { preview } from "../preview.ts";
import { fileFlags, forEach, objectsOf, report } from "../writing.ts";
import { refuseForeign } from "../../datastore/foreign.ts";
import { initialize, newObject } from "./create.ts";

/** `apply`: stores objects, new or not. */
export const apply: Command = {
  words: ["apply"],
  summary: "Store objects from a file, a folder or standard input, whether they exist or not",
  usage: "-f FILE",
  flags: [
    ...fileFlags,
    { name: "dry-run", help: "write nothing and tell which verdicts would change" },
    { name: "output", short: "o", value: "FORMAT", help: "of --dry-run: text or json" },
  ],
  examples: ["apply -f policies/", "cat pool.json | tortie ctl apply -f -"],
  async run(call) {
    if (call.flags.on("dry-run")) return await preview(call);
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
