import type { ClusterInformation } from "../../datastore/kinds/cluster_information.ts";
import type { Command } from "../command.ts";

/** `datastore migrate lock` and `unlock`: whether agents may program and CNI may add. */
const toggle = (word: "lock" | "unlock"): Command => ({
  words: ["datastore", "migrate", word],
  summary: word === "lock" ? "Stop agents and CNI from changing anything" : "Let agents and CNI go on",
  usage: "",
  flags: [],
  async run(call) {
    const resources = await call.resources();
    const info = await resources.get<ClusterInformation>("ClusterInformation", "default");
    await resources.update({ ...info, spec: { ...info.spec, datastoreReady: word === "unlock" } });
    call.surroundings.out(`Datastore ${word}ed.\n`);
    return 0;
  },
});

/** Sets ClusterInformation.datastoreReady to false. */
export const lock = toggle("lock");
/** Sets it to true. */
export const unlock = toggle("unlock");
