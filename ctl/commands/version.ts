import { isProblem } from "../../lib/problem.ts";
import type { ClusterInformation } from "../../datastore/kinds/cluster_information.ts";
import type { Command } from "../command.ts";

/** `version`: of this program and of the cluster. */
export const version: Command = {
  words: ["version"],
  summary: "Show the versions of this program and of the cluster",
  usage: "",
  flags: [{ name: "client", help: "only this program's" }],
  anyVersion: true,
  async run(call) {
    const { out, err, version, commit } = call.surroundings;
    out(`Client Version:    ${version}\nGit commit:        ${commit}\n`);
    if (call.flags.on("client")) return 0;
    try {
      const { spec } = await (await call.resources()).get<ClusterInformation>("ClusterInformation", "default");
      out(
        `Cluster Version:   ${spec.calicoVersion || "unknown"}\nCluster Type:      ${spec.clusterType || "unknown"}\n`,
      );
      return 0;
    } catch (error) {
      if (!isProblem(error)) throw error;
      err(`unable to retrieve Cluster Version or Type: ${error.message}\n`);
      return 1;
    }
  },
};
