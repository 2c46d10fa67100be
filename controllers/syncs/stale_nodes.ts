import { type Clock, withDeadline } from "../../lib/clock.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, Problem } from "../../lib/problem.ts";
import type { Resources } from "../../datastore/resources.ts";
import { Allocator } from "../../ipam/commit.ts";
import { removeNode } from "../../ipam/removal.ts";
import { coldReader } from "../../ipam/view.ts";
import type { Api } from "../../datastore/kubernetes/reflector.ts";

/** What a removal works with. */
export interface RemovalParts {
  api: Api;
  resources: Resources;
  clock: Clock;
  log: Logger;
  /** 0..1 source for jitter. */
  random: () => number;
}

/** Of the question whether the node is really gone. */
const deadlineMs = 10_000;

/**
 * Takes a stale node away with its addresses, endpoints, sessions and settings, when Kubernetes says once more that it is
 * not there. @throws Problem "unavailable", "unauthorized" when it does not say so.
 */
export async function removeStaleNode(
  { api, resources, clock, log, random }: RemovalParts,
  { name, nameThere }: { name: string; nameThere: string },
): Promise<void> {
  if (await isThere(api, nameThere, clock)) return;
  log.info("node is gone in Kubernetes, it is removed", { node: name });
  const { store } = resources;
  await using allocator = new Allocator({ store, reader: () => coldReader(store), clock, random, log });
  try {
    await removeNode(resources, allocator, name);
  } catch (error) {
    if (!isProblem(error, "not-found")) throw error;
  }
}

async function isThere(api: Api, name: string, clock: Clock): Promise<boolean> {
  const said = (why: string) =>
    new Problem({ code: "not-ready", what: `whether node ${name} is in Kubernetes is not known: ${why}` });
  const ask = async (signal: AbortSignal) => {
    const answer = await api.open(`/api/v1/nodes/${encodeURIComponent(name)}`, signal);
    await answer.body?.cancel();
    return answer.status;
  };
  const status = await withDeadline(deadlineMs, ask, () => said("no answer in time"), clock).catch((error) => {
    throw isProblem(error, "unavailable") ? said(error.what) : error;
  });
  if (status === 404) return false;
  if (status === 200) return true;
  throw said(`HTTP ${status}`);
}
