import type { Clock } from "../../lib/clock.ts";
import { isProblem } from "../../lib/problem.ts";
import type { Mirror } from "../../datastore/mirror.ts";
import { planAssign } from "../../ipam/assign.ts";
import { Draft } from "../../ipam/draft.ts";
import { startOf } from "../../ipam/pools/blocks.ts";
import { viewOf } from "../../ipam/view.ts";
import type { Dataplane } from "../dataplane/apply.ts";
import { refuseWhenLocked } from "./_release.ts";

/** Addresses that an add() would need. */
export interface AddressWish {
  v4: boolean;
  v6: boolean;
  pools4: string[];
  pools6: string[];
}

/** Whether an add() would be served now. `limited` = endpoints that exist are affected too. */
export type Readiness = { ready: true } | { ready: false; why: string; connectivity: "full" | "limited" };

/** What the answer depends on. */
export interface ReadinessParts {
  node: string;
  mirror: Pick<Mirror, "get" | "list" | "state" | "revision">;
  dataplane: Pick<Dataplane, "status">;
  clock: Clock;
}

/**
 * Looks whether an add() would be served: etcd, the kernel, and an address for this node, which is chosen but not taken.
 * @param wish undefined when the addresses are another plugin's business.
 */
export function readiness(parts: ReadinessParts, wish: AddressWish | undefined): Readiness {
  const { inSync, connected, why } = parts.mirror.state();
  const no = (text: string, connectivity: "full" | "limited" = "full"): Readiness => ({
    ready: false,
    why: text,
    connectivity,
  });
  const failed = parts.dataplane.status().ports.find((port) => port.failed.length > 0);
  if (failed) return no(`the kernel refuses ${failed.name}: ${failed.failed[0]!.why}`, "limited");
  if (!inSync) return no(`the agent is not in sync with etcd: ${why ?? "it starts"}`);
  if (!connected) return no(`etcd is away: ${why ?? "the connection is lost"}`);
  const problem = lockOf(parts) ?? (wish && refusalOf(parts, wish));
  return problem === undefined ? { ready: true } : no(problem);
}

function lockOf({ mirror }: ReadinessParts): string | undefined {
  try {
    refuseWhenLocked(mirror);
    return undefined;
  } catch (error) {
    if (isProblem(error, "not-ready")) return error.what;
    throw error;
  }
}

function refusalOf({ mirror, node, clock }: ReadinessParts, wish: AddressWish): string | undefined {
  const nowMs = clock.now();
  const moment = {
    nowMs,
    sequence: BigInt(nowMs) * 1_000_000n,
    random: () => 0,
    startBlock: (name: string, _pool: unknown, count: bigint) => startOf(name, count),
    counting: "exact" as const,
  };
  const pools = {
    ...(wish.pools4.length ? { 4: wish.pools4 } : {}),
    ...(wish.pools6.length ? { 6: wish.pools6 } : {}),
  };
  const families = { ...(wish.v4 ? { 4: 1 } : {}), ...(wish.v6 ? { 6: 1 } : {}) };
  const request = { node, use: "Workload" as const, attributes: {}, families, pools };
  return planAssign(new Draft(viewOf(mirror), moment), request).problem?.what;
}
