import { type Family, tryParseCidrOrIp } from "../lib/ip.ts";
import { listAddresses } from "../kernel/rtnetlink/address.ts";
import { type Change, changes } from "../kernel/rtnetlink/changes.ts";
import { getLink, type Link, listLinks } from "../kernel/rtnetlink/link.ts";
import { RtSocket } from "../kernel/rtnetlink/socket.ts";
import { kernelFeatures } from "../kernel/features.ts";
import { watchLegacy } from "../kernel/netfilter/legacy_watch.ts";
import { loggedPackets } from "../kernel/netfilter/nflog.ts";
import { watchNft } from "../kernel/netfilter/nft_watch.ts";
import { felixTables, heldTables, sweepNftTables, sweepTable, tableText } from "../kernel/netfilter/sweep.ts";
import type { Tools } from "../kernel/netfilter/iptables.ts";
import { detectVariant, findTools, loadLegacyTables } from "../kernel/netfilter/variant.ts";
import { decodeResource, isUndecodable } from "../datastore/codec.ts";
import { kindPrefix, resourceKey } from "../datastore/keys.ts";
import { FelixSources } from "../agent/felix_sources.ts";
import { DeniedFlows } from "../agent/dataplane/denied_flows.ts";
import { Drops } from "../agent/drops/drops.ts";
import type { NodeCounts } from "../agent/netfilter/decision_counts.ts";
import { dropGroup } from "../agent/netfilter/drop_logs.ts";
import { Filter, type FilterStatus, guardTable, tableNames } from "../agent/dataplane/filter.ts";
import { ownPrefixes } from "../agent/netfilter/names.ts";
import { filterParameters } from "../agent/netfilter/settings.ts";
import { type Policy, type PolicyOptions, runPolicy } from "../agent/policy.ts";
import type { Variant } from "../kernel/netfilter/chain.ts";
import type { Logger } from "../lib/log.ts";
import { messageOf } from "../lib/problem.ts";
import type { Shared } from "./parts.ts";

/** Policy in force, or on its way there. */
export interface PolicyPart {
  /** Ends with the signal. */
  done: Promise<void>;
  /** Resolves when chains and sets are in the kernel for the first time: nothing is raised or routed before. */
  ready: Promise<void>;
  /** What is in force; undefined before the start. */
  status(): FilterStatus | undefined;
  /** See Policy.enforced(); waits for the start, too. */
  enforced(endpointKey: string, deadlineMs?: number): Promise<void>;
  /** See Filter.lacking(). */
  lacking(interfaceName: string): string | undefined;
  /** See Filter.changes(); waits for the start, too. */
  changes(signal: AbortSignal): AsyncGenerator<void>;
  /** See Policy.counts(); waits for the start, too. */
  counts(): Promise<NodeCounts>;
  /** What is dropped; waits for the start, too. */
  drops(): Promise<Drops>;
}

/**
 * Starts policy as soon as the datastore is known: which iptables to use may be said there. Without the programs this
 * process ends and says what to install: a host that cannot filter must not carry pods.
 */
export function startPolicy(
  shared: Shared,
  cleanup: AsyncDisposableStack,
): PolicyPart {
  const { mirror, signal } = shared;
  const first = Promise.withResolvers<void>();
  first.promise.catch(() => {});
  // Who waits for rules that will never come must not hold up the end.
  signal.addEventListener("abort", () => first.reject(signal.reason), { once: true });
  let running: Filter | undefined;
  const started = mirror.ready(signal).then(async () => {
    const filter = cleanup.use(await openFilter(shared, cleanup));
    running = filter;
    filter.ready.then(first.resolve);
    const policy = runPolicy({
      ...shared,
      filter,
      env: (name) => shared.settings.get(name),
      ...hostInterfaces(cleanup.use(RtSocket.open()), signal),
      flows: cleanup.use(new DeniedFlows({ ...shared, filter, log: shared.log.child("flows") })),
      log: shared.log.child("policy"),
    });
    return { policy, drops: cleanup.use(watchedDrops(shared, policy, cleanup.use(RtSocket.open()))) };
  });
  const done = started.then(({ policy }) => policy.done, (error) => {
    first.reject(error);
    if (!signal.aborted) throw error;
  });
  // When another part cannot start, nobody takes `done`, and that part's error is the one to show.
  done.catch(() => {});
  return {
    done,
    ready: first.promise,
    status: () => running?.status(),
    enforced: (key, deadlineMs) => enforced(shared, started, key, deadlineMs),
    lacking: (name) => (running ? running.lacking(name) : "policy is not in force yet"),
    async *changes(signal) {
      await first.promise;
      yield* running!.changes(signal);
    },
    counts: async () => await (await started).policy.counts(),
    drops: async () => (await started).drops,
  };
}

const watchedDrops = ({ node, clock, log }: Shared, policy: Policy, socket: RtSocket): Drops =>
  new Drops({
    ...{ node, clock, policy, log: log.child("drops") },
    packets: (signal) => loggedPackets(signal, { group: dropGroup }),
    interfaceName: (index) => getLink(socket, index)?.name,
  });

