import type { Clock } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import { resourceKey } from "../datastore/keys.ts";
import type { Mirror } from "../datastore/mirror.ts";

/** What watchOwnNode() works with. */
export interface OwnNodeWatchParts {
  node: string;
  mirror: Pick<Mirror, "get" | "state">;
  /** Whether Kubernetes has this node. @throws Problem when it does not say so. */
  isInKubernetes(): Promise<boolean>;
  /** Makes the Node as start-up does. @throws Problem. */
  makeAnew(): Promise<void>;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
}

/** Between two looks at the mirror, and between two questions to Kubernetes. */
const lookMs = 2_000;

/**
 * Makes this Node anew when it was removed and Kubernetes has it: the controllers take away a node that kubelet has not
 * registered yet, and `kubectl delete node` is followed by a kubelet that registers again. A node that Kubernetes does not
 * have stays removed. Runs until the signal.
 * DIFFERS: Calico's node makes its Node at start only, which a DaemonSet's pod does again and a process of the host does not.
 */
export async function watchOwnNode(parts: OwnNodeWatchParts): Promise<void> {
  const { node, mirror, clock, log, signal } = parts, key = resourceKey("Node", node);
  let told = "";
  while (!signal.aborted) {
    await clock.sleep(lookMs, signal).catch(() => {}); // aborted: the loop's condition ends it
    const { inSync, connected } = mirror.state();
    if (signal.aborted || !inSync || !connected || mirror.get(key)) continue;
    const why = await again(parts);
    if (why !== told) log.warn("this Node was removed from the datastore", { node, why });
    told = why;
  }
}

/** Makes it anew when it should be there; answers what came of it. */
async function again({ isInKubernetes, makeAnew }: OwnNodeWatchParts): Promise<string> {
  try {
    if (!await isInKubernetes()) return "Kubernetes has no such node";
    await makeAnew();
    return "Kubernetes has it, so it is made anew";
  } catch (error) {
    if (!isProblem(error)) throw error;
    return messageOf(error);
  }
}
