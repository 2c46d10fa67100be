import type { Clock } from "../lib/clock.ts";
import { parseCidr, tryParseNet } from "../lib/ip.ts";
import { silentLog } from "../lib/log.ts";
import { isProblem, type Problem } from "../lib/problem.ts";
import type { IPPool } from "../datastore/kinds/ip_pool.ts";
import type { Node } from "../datastore/kinds/node.ts";
import type { WorkloadEndpoint } from "../datastore/kinds/workload_endpoint.ts";
import type { Resource } from "../datastore/kind.ts";
import { doesNotExist, identify } from "../datastore/problems.ts";
import type { Resources } from "../datastore/resources.ts";
import { Allocator } from "./commit.ts";
import { coldReader } from "./view.ts";

/** How long an allocation that has already chosen a pool may take to end, in milliseconds, before its blocks go. */
const settleMs = 500;

/** What a removal needs of the world. */
export interface RemovalDeps {
  clock: Clock;
  random(): number;
}

/** Deletes an object. A pool or node gives up its blocks first, and a node takes what is only about it along. */
export async function removeResource(
  resources: Resources,
  deps: RemovalDeps,
  { kind, metadata }: Pick<Resource, "kind" | "metadata">,
): Promise<void> {
  const { name, namespace, resourceVersion } = metadata;
  if (name === "") throw doesNotExist(identify(kind, "", namespace));
  if (kind === "IPPool" || kind === "Node") {
    await using allocator = allocatorOf(resources, deps);
    if (kind === "Node") return await removeNode(resources, allocator, name);
    return await removePool(resources, allocator, name, deps.clock);
  }
  await resources.delete(kind, name, namespace, resourceVersion);
}

/** An allocator for one command: it reads afresh and says nothing. */
export function allocatorOf({ store }: Resources, { clock, random }: RemovalDeps): Allocator {
  return new Allocator({ store, reader: () => coldReader(store), clock, random, log: silentLog });
}

/** Disables the pool so that nobody takes addresses of it, releases its blocks, deletes it. */
export async function removePool(
  resources: Resources,
  allocator: Allocator,
  name: string,
  clock: Clock,
): Promise<void> {
  const pool = await resources.get<IPPool>("IPPool", name);
  if (!pool.spec.disabled) {
    await resources.update<IPPool>({ ...pool, spec: { ...pool.spec, disabled: true } });
    await clock.sleep(settleMs);
  }
  if (tryParseNet(pool.spec.cidr)) {
    orThrow(await allocator.releaseAffinities({ within: parseCidr(pool.spec.cidr) }, false));
  }
  await resources.delete("IPPool", name);
}

/**
 * Releases the addresses of the node's endpoints and tunnels and its blocks; deletes its endpoints, its sessions and
 * settings, then itself. Source: Calico libcalico-go/lib/clientv3/node.go, Delete.
 */
export async function removeNode(resources: Resources, allocator: Allocator, name: string): Promise<void> {
  const node = await resources.get<Node>("Node", name);
  const { items: endpoints } = await resources.list<WorkloadEndpoint>("WorkloadEndpoint");
  const own = endpoints.filter((endpoint) => endpoint.spec.node === name);
  const addresses = [...own.flatMap((e) => e.spec.ipNetworks ?? []), ...tunnelAddresses(node)]
    .map((text) => tryParseNet(text.includes("/") ? text : `${text}/${text.includes(":") ? 128 : 32}`)?.ip)
    .filter((ip) => ip !== undefined);
  if (addresses.length > 0) {
    const outcomes = await allocator.release(addresses.map((ip) => ({ addresses: [{ ip }] })));
    const problem = outcomes.find((o) => o.problem)?.problem;
    if (problem) throw problem;
  }
  for (const { metadata } of own) await deleteIfThere(resources, "WorkloadEndpoint", metadata.name, metadata.namespace);
  orThrow(await allocator.releaseAffinities({ node: name }, false));
  for (const kind of ["BGPPeer", "HostEndpoint"]) {
    for (const { metadata, spec } of (await resources.list(kind)).items) {
      if (spec.node === name) await deleteIfThere(resources, kind, metadata.name);
    }
  }
  for (const kind of ["FelixConfiguration", "BGPConfiguration"]) await deleteIfThere(resources, kind, `node.${name}`);
  await resources.delete("Node", name);
}

/** Tunnel addresses that the node took from pools. DIFFERS: Calico forgets those of IPv6. */
function tunnelAddresses({ spec }: Node): string[] {
  return [
    spec.bgp?.ipv4IPIPTunnelAddr,
    spec.ipv4VXLANTunnelAddr,
    spec.ipv6VXLANTunnelAddr,
    spec.wireguard?.interfaceIPv4Address,
    spec.wireguard?.interfaceIPv6Address,
  ].filter((address): address is string => !!address);
}

async function deleteIfThere(resources: Resources, kind: string, name: string, namespace?: string): Promise<void> {
  try {
    await resources.delete(kind, name, namespace);
  } catch (error) {
    if (!isProblem(error, "not-found")) throw error;
  }
}

function orThrow({ blocks }: { blocks: { problem?: Problem }[] }): void {
  const problem = blocks.find((b) => b.problem)?.problem;
  if (problem) throw problem;
}
