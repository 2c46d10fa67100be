import { badInput, type Call, type Command, forceFlag } from "../command.ts";
import { named, placeInNamespace } from "../writing.ts";

/** `edit`: changes an object in an editor. */
export const edit: Command = {
  words: ["edit"],
  summary: "Change an object in an editor ($VISUAL, $EDITOR or vi); what is wrong is said there",
  usage: "KIND NAME",
  flags: [forceFlag, { name: "namespace", short: "n", value: "NAME", help: "namespace of the object" }],
  takes: 2,
  examples: ["edit ippool main", "EDITOR=nano tortie ctl edit gnp allow-dns"],
  async run(call: Call) {
    const { resource } = named(call)[0]!;
    placeInNamespace(call, resource);
    if (resource.kind === "WorkloadEndpoint") throw badInput("workload endpoints are written by the CNI plugin");
    const { editResource } = await import("../editing.ts");
    return await editResource(call, resource);
  },
};
