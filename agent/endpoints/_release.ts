import { isProblem, Problem } from "../../lib/problem.ts";
import { isObject, parseJson } from "../../lib/json64.ts";
import { handleKey, resourceKey } from "../../datastore/keys.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import type { Store } from "../../datastore/store.ts";
import type { Allocator } from "../../ipam/commit.ts";
import type { Extra } from "../../ipam/request.ts";
import { type Attachment, handleOf } from "./attachment.ts";
import type { Endpoints } from "./_endpoints.ts";
import type { Patience } from "./_patience.ts";

/** What a release works with. */
export interface ReleaseParts {
  store: Pick<Store, "read">;
  mirror: Pick<Mirror, "get" | "learn" | "state">;
  allocator: Pick<Allocator, "release">;
  endpoints: Endpoints;
  patience: Patience;
}

/** What is to be taken out of etcd. */
export interface ReleaseOrder {
  attachment: Attachment;
  endpointKey?: string;
  /** Longest silence of etcd. */
  patienceMs: number;
  /** Ask etcd even when the mirror knows of nothing: a write of ours may be there that nobody confirmed. */
  askAnyway?: boolean;
}

const maxConflicts = 5;
/** How long address management may go on with a request, behind others: it ends before when etcd is silent. */
const deadlineMs = 20_000;

/**
 * Takes addresses and endpoint of a container out of etcd, in one transaction. A newer sandbox of the same pod keeps
 * its endpoint (another containerID) and its addresses (another handle).
 * @returns "nothing" when there was nothing of it.
 * @throws Problem "unavailable", "not-ready" (nothing was done, or it is unknown), "undecodable".
 */
export async function release(parts: ReleaseParts, order: ReleaseOrder): Promise<"released" | "nothing"> {
  const { mirror, endpoints, patience } = parts;
  const { attachment, endpointKey, patienceMs } = order;
  refuseWhenUnknown(mirror);
  const handle = handleOf(attachment);
  const owned = () => endpoints.of({ key: endpointKey, containerId: attachment.containerId });
  if (order.askAnyway) await patience.within(patienceMs, () => refresh(parts, handleKey(handle), endpointKey), "DEL");
  for (let conflicts = 0;; conflicts++) {
    const endpoint = owned();
    if (!endpoint && !mirror.get(handleKey(handle)) && !order.askAnyway) return "nothing";
    refuseWhenLocked(mirror);
    const also = (): Extra => {
      const now = owned();
      return now
        ? { compare: [{ key: now.key, revision: now.revision }], write: [{ delete: now.key }] }
        : { compare: [], write: [] };
    };
    const work = () => parts.allocator.release([{ handle, with: also, deadlineMs }]);
    const [outcome] = await patience.within(patienceMs, work, "DEL");
    if (outcome!.commit) mirror.learn(outcome!.commit.events);
    if (!outcome!.problem) return endpoint || outcome!.released.length > 0 ? "released" : "nothing";
    const { problem, current } = outcome!;
    if (!isProblem(problem, "conflict") || !endpoint || !current || conflicts === maxConflicts) throw problem;
    await patience.within(patienceMs, () => refresh(parts, endpoint.key), "DEL");
  }
}

/** Brings the mirror to what etcd has now under the keys. A key that is absent was deleted no later than this read. */
export async function refresh(
  parts: { store: Pick<Store, "read">; mirror: Pick<Mirror, "learn"> },
  ...keys: (string | undefined)[]
): Promise<void> {
  const wanted = keys.filter((key) => key !== undefined);
  const { revision, values } = await parts.store.read(wanted);
  parts.mirror.learn(wanted.map((key) => values.get(key) ?? { key, value: undefined, revision, created: 0n }));
}

/** @throws Problem "unavailable" while the mirror was never in sync: what it lacks may be there. */
export function refuseWhenUnknown(mirror: Pick<Mirror, "state">): void {
  const { inSync, why } = mirror.state();
  if (inSync) return;
  throw new Problem({
    code: "unavailable",
    what: `the agent has not read etcd yet${why ? `: ${why}` : ""}`,
    todo: "It goes on by itself; `tortie ctl node status` says what it waits for",
  });
}

/** The key whose `datastoreReady` locks the cluster while it is being upgraded. */
export const clusterKey = (): string => resourceKey("ClusterInformation", "default");

/** @throws Problem "not-ready" while the cluster is locked. */
export function refuseWhenLocked(mirror: Pick<Mirror, "get">): void {
  const text = mirror.get(clusterKey())?.value;
  const value = text === undefined ? undefined : parseJson(text);
  if (isObject(value) && isObject(value.spec) && value.spec.datastoreReady === true) return;
  throw new Problem({
    code: "not-ready",
    what: value === undefined
      ? "the cluster is not set up: ClusterInformation default does not exist"
      : "Calico is currently not ready to process requests",
    where: "ClusterInformation default",
    todo: "datastoreReady is not true while the cluster is upgraded; `calicoctl datastore migrate unlock` ends that",
  });
}
