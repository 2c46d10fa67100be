import { isProblem, Problem } from "../lib/problem.ts";
import type { ClusterInformation } from "../datastore/kinds/cluster_information.ts";
import type { Call } from "./command.ts";

/**
 * Refuses a cluster whose Calico version is not ours, when we have one. A cluster without version or ClusterInformation,
 * or out of reach, is not refused here. @param failure put before the message.
 * @throws Problem "unsupported".
 */
export async function checkVersion(call: Call, failure = ""): Promise<void> {
  const ours = call.surroundings.calicoVersion;
  if (ours === undefined) return;
  const theirs = await clusterVersion(call);
  if (!theirs || bare(ours) === bare(theirs)) return;
  const lines = `version mismatch.\nClient Version:   ${ours}\nCluster Version:  ${bare(theirs)}\n`;
  throw new Problem({ code: "unsupported", what: `${failure}${lines}Use --allow-version-mismatch to override` });
}

async function clusterVersion(call: Call): Promise<string | undefined> {
  try {
    const resources = await call.resources();
    const { spec } = await resources.get<ClusterInformation>("ClusterInformation", "default");
    return spec.calicoVersion;
  } catch (error) {
    if (isProblem(error, "not-found", "unavailable", "unsupported", "bad-input")) return undefined;
    throw error;
  }
}

/** A version without its `v` and what follows the first hyphen. */
const bare = (version: string): string => version.replace(/^v/, "").split("-")[0]!;
