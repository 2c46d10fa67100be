import type { Clock } from "../../lib/clock.ts";
import { formatIp } from "../../lib/ip.ts";
import type { Logger } from "../../lib/log.ts";
import { isProblem, messageOf } from "../../lib/problem.ts";
import type { WorkloadEndpoint } from "../../datastore/kinds/workload_endpoint.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import { attributeOf, handleOf as handleOfAttribute } from "../../ipam/block.ts";
import { collect, type LocalTruth, type Suspects } from "../../ipam/collect.ts";
import type { Allocator } from "../../ipam/commit.ts";
import { type View, viewOf } from "../../ipam/view.ts";
import { handleOf } from "./attachment.ts";
import type { Journal } from "./journal.ts";
import type { Leases } from "./leases.ts";
import { addressesOf } from "./stored.ts";

/** What the collector works with. */
export interface CollectorParts {
  node: string;
  mirror: Pick<Mirror, "get" | "list" | "state" | "revision">;
  learn: Mirror["learn"];
  allocator: Pick<Allocator, "clean">;
  /** This node's endpoints. */
  endpoints: () => WorkloadEndpoint[];
  journal: Pick<Journal, "entries">;
  leases: Pick<Leases, "handles">;
  /** Addresses with a route to an interface of a workload of this node. */
  routedAddresses: () => ReadonlySet<string>;
  /** Since when this node's agent keeps records, Unix milliseconds: what is older is not judged. */
  recordsSinceMs: number;
  clock: Clock;
  log: Logger;
}

/** Between two looks. */
const periodMs = 60_000;
/** How long something must look unused. Calico's collector takes 15 minutes. */
const graceMs = 10 * 60_000;

/**
 * Gives back what this node left behind: addresses without container, blocks it does not need, handles that hold nothing.
 * Runs until `signal` is aborted.
 * DIFFERS: Calico collects Kubernetes pods' addresses only, and only where its controllers run.
 */
export async function runCollector(parts: CollectorParts, signal: AbortSignal): Promise<void> {
  const { clock, log } = parts;
  let suspects: Suspects = new Map();
  while (!signal.aborted) {
    await clock.sleep(periodMs, signal).catch(() => {}); // aborted: the next line ends it
    if (signal.aborted) return;
    const { inSync, connected } = parts.mirror.state();
    if (!inSync || !connected) continue;
    try {
      suspects = await lookOnce(parts, suspects);
    } catch (error) {
      if (!isProblem(error)) throw error;
      log.warn("collecting was not possible", { why: messageOf(error) });
    }
  }
}

async function lookOnce(parts: CollectorParts, before: Suspects): Promise<Suspects> {
  const { mirror, allocator, node, clock, log } = parts;
  const view = viewOf(mirror);
  const found = collect(view, truthOf(parts, view), before, { nowMs: clock.now(), graceMs });
  const { released, tidied, commits } = await allocator.clean(found, node);
  for (const commit of commits) parts.learn(commit.events);
  for (const { ip, handle, reason } of released) {
    log.info("address given back", { address: formatIp(ip), handle, reason });
  }
  if (tidied > 0) log.info("blocks and handles tidied", { number: tidied });
  return found.suspects;
}

/** What is known of this node at this moment. */
export function truthOf(parts: CollectorParts, view: View): LocalTruth {
  const endpoints = parts.endpoints();
  const valid = new Set([
    ...parts.leases.handles(),
    ...parts.journal.entries().map((e) => handleOf(e.attachment)),
    ...olderThanRecords(view, parts),
  ]);
  // An endpoint does not tell its network; its container's handles end in the container's id.
  const containers = new Set(endpoints.map((e) => e.spec.containerID).filter((id) => id !== undefined));
  for (const { id } of view.handles()) if (containers.has(id.slice(id.lastIndexOf(".") + 1))) valid.add(id);
  return {
    node: parts.node,
    validHandles: valid,
    endpointAddresses: new Set(endpoints.flatMap(addressesOf).map(formatIp)),
    interfaceAddresses: parts.routedAddresses(),
    complete: true,
  };
}

/** Handles of addresses from before our records, or of an unknown time: another agent may know of them. */
function olderThanRecords(view: View, { recordsSinceMs }: CollectorParts): string[] {
  return ([4, 6] as const).flatMap((v) => view.blocks(v)).flatMap(({ value: block }) =>
    block.allocations.flatMap((_, ordinal) => {
      const attribute = attributeOf(block, ordinal);
      const handle = handleOfAttribute(attribute);
      const secondary = attribute?.secondary as { timestamp?: unknown } | undefined;
      const given = typeof secondary?.timestamp === "string" ? parseGoTimestamp(secondary.timestamp) : undefined;
      return handle !== undefined && !(given !== undefined && given >= recordsSinceMs) ? [handle] : [];
    })
  );
}

/** Unix milliseconds of Go's `2026-11-21 08:31:42.556064344 +0000 UTC`; undefined when it is something else. */
export function parseGoTimestamp(text: string): number | undefined {
  const parts = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d{1,3})?\d* \+0000 UTC/.exec(text);
  if (!parts) return undefined;
  const ms = Date.parse(`${parts[1]}T${parts[2]}${parts[3] ?? ""}Z`);
  return Number.isNaN(ms) ? undefined : ms;
}
