import { parseIp } from "../lib/ip.ts";
import { isObject, type Json, parseJson } from "../lib/json64.ts";
import { handleKey } from "../datastore/keys.ts";
import type { ClusterInformation } from "../datastore/kinds/cluster_information.ts";
import type { Store } from "../datastore/store.ts";
import { badInput, type Call } from "./command.ts";
import { common, inOrder, type Releasable } from "./ipam_check_text.ts";
import { allocatorOf } from "../ipam/removal.ts";

/**
 * Releases what every report of `ipam check` calls leaked, if it is still as it was then: same handle, same sequence number.
 * Source: calicoctl commands/ipam/release.go. @returns the exit code.
 */
export async function releaseReported(call: Call): Promise<number> {
  const { surroundings, flags } = call;
  const resources = await call.resources();
  const cluster = await resources.get<ClusterInformation>("ClusterInformation", "default");
  const reports = await Promise.all(flags.texts("from-report").map((file) => readReport(call, file)));
  refuseUnfit(call, cluster, reports);
  const { addresses, handles } = common(reports.map((report) => releasableOf(report.content)));
  if (addresses.size === 0) surroundings.out("Report didn't contain any leaked IPs to clean up.\n");
  else {
    surroundings.out(`Releasing ${addresses.size} old IPs...\n`);
    await using allocator = allocatorOf(resources, surroundings);
    const requests = inOrder(addresses.keys()).map((ip) => ({
      addresses: [{ ip: parseIp(ip), ...addresses.get(ip)! }],
    }));
    const outcomes = await allocator.release(requests);
    const problem = outcomes.find((outcome) => outcome.problem)?.problem;
    const released = outcomes.reduce((n, outcome) => n + outcome.released.length, 0);
    if (problem) surroundings.out(`An error occurred while releasing some IPs: ${problem.message}.\n`);
    surroundings.out(`Released ${released} IPs successfully\n`);
    const before = addresses.size - released;
    if (before > 0 && !problem) {
      surroundings.out(`${before} addresses marked as leaked in the report had already been cleaned up.\n`);
    }
  }
  if (handles.size === 0) surroundings.out("Report didn't contain any handles to clean up.\n");
  else await deleteHandles(call, resources.store, handles);
  surroundings.out("You may now unlock the data store.\n");
  return 0;
}

interface Report {
  file: string;
  content: Record<string, Json>;
}

async function readReport(call: Call, file: string): Promise<Report> {
  const text = await call.surroundings.readFile(file);
  if (text === undefined) throw badInput(`open ${file}: no such file or directory`);
  try {
    const content = parseJson(text);
    if (isObject(content) && isObject(content.allocations ?? {})) return { file, content };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw badInput(`${file} is not a report of ipam check`);
}

/** @throws Problem "bad-input" for reports of another cluster, program or time, or when the datastore is not locked. */
function refuseUnfit(call: Call, { spec, metadata }: ClusterInformation, reports: Report[]): void {
  const { surroundings, flags } = call;
  const force = flags.on("force");
  for (const { file, content } of reports) {
    if (content.clusterGUID !== (spec.clusterGUID ?? "")) {
      throw badInput(
        `cluster does not match the provided report (${file}): mismatched cluster GUID. Refusing to release`,
      );
    }
    if (content.version === surroundings.version) continue;
    if (!force) {
      const what = `was produced using a different version (${content.version}) of calicoctl. Refusing to release`;
      throw badInput(`the provided report (${file}) ${what}`);
    }
    surroundings.out(
      "WARNING: Report was produced using a different version of calicoctl. Ignoring due to --force option\n",
    );
  }
  if (!reports.some(({ content }) => content.clusterInformationRevision === metadata.resourceVersion)) {
    const todo = "Please generate a new report while the data store is locked and try again";
    throw badInput(`the provided reports are all stale - at least one should be up-to-date. ${todo}`);
  }
  if (spec.datastoreReady === false) return;
  if (!force) throw badInput("data store is not locked. Either lock the data store, or re-run with --force");
  surroundings.out("WARNING: Data store is not locked. Ignoring due to --force option\n");
}

/** What a report calls unused: neither in use nor cooling down. */
function releasableOf(content: Record<string, Json>): Releasable {
  const entries = Object.values(content.allocations ?? {}).flatMap((list) => Array.isArray(list) ? list : []);
  const idle = entries.filter(isObject).filter((entry) => entry.inUse !== true && entry.coolingDown !== true);
  const handles = Array.isArray(content.leakedHandles) ? content.leakedHandles.filter(isObject) : [];
  return {
    addresses: new Map(idle.map((entry) => [String(entry.ip), {
      handle: typeof entry.handle === "string" ? entry.handle : undefined,
      sequenceNumber: BigInt(String(entry.sequenceNumber ?? 0)),
    }])),
    handles: new Map(handles.map((handle) => [String(handle.ID), String(handle.Revision)])),
  };
}

async function deleteHandles(call: Call, store: Store, handles: ReadonlyMap<string, string>): Promise<void> {
  const { out } = call.surroundings;
  out(`Deleting ${handles.size} handles...\nKey: '.' = Deleted OK; 'x' = skip, handle missing/changed.\n`);
  let released = 0;
  for (const [id, revision] of handles) {
    const key = handleKey(id);
    const { committed } = await store.txn({ compare: [{ key, revision: BigInt(revision) }], write: [{ delete: key }] });
    if (committed) released++;
    out(committed ? "." : "x");
  }
  out(`\nReleased ${released} handles; ${handles.size - released} skipped; 0 errors.\n`);
}
