import { formatCidr, formatIp, type Ip } from "../lib/ip.ts";
import { attributeOf, handleOf, ordinalAt } from "../ipam/block.ts";
import { blockOf, type PoolUsage, type Usage } from "../ipam/usage.ts";
import type { View } from "../ipam/view.ts";

/** Pools with their blocks, for programs. Numbers of addresses are exact, however large. */
export const usageJson = (usages: readonly PoolUsage[]): unknown =>
  usages.map(({ pool, blocks }) => ({ ...(pool && counts(pool)), blocks: blocks.map(counts) }));

const counts = ({ cidr, ...numbers }: Usage) => ({ cidr: formatCidr(cidr), ...numbers });

/** Who has an address. */
export function addressJson(view: View, ip: Ip): unknown {
  const block = blockOf(view, ip);
  const attribute = block && attributeOf(block, ordinalAt(block, ip) ?? -1);
  if (!block || !attribute) return { ip: formatIp(ip), assigned: false };
  return {
    ...{ ip: formatIp(ip), assigned: true, block: formatCidr(block.cidr), affinity: block.affinity },
    ...{ handle: handleOf(attribute), attributes: attribute.secondary, alternateOwner: attribute.alternateOwnerAttrs },
    releasedAt: attribute.releasedAt,
  };
}
