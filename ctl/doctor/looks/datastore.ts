import { messageOf } from "../../../lib/problem.ts";
import type { Clock } from "../../../lib/clock.ts";
import { decodeResource, isUndecodable, type Undecodable } from "../../../datastore/codec.ts";
import { readyKey } from "../../../datastore/keys.ts";
import type { Resource } from "../../../datastore/kind.ts";
import { storedResources } from "../../../datastore/resources.ts";
import type { HostEndpoint } from "../../../datastore/kinds/host_endpoint.ts";
import type { IPPool } from "../../../datastore/kinds/ip_pool.ts";
import type { Node } from "../../../datastore/kinds/node.ts";
import type { WorkloadEndpoint } from "../../../datastore/kinds/workload_endpoint.ts";
import { askMember } from "../../../datastore/members.ts";
import type { StoreOptions } from "../../../datastore/options.ts";
import type { Store } from "../../../datastore/store.ts";
import { networkSettings } from "../../../agent/network/settings.ts";
import { FelixSources } from "../../../agent/felix_sources.ts";
import type { ConnectionFacts, EtcdMember, ObjectFacts } from "../facts.ts";

/** How often a small value is read. */
const reads = 5;
/** How long one answer may take, in ms. */
const patienceMs = 3_000;

/** Reads a small value a few times, and asks each member by itself. */
export async function lookAtConnection(
  { endpoints }: StoreOptions,
  store: Store,
  members: readonly (EtcdMember | { endpoint: string; why: string })[],
  clock: Clock,
): Promise<ConnectionFacts> {
  const silent = members.filter((m) => "why" in m);
  const times: number[] = [];
  try {
    for (let i = 0; i < reads; i++) {
      const before = clock.monotonicMs();
      await store.get(readyKey, { deadlineMs: patienceMs });
      times.push(clock.monotonicMs() - before);
    }
    return { endpoints, latencyMs: times.sort((a, b) => a - b)[Math.floor(reads / 2)]!, silent };
  } catch (error) {
    return { endpoints, away: messageOf(error), silent };
  }
}

/** What each member that speaks HTTP says of itself, or why it does not. */
export function lookAtMembers(
  options: StoreOptions,
  clock: Clock,
): Promise<(EtcdMember | { endpoint: string; why: string })[]> {
  return Promise.all(
    options.endpoints.filter((e) => /^https?:/.test(e)).map(async (endpoint) => {
      try {
        const { sizeBytes, quotaBytes, alarms, nowMs } = await askMember(endpoint, options, patienceMs);
        const clockAheadMs = nowMs === undefined ? undefined : nowMs - Math.floor(clock.now() / 1000) * 1000;
        return { endpoint, sizeBytes, quotaBytes, alarms, clockAheadMs };
      } catch (error) {
        return { endpoint, why: messageOf(error) };
      }
    }),
  );
}

/** All objects. @param env the agent's environment. */
export async function lookAtObjects(
  store: Store,
  node: string,
  env: (name: string) => string | undefined,
): Promise<ObjectFacts> {
  const stored = await storedResources(store);
  const undecodable: Undecodable[] = [];
  const byKind = new Map<string, Resource[]>();
  for (const kv of stored) {
    const value = decodeResource(kv);
    if (value && isUndecodable(value)) undecodable.push(value);
    else if (value) {
      const others = byKind.get(value.kind);
      if (others) others.push(value);
      else byKind.set(value.kind, [value]);
    }
  }
  const of = <R extends Resource>(...kinds: string[]) => kinds.flatMap((kind) => byKind.get(kind) ?? []) as R[];
  const felix = new FelixSources(node, env);
  felix.update({ set: stored, deleted: [] });
  const sources = felix.sources();
  const insertModes = [
    sources.env("FELIX_CHAININSERTMODE"),
    ...(sources.configurations ?? []).map((c) => c.spec.chainInsertMode),
  ];
  const ready = of("ClusterInformation").find((r) => r.metadata.name === "default")?.spec.datastoreReady;
  return {
    ready: of("ClusterInformation").length === 0 ? undefined : ready !== false,
    nodes: of<Node>("Node"),
    pools: of<IPPool>("IPPool"),
    tiers: new Set(of("Tier").map((tier) => tier.metadata.name)),
    policies: of("GlobalNetworkPolicy", "NetworkPolicy", "StagedGlobalNetworkPolicy", "StagedNetworkPolicy"),
    hostEndpoints: of<HostEndpoint>("HostEndpoint"),
    endpoints: of<WorkloadEndpoint>("WorkloadEndpoint"),
    undecodable,
    settings: networkSettings(sources).settings,
    appendsRules: insertModes.find((mode) => !!mode) === "Append",
  };
}
