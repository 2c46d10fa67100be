import { Backoff } from "../lib/backoff.ts";
import { readIfThere, writeDurably } from "../lib/durable_file.ts";
import { isProblem, messageOf } from "../lib/problem.ts";
import type { Node } from "../datastore/kinds/node.ts";
import type { Store } from "../datastore/store.ts";
import { clusterDefaults, newResource, randomGuid } from "../datastore/cluster.ts";
import { defaultPools } from "./default_pools.ts";
import { type Wanted, Writer, type WriterParts } from "./ensure.ts";
import { ensureOwnNode, type KubernetesFacts, nodeWishes, type OwnNodeParts } from "./own_node.ts";

/** What start-up works with. */
export interface StartUpParts extends OwnNodeParts, WriterParts {
  store: Store;
  /** The kernel has IPv6. */
  kernelHasIpv6: boolean;
  /** Folders that other programs of Calico's expect; made with mode 0755. */
  folders?: string[];
}

/** What start-up did. Both lists name objects as `Kind/name`, in the order of writing; empty when all was there. */
export interface StartUpResult {
  /** Undefined with backend none, when nothing asked for a Node. */
  node: Node | undefined;
  created: string[];
  updated: string[];
}

/**
 * Brings the datastore into the state in which this node can work: this Node, tiers, default pools, configuration
 * defaults, ClusterInformation. Idempotent; may be killed at any step and run by many nodes at once.
 * Source: Calico's node/pkg/lifecycle/startup.
 * @throws Problem "bad-input" for a setting, "conflict" when another node has our address, "unavailable", "unauthorized".
 */
export async function startUp(parts: StartUpParts): Promise<StartUpResult> {
  const { settings, log } = parts;
  for (const { name, where, why } of settings.reports) log.warn("setting is not used", { name, where, why });
  const wishes = nodeWishes(settings);
  await waitForDatastore(parts);
  const writer = new Writer(parts);
  const cluster = await kubernetesCluster(parts.kubernetes);
  const pools = await plannedPools(parts, cluster.kubeadmConfig);
  const node = await ensureOwnNode(parts, writer, wishes);
  const defaults = clusterDefaults({
    node: parts.node,
    clusterType: [settings.get("CLUSTER_TYPE") ?? "", ...cluster.words].filter((w) => w !== "").join(","),
    guid: () => randomGuid(parts.random),
  });
  for (const one of defaults.filter((d) => d.kind === "Tier")) await writer.ensure(one);
  for (const pool of pools) await writer.ensure(pool);
  for (const one of defaults.filter((d) => d.kind !== "Tier")) await writer.ensure(one);
  await recordOnDisk(parts);
  return { node, created: writer.created, updated: writer.updated };
}

/** Without WAIT_FOR_DATASTORE=true a datastore that does not answer is an error at once. */
async function waitForDatastore(parts: StartUpParts): Promise<void> {
  const backoff = new Backoff({ firstMs: 500, maxMs: 2000, random: parts.random, clock: parts.clock });
  for (;;) {
    try {
      await parts.store.get("/calico/resources/v3/projectcalico.org/clusterinformations/default");
      return;
    } catch (error) {
      if (parts.settings.get("WAIT_FOR_DATASTORE") !== "true" || !isProblem(error, "unavailable")) throw error;
      parts.log.warn("waiting for the datastore", { why: messageOf(error) });
      await backoff.wait(parts.signal);
    }
  }
}

/** What the Kubernetes API says of the cluster that it belongs to. */
async function kubernetesCluster(kubernetes: KubernetesFacts | undefined) {
  if (!kubernetes) return { words: [], kubeadmConfig: undefined };
  const kubeadmConfig = await kubernetes.configMap("kubeadm-config");
  const rancher = await kubernetes.configMap("full-cluster-state");
  return { words: [...(kubeadmConfig ? ["kubeadm"] : []), ...(rancher ? ["rancher"] : [])], kubeadmConfig };
}

/** Planned before anything is written, so that a setting that is not understood leaves nothing half made. */
async function plannedPools(parts: StartUpParts, kubeadmConfig: string[] | undefined): Promise<Wanted[]> {
  const { items, undecodable } = await parts.resources.list("IPPool");
  const existing = items.map((pool) => String(pool.spec.cidr ?? ""));
  const pools = defaultPools({
    setting: (name) => parts.settings.get(name),
    existing,
    hostAddresses: parts.interfaces.flatMap((one) => one.addresses.map((a) => a.ip)),
    kernelHasIpv6: parts.kernelHasIpv6,
    kubeadmConfig,
    random: parts.random,
  });
  if (undecodable.length > 0) {
    const keys = undecodable.map((pool) => pool.key);
    parts.log.warn("no default pools, for a stored pool cannot be read and could hold the same addresses", { keys });
    return [];
  }
  return pools.map(({ name, spec }) => ({
    kind: "IPPool",
    name,
    wanted: (there) => (there ? undefined : newResource("IPPool", name, { ...spec })),
  }));
}

async function recordOnDisk(parts: StartUpParts): Promise<void> {
  for (const folder of parts.folders ?? []) await Deno.mkdir(folder, { recursive: true, mode: 0o755 });
  if (parts.nodenameFile === undefined) return;
  const before = (await readIfThere(parts.nodenameFile))?.trim();
  if (before && before !== parts.node) parts.log.warn("node has a new name", { before, now: parts.node });
  await Deno.mkdir(parts.nodenameFile.replace(/\/[^/]*$/, "") || "/", { recursive: true, mode: 0o755 });
  await writeDurably(parts.nodenameFile, parts.node);
}
