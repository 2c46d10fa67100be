import { writeJson } from "../../lib/json64.ts";
import { isProblem } from "../../lib/problem.ts";
import type { ClusterInformation } from "../../datastore/kinds/cluster_information.ts";
import { durationMs } from "../../datastore/duration.ts";
import { badInput, type Call, type Command, outputOf } from "../command.ts";

/** `version`: of this program and of the cluster. */
export const version: Command = {
  words: ["version"],
  summary: "Show the versions of this program and of the cluster",
  usage: "",
  flags: [
    { name: "client", help: "only this program's" },
    { name: "output", short: "o", value: "FORMAT", help: "text or json (without --poll)" },
    { name: "poll", value: "DURATION", help: "look again and again, and show what has changed, until Ctrl-C" },
  ],
  anyVersion: true,
  async run(call) {
    const { out, err, version, commit } = call.surroundings;
    if (outputOf(call) === "json") return await tellJson(call);
    out(`Client Version:    ${version}\nGit commit:        ${commit}\n`);
    if (call.flags.on("client")) return 0;
    const poll = call.flags.text("poll");
    const everyMs = poll === undefined ? undefined : durationMs(poll);
    if (poll !== undefined && !(everyMs && everyMs > 0)) throw badInput(`invalid duration ${poll}`);
    for (let before = "";;) {
      try {
        const { spec } = await (await call.resources()).get<ClusterInformation>("ClusterInformation", "default");
        const words = [spec.calicoVersion || "unknown", spec.clusterType || "unknown"];
        const text = `Cluster Version:   ${words[0]}\nCluster Type:      ${words[1]}\n`;
        if (text !== before) out(text);
        before = text;
      } catch (error) {
        if (!isProblem(error)) throw error;
        err(`unable to retrieve Cluster Version or Type: ${error.message}\n`);
        if (!everyMs) return 1;
      }
      if (!everyMs) return 0;
      await call.surroundings.clock.sleep(everyMs);
    }
  },
};

/** What is known of both, for programs; `cluster` is null when it cannot be asked. */
async function tellJson(call: Call): Promise<number> {
  const { out, version, commit } = call.surroundings;
  const client = { version, commit };
  if (call.flags.on("client")) {
    out(`${writeJson({ client }, 2)}\n`);
    return 0;
  }
  try {
    const { spec } = await (await call.resources()).get<ClusterInformation>("ClusterInformation", "default");
    out(`${writeJson({ client, cluster: { version: spec.calicoVersion ?? "", type: spec.clusterType ?? "" } }, 2)}\n`);
    return 0;
  } catch (error) {
    if (!isProblem(error)) throw error;
    out(`${writeJson({ client, cluster: null, why: error.message }, 2)}\n`);
    return 1;
  }
}
