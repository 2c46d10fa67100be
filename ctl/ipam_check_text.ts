import { compareIp, formatCidr, formatIp, parseIp } from "../lib/ip.ts";
import { writeJson } from "../lib/json64.ts";
import type { ClusterInformation } from "../datastore/kinds/cluster_information.ts";
import type { View } from "../ipam/view.ts";
import { type Allocation, type Check, problemCount } from "./ipam_check.ts";

/** What the text shows beside its counts. */
export interface CheckDetail {
  all: boolean;
  problems: boolean;
}

/** Nodes with the most addresses that are named. */
const topNodes = 20;

/** The text of `ipam check`, as calicoctl prints it; lists in the order of addresses, which calicoctl's have not. */
export function checkText(view: View, check: Check, detail: CheckDetail): string {
  const { allocations, leaked, outsidePools, notAllocated, idleHandles, missingHandles, brokenBlocks } = check;
  const problem = (lines: string[]) => (detail.problems ? lines : []);
  const pools = view.pools().filter((pool) => pool.enabled);
  const shared = [...check.users].filter(([, users]) => users.length > 1);
  return [
    "Checking IPAM for inconsistencies...",
    "",
    "Loading all IPAM blocks...",
    ...blockLines(view, allocations, detail.all),
    `IPAM blocks record ${allocations.length} allocations.`,
    "",
    "Loading all IPAM pools...",
    ...pools.map((pool) => `  ${formatCidr(pool.cidr)}`),
    `Found ${pools.length} active IP pools.`,
    "",
    "Loading all nodes.",
    ...userLines(check, "Node(", detail.all),
    `Found ${check.tunnels} node tunnel IPs.`,
    "",
    "Loading all service load balancer IPs.",
    loadBalancerLine(allocations),
    "",
    "Loading all workload endpoints.",
    ...userLines(check, "Workload(", detail.all),
    `Found ${check.workloads} workload IPs.`,
    `Workloads and nodes are using ${check.users.size} IPs.`,
    "",
    "Loading all handles",
    ...nodeLines(allocations),
    "",
    "Scanning for IPs that are allocated but not actually in use...",
    ...problem(leaked.map(({ ip, words }) => `  ${formatIp(ip)} leaked; attrs ${words}`)),
    `Found ${leaked.length} IPs that are allocated in IPAM but not actually in use.`,
    "Scanning for IPs that are in use by a workload or node but not allocated in IPAM...",
    ...problem(shared.map(([ip]) => `  ${ip} has multiple owners.`)),
    ...problem(
      outsidePools.flatMap(([ip, users]) =>
        users.map((who) => `  ${ip} in use by ${who} is not in any active IP pool.`)
      ),
    ),
    ...problem(
      notAllocated.flatMap(([ip, users]) =>
        users.map((who) => `  ${ip} in use by ${who} and in active IPAM pool but has no IPAM allocation.`)
      ),
    ),
    `Found ${outsidePools.length} in-use IPs that are not in active IP pools.`,
    `Found ${notAllocated.length} in-use IPs that are in active IP pools but have no corresponding IPAM allocation.`,
    "",
    "Scanning for IPAM handles with no matching IPs...",
    ...(detail.all ? idleHandles.map(({ id }) => `  ${id} doesn't have any active IPs.`) : []),
    `Found ${idleHandles.length} handles with no matching IPs (and ${check.usedHandles} handles with matches).`,
    "Scanning for IPs with missing handle...",
    ...problem(missingHandles.map((id) => `  ${id} is in use in a block but doesn't exist.`)),
    `Found ${missingHandles.length} handles mentioned in blocks with no matching handle resource.`,
    "Validating IPAMBlock structures...",
    ...brokenBlocks.map(([cidr, why]) => `  IPAMBlock BlockKey(cidr=${cidr}) is invalid: ${why}`),
    `Found ${brokenBlocks.length} invalid IPAMBlocks.`,
    `Check complete; found ${problemCount(check)} problems.`,
  ].join("\n") + "\n";
}