async function enforced(
  { mirror }: Shared,
  started: Promise<{ policy: Policy }>,
  key: string,
  deadlineMs: number | undefined,
): Promise<void> {
  const { policy } = await started;
  const kv = mirror.get(key);
  const endpoint = kv && decodeResource(kv);
  // Who waits for an endpoint that has gone is told so by the dataplane, which waits beside us.
  if (!endpoint || isUndecodable(endpoint) || typeof endpoint.spec.interfaceName !== "string") return;
  const { interfaceName, ipNetworks } = endpoint.spec;
  const nets = Array.isArray(ipNetworks) ? ipNetworks.map((n) => tryParseCidrOrIp(String(n))) : [];
  const families = [...new Set(nets.flatMap((n) => n?.v ?? []))];
  await policy.enforced({ key, revision: kv.revision, interfaceName, families }, deadlineMs);
}

async function openFilter(shared: Shared, cleanup: AsyncDisposableStack): Promise<Filter> {
  const { clock, health, metrics, log } = shared;
  const { backend, ipv6, flushGuard } = parametersNow(shared);
  const variant = backend === "auto" ? await detectVariant() : backend;
  const tools = ipv6 && kernelFeatures().ipv6
    ? { 4: await findTools(variant, 4), 6: await findTools(variant, 6) }
    : { 4: await findTools(variant, 4) };
  const tables = flushGuard ? [...tableNames, guardTable] : tableNames;
  if (variant === "legacy") {
    const load = ([family, of]: [string, Tools]) => loadLegacyTables(of, Number(family) as Family, tables);
    await Promise.all(Object.entries(tools).map(load));
  }
  log.info("iptables is used", { variant, families: Object.keys(tools).join(" ") });
  const watch = cleanup.use(variant === "nft" ? watchNft({ ownPrefixes }) : watchLegacy({ clock }));
  const parts = { tools, tables, watch, clock, health, metrics };
  const filter = Filter.start({ ...parts, random: Math.random, log: log.child("filter") });
  void filter.ready.then(() => sweepOthers(variant, flushGuard, log));
  return filter;
}

/**
 * Once our rules are in force, those that a Felix left in another place go: else they would be enforced for ever, and
 * nobody would change them. So does a guard of an earlier process, where it is switched off.
 */
async function sweepOthers(variant: Variant, flushGuard: boolean, log: Logger): Promise<void> {
  try {
    const other = variant === "nft" ? "legacy" : "nft";
    const guards = flushGuard ? [] : await heldTables(variant, ownPrefixes, guardTable);
    const held = [...await heldTables(other, ownPrefixes), ...guards];
    const removed = [...await sweepNftTables(felixTables), ...held.map(tableText)];
    for (const table of held) await sweepTable(table, ownPrefixes);
    if (removed.length > 0) log.info("rules of another dataplane are removed", { removed: removed.join(", ") });
  } catch (error) {
    log.warn("rules of another dataplane cannot be removed", { why: messageOf(error) });
  }
}

function parametersNow({ mirror, node, settings }: Shared) {
  const felix = new FelixSources(node, (name) => settings.get(name));
  const ownNode = mirror.get(resourceKey("Node", node));
  felix.update({ set: [...mirror.list(kindPrefix("FelixConfiguration")), ...ownNode ? [ownNode] : []], deleted: [] });
  return filterParameters(felix.sources()).settings;
}

/**
 * This host's own interfaces, and when they change. Workloads' host sides have no address and are left out: pods come and
 * go without a look at the host.
 */
function hostInterfaces(socket: RtSocket, signal: AbortSignal): Pick<PolicyOptions, "kernel" | "kernelChanges"> {
  const { ipv6 } = kernelFeatures();
  let isWorkload = (_name: string): boolean => false;
  /** Indexes of workloads' interfaces, and of all others. */
  const workloads = new Set<number>(), own = new Set<number>();
  const note = ({ name, index }: Pick<Link, "name" | "index">) => {
    const [to, from] = isWorkload(name) ? [workloads, own] : [own, workloads];
    to.add(index);
    return from.delete(index) || to === own;
  };
  const noteRemoved = (link: Link) => {
    const news = note(link);
    for (const set of [workloads, own]) set.delete(link.index);
    return news;
  };
  const matters = (change: Change): boolean => {
    if (change.what === "address") return !workloads.has(change.address.index);
    if (change.what !== "link") return true;
    return change.removed ? noteRemoved(change.link) : note(change.link);
  };
  return {
    kernel(prefixes) {
      isWorkload = (name) => prefixes.some((p) => name.startsWith(p));
      const links = [...listLinks(socket).values()];
      for (const set of [workloads, own]) set.clear();
      links.forEach(note);
      const addresses = Map.groupBy(listAddresses(socket), (a) => a.index);
      const hosts = links.filter(({ name }) => !isWorkload(name)).sort((a, b) => a.index - b.index);
      const ips = (index: number) => (addresses.get(index) ?? []).map((a) => a.ip);
      return { ipv6, interfaces: hosts.map(({ name, index }) => ({ name, addresses: ips(index) })) };
    },
    kernelChanges: filterBatches(changes(signal, { of: ["link", "address"] }), matters),
  };
}

/** Those batches in which something matters; the others are looked at, too. */
async function* filterBatches<T>(batches: AsyncIterable<T[]>, matters: (one: T) => boolean): AsyncGenerator<T[]> {
  for await (const batch of batches) if (batch.filter(matters).length > 0) yield batch;
}
