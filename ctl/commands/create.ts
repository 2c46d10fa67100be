import { isProblem } from "../../lib/problem.ts";
import type { Resource } from "../../datastore/kind.ts";
import type { Resources } from "../../datastore/resources.ts";
import { ensureInitialized } from "../../datastore/cluster.ts";
import { type Call, type Command, forceFlag } from "../command.ts";
import { refuseForeign } from "../../datastore/foreign.ts";
import { fileFlags, forEach, objectsOf, outcomeFlag, report } from "../writing.ts";

/** `create`: stores objects that do not exist yet. */
export const create: Command = {
  words: ["create"],
  summary: "Store new objects from a file, a folder or standard input",
  usage: "-f FILE",
  flags: [...fileFlags, outcomeFlag, forceFlag, {
    name: "skip-exists",
    help: "objects that exist already are no error",
  }],
  examples: ["create -f pool.yaml"],
  async run(call) {
    const documents = await objectsOf(call);
    const resources = await call.resources();
    await initialize(call, resources);
    const outcome = await forEach(call, documents, (resource) => {
      refuseForeign(resource, "create");
      return resources.create(newObject(resource));
    });
    return report(call, outcome, "create", "created");
  },
};

/** Makes what every cluster has. A user who may not write that can still write what he may. */
export async function initialize(call: Call, resources: Resources): Promise<void> {
  try {
    await ensureInitialized(resources, "", call.surroundings.uuid);
  } catch (error) {
    if (!isProblem(error, "unauthorized")) throw error;
  }
}

/** The object without identity: uid and creation time are those of the object that is made. */
export function newObject(resource: Resource): Resource {
  const { name, namespace, resourceVersion, labels, annotations } = resource.metadata;
  return { ...resource, metadata: { name, namespace, resourceVersion, labels, annotations } };
}