function blockLines(view: View, allocations: Allocation[], all: boolean): string[] {
  const blocks = [...view.blocks(4), ...view.blocks(6)].map((stored) => stored.value);
  const own = Map.groupBy(allocations, (a) => a.block);
  return [
    `Found ${blocks.length} IPAM blocks.`,
    ...blocks.flatMap((block) => [
      ` IPAM block ${formatCidr(block.cidr)} affinity=${block.affinity ?? "<none>"}:`,
      ...(all ? own.get(block) ?? [] : []).map(({ ip, words }) => `  ${formatIp(ip)} allocated; attrs ${words}`),
    ]),
  ];
}

function userLines({ users }: Check, sort: string, all: boolean): string[] {
  if (!all) return [];
  const own = [...users].map(([ip, who]) => [ip, who.filter((w) => w.startsWith(sort))] as const);
  return own.flatMap(([ip, who]) => who.map((w) => `  ${ip} belongs to ${w}`));
}

/** DIFFERS: calicoctl asks Kubernetes, without which it does not work at all. */
function loadBalancerLine(allocations: Allocation[]): string {
  const count = allocations.filter((a) => a.unjudged).length;
  if (count === 0) return "No addresses of load balancers found, skipping service check";
  return `Found ${count} addresses of load balancers; they are not checked`;
}

function nodeLines(allocations: Allocation[]): string[] {
  const counts = [...Map.groupBy(allocations, (a) => a.node)].map(([node, own]) => [node, own.length] as const)
    .sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const head = `Looking for top (up to ${topNodes}) nodes by allocations...`;
  if (counts.length === 0) return [head];
  const median = counts[Math.floor(counts.length / 2)]![1];
  return [
    head,
    ...counts.slice(0, topNodes).map(([node, count]) => `  ${node} has ${count} allocations`),
    `Node with most allocations has ${counts[0]![1]}; median is ${median}`,
  ];
}

/** The report that `ipam release --from-report` takes, as JSON. @param version of the program that writes it. */
export function checkReport(check: Check, cluster: ClusterInformation, version: string): string {
  const sorted = check.allocations.toSorted((a, b) => compareIp(a.ip, b.ip));
  return writeJson({
    version,
    clusterGUID: cluster.spec.clusterGUID ?? "",
    datastoreLocked: cluster.spec.datastoreReady === false,
    clusterInformationRevision: cluster.metadata.resourceVersion,
    clusterType: cluster.spec.clusterType ?? "",
    allocations: Object.fromEntries(sorted.map((a) => [formatIp(a.ip), [entryOf(a)]])),
    leakedHandles: check.idleHandles.length > 0
      ? check.idleHandles.map(({ id, revision }) => ({ ID: id, UID: null, Revision: String(revision) }))
      : undefined,
  }, 2);
}

function entryOf(allocation: Allocation): Record<string, unknown> {
  const { ip, handle, sequenceNumber, attributes, node, borrowed, cooling, users, unjudged } = allocation;
  const given = (text: string | undefined) => text || undefined;
  return {
    ip: formatIp(ip),
    handle: given(handle),
    sequenceNumber,
    pod: given(attributes.pod),
    namespace: given(attributes.namespace),
    node: given(node),
    type: given(attributes.type),
    creationTimestamp: given(attributes.timestamp),
    inUse: users.length > 0 || unjudged !== undefined,
    borrowed: borrowed || undefined,
    coolingDown: cooling || undefined,
    owners: users.length > 0 ? users : unjudged ? [unjudged] : null,
  };
}

/** What a report says may be released: by address, the handle and sequence number that it must still have. */
export interface Releasable {
  addresses: Map<string, { handle: string | undefined; sequenceNumber: bigint }>;
  /** Revisions by handle. */
  handles: Map<string, string>;
}

/** What all reports say may be released. */
export function common(reports: readonly Releasable[]): Releasable {
  const [first, ...others] = reports as [Releasable, ...Releasable[]];
  const same = <V>(a: V | undefined, b: V) => JSON.stringify(a, asText) === JSON.stringify(b, asText);
  return {
    addresses: new Map([...first.addresses].filter(([ip, v]) => others.every((o) => same(o.addresses.get(ip), v)))),
    handles: new Map([...first.handles].filter(([id, v]) => others.every((o) => o.handles.get(id) === v))),
  };
}

const asText = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);

/** Addresses of a report in the order of addresses. */
export const inOrder = (addresses: Iterable<string>): string[] =>
  [...addresses].sort((a, b) => compareIp(parseIp(a), parseIp(b)));
