import { blockPrefix } from "../datastore/ipam_keys.ts";
import { kindPrefix, resourceKey } from "../datastore/keys.ts";
import type { Changes } from "../datastore/mirror.ts";
import type { Allocator } from "../ipam/commit.ts";
import { type Shared, untilDone } from "./parts.ts";
import { ensureTunnelAddresses } from "./tunnel_addresses.ts";

/**
 * Keeps this node's tunnel addresses as the pools ask for, whenever a pool or this Node changes, or the cluster becomes
 * ready; while one is missing also when a block changes: its last address may have become free. Runs until the signal.
 * Source: Calico's node/pkg/allocateip.
 */
export async function keepTunnelAddresses(shared: Shared, allocator: Allocator): Promise<void> {
  const { node, store, mirror, settings, signal } = shared;
  const log = shared.log.child("tunnels");
  const ours = resourceKey("Node", node), pools = kindPrefix("IPPool");
  const cluster = resourceKey("ClusterInformation", "default");
  let lacking = false;
  const concernsUs = (key: string) =>
    key === ours || key.startsWith(pools) || key === cluster || (lacking && key.startsWith(blockPrefix));
  const touches = ({ set, deleted }: Changes) => set.some(({ key }) => concernsUs(key)) || deleted.some(concernsUs);
  for await (const changes of mirror.changes(signal)) {
    if (!changes.resync && !touches(changes)) continue;
    const result = await untilDone({ ...shared, log }, "tunnel addresses wait for etcd", async () => {
      const result = await ensureTunnelAddresses({
        ...{ node, store, allocator, log },
        reader: () => mirror,
        learn: (events) => mirror.learn(events),
        hostEncryption: settings.get("FELIX_WIREGUARDHOSTENCRYPTIONENABLED")?.toLowerCase() === "true",
      });
      const away = result.problems.find((p) => p.code === "unavailable");
      if (away) throw away;
      return result;
    });
    if (!result) return;
    const { done, problems } = result;
    lacking = problems.length > 0;
    if (done.length > 0) log.info("tunnel addresses changed", { steps: done.join(", ") });
  }
}
