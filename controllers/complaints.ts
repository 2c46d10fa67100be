import { createHash } from "node:crypto";
import { type Clock, rfc3339, withDeadline } from "../lib/clock.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, messageOf, Problem } from "../lib/problem.ts";
import type { Api } from "../datastore/kubernetes/reflector.ts";
import type { Trouble } from "./syncs/sync.ts";

/** Of one request. */
const deadlineMs = 10_000;
/** Kubernetes' limit of an Event's message. */
const maxMessage = 1024;

/** What complaints work with. */
export interface ComplaintParts {
  api: Pick<Api, "open">;
  clock: Clock;
  log: Logger;
}

/**
 * Says on the objects of Kubernetes, by Events, what of them is not followed: `kubectl describe` shows it. Each complaint
 * is made once by a process; one that cannot be made is in our log and in an annotation of what is stored, and that is all.
 */
export class Complaints {
  readonly #made = new Map<string, string>();

  constructor(private readonly parts: ComplaintParts) {}

  /** What is wrong with the origin of `key` now; undefined = nothing. */
  async tell(key: string, trouble: Trouble | undefined): Promise<void> {
    if (!trouble) return void this.#made.delete(key);
    const why = trouble.why.join("; ");
    if (this.#made.get(key) === why) return;
    this.#made.set(key, why);
    const { api, clock, log } = this.parts;
    const { kind, name, namespace } = trouble.object;
    log.warn("not followed as it is written", { kind, namespace, name, why });
    const place = `/api/v1/namespaces/${encodeURIComponent(namespace ?? "default")}/events`;
    const late = () => new Problem({ code: "unavailable", what: "Kubernetes did not answer in time" });
    const send = { method: "POST" as const, object: eventOf(trouble, why, clock.now()) };
    try {
      const post = async (signal: AbortSignal) => {
        const answer = await api.open(place, signal, send);
        await answer.body?.cancel();
        return answer.status;
      };
      const status = await withDeadline(deadlineMs, post, late, clock);
      // 409: an instance before us has said the same.
      if (status >= 300 && status !== 409) log.warn("an Event cannot be made", { kind, name, status });
    } catch (error) {
      if (!isProblem(error)) throw error;
      log.warn("an Event cannot be made", { kind, name, why: messageOf(error) });
    }
  }
}

/** A core/v1 Event. The same complaint about the same object always has the same name. */
function eventOf({ object }: Trouble, why: string, nowMs: number): Record<string, unknown> {
  const hash = createHash("sha256").update(`${object.uid} ${why}`).digest("hex").slice(0, 16);
  const namespace = object.namespace ?? "default", time = rfc3339(nowMs);
  return {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: `${object.name.slice(0, 230)}.${hash}`, namespace },
    involvedObject: object,
    reason: "NotFollowed",
    message: why.slice(0, maxMessage),
    type: "Warning",
    source: { component: "tortie-controllers" },
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
}
