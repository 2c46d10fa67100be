import { World } from "../../agent/why/world.ts";
import { resourceKey } from "../../datastore/keys.ts";
import type { Store } from "../../datastore/store.ts";
import { type Call, type Command, forceFlag } from "../command.ts";
import { applyPending, confirmTime } from "../confirming.ts";
import { cutsOf } from "../cut.ts";
import { cutRefused, endangered } from "../cut_guard.ts";
import type { Document } from "../input.ts";
import { preview, rehearse } from "../preview.ts";
import { fileFlags, forEach, objectsOf, outcomeFlag, report } from "../writing.ts";
import { refuseForeign } from "../../datastore/foreign.ts";
import { initialize, newObject } from "./create.ts";

/** `apply`: stores objects, new or not. */
export const apply: Command = {
  words: ["apply"],
  summary: "Store objects from a file, a folder or standard input, whether they exist or not",
  usage: "-f FILE",
  flags: [
    ...fileFlags,
    forceFlag,
    { name: "dry-run", help: "write nothing and tell which verdicts would change" },
    outcomeFlag,
    { name: "confirm", value: "TIME", help: "undo it all after TIME (60s, 2m) unless `confirm` comes" },
  ],
  examples: ["apply -f policies/", "apply -f policies/ --confirm 60s", "cat pool.json | tortie ctl apply -f -"],
  guardsItself: true,
  async run(call) {
    if (call.flags.on("dry-run")) return await preview(call);
    const confirm = call.flags.text("confirm"), seconds = confirm === undefined ? undefined : confirmTime(confirm);
    const documents = await objectsOf(call);
    const resources = await call.resources();
    await initialize(call, resources);
    if (seconds !== undefined) return await applyPending(call, (store) => rehearse(call, documents, store), seconds);
    if (!call.flags.on("force")) await refuseCuts(call, documents, resources.store);
    const outcome = await forEach(call, documents, (resource) => {
      refuseForeign(resource, "apply");
      return resources.apply(newObject(resource));
    });
    return report(call, outcome, "apply", "applied");
  },
};

/** @throws Problem "unsupported" when the objects, all together, would cut what must not be cut by accident. */
async function refuseCuts(call: Call, documents: readonly Document[], store: Store): Promise<void> {
  const keys = documents.map(({ resource }) => resourceKey(resource.kind, resource.metadata.name));
  const lifelines = await endangered(store, keys, call.lifelines);
  if (!lifelines) return;
  const { rehearsal } = await rehearse(call, documents, store);
  const cuts = cutsOf(new World(rehearsal.before), new World(await rehearsal.after()), lifelines);
  if (cuts.length > 0) throw cutRefused(cuts, "Use --confirm 60s to have it undone unless you confirm it, or --force");
}
