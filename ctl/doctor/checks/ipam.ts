import { formatCidr, formatIp } from "../../../lib/ip.ts";
import type { BlockOwner } from "../../../datastore/ipam_keys.ts";
import { usageOf } from "../../../ipam/usage.ts";
import { leakReason } from "../../ipam_check.ts";
import { check } from "../check.ts";

/** Share of a pool from which it is nearly used up, in percent. */
const poolPercent = 95n;

/** Addresses: what is given, and who has it. */
export const ipamChecks = [
  check({
    id: "address-leaked",
    about: "every address that is given is used",
    looksAt: ["ipam"],
    fault: "{address} is given and nobody uses it: {reason}",
    cure:
      "`tortie ctl ipam gc` releases it after a while (`--dry-run` shows why), `tortie ctl ipam release --ip={address}` at once.",
    find: ({ ipam: { check, nodes } }) =>
      check.leaked.map((a) => ({ address: formatIp(a.ip), reason: leakReason(a, nodes) })),
  }),
  check({
    id: "address-unrecorded",
    about: "every address that is used is recorded",
    looksAt: ["ipam"],
    fault: "{address} is used by {users}, and IPAM has not given it: another pod may get it, too",
    cure: "Start that pod again, so that it gets a new address.",
    find: ({ ipam: { check } }) => check.notAllocated.map(([address, users]) => ({ address, users: users.join(", ") })),
  }),
  check({
    id: "address-twice",
    about: "no two endpoints have one address",
    looksAt: ["ipam"],
    fault: "{address} belongs to {users}",
    cure: "Start all but one of them again.",
    find: ({ ipam: { check } }) =>
      [...check.users].filter(([, users]) => users.length > 1).map(([address, users]) => ({
        ...{ address, users: users.join(" and ") },
      })),
  }),
  check({
    id: "handle-idle",
    about: "every handle has an address",
    looksAt: ["ipam"],
    fault: "handle {handle} names no address",
    cure: "`tortie ctl ipam gc` removes it.",
    find: ({ ipam: { check } }) => check.idleHandles.map(({ id }) => ({ handle: id })),
  }),
  check({
    id: "block-broken",
    about: "every block agrees with itself",
    looksAt: ["ipam"],
    fault: "block {block} contradicts itself: {why}",
    cure:
      "`tortie ctl ipam check` shows more. Stop what else writes blocks; delete the block when no pod has an address of it.",
    find: ({ ipam: { check } }) => check.brokenBlocks.map(([block, why]) => ({ block, why })),
  }),
  check({
    id: "block-of-gone-node",
    about: "every block belongs to a node that exists",
    looksAt: ["ipam"],
    fault: "block {block} belongs to node {node}, which does not exist",
    cure: "`tortie ctl ipam gc` frees it when its addresses are not used.",
    find: ({ ipam: { view, nodes } }) =>
      ([4, 6] as const).flatMap((v) => view.blocks(v)).flatMap(({ value: { cidr, affinity } }) => {
        const node = affinity?.startsWith("host:") ? affinity.slice("host:".length) : undefined;
        return node === undefined || nodes.has(node) ? [] : [{ block: formatCidr(cidr), node }];
      }),
  }),
  check({
    id: "affinity-differs",
    about: "blocks and nodes agree on who has them",
    looksAt: ["ipam"],
    fault: "node {node} claims block {block}, which belongs to {owner}",
    cure: "`tortie ctl ipam gc`, or delete that claim: `etcdctl del {key}`.",
    find: ({ ipam: { view, nodes } }) =>
      [...nodes].flatMap((node) => {
        const owner: BlockOwner = `host:${node}`;
        return ([4, 6] as const).flatMap((v) => view.affinities(owner, v)).flatMap(
          ({ key, value: { cidr, state } }) => {
            const has = view.block(cidr)?.value.affinity;
            if (state !== "confirmed" || has === owner) return [];
            return [{ node, block: formatCidr(cidr), owner: has?.replace("host:", "node ") ?? "nobody", key }];
          },
        );
      }),
  }),
  check({
    id: "pool-nearly-full",
    about: "every pool has addresses left",
    looksAt: ["ipam"],
    fault: "pool {pool} has {free} of {total} addresses left",
    cure: "Add a pool. `tortie ctl ipam show --show-blocks` shows who has them, `tortie ctl ipam check` what leaked.",
    find: ({ ipam: { view } }) =>
      usageOf(view, []).flatMap(({ pool }) =>
        pool && pool.inUse * 100n >= pool.total * poolPercent
          ? [{ pool: formatCidr(pool.cidr), free: String(pool.free), total: String(pool.total) }]
          : []
      ),
  }),
];
