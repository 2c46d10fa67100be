import { bits, type Cidr, formatCidr, ipAt, size } from "../lib/ip.ts";
import { rfc3339 } from "../lib/clock.ts";
import { encodeResource } from "../datastore/codec.ts";
import type { IPPool } from "../datastore/kinds/ip_pool.ts";
import { kindByName } from "../datastore/kinds/index.ts";
import { resourceKey } from "../datastore/keys.ts";
import { updateConflict } from "../datastore/problems.ts";
import type { Resources } from "../datastore/resources.ts";
import { prepare, validate } from "../datastore/validation.ts";
import { badInput } from "./command.ts";
import type { Surroundings } from "./surroundings.ts";

/** Most parts: they are written in one transaction with the deletion of the whole. */
const maxParts = 64;

/** A network in `count` equal parts. @throws Problem "bad-input" when the text is no power of 2, or the parts are too small. */
export function splitCidr(cidr: Cidr, count: string, blockSize: number): Cidr[] {
  const what = `error splitting the CIDR ${formatCidr(cidr)} into ${count} CIDRs:`;
  const parts = /^\d+$/.test(count) ? Number(count) : 0;
  const steps = Math.log2(parts);
  if (parts < 2 || !Number.isInteger(steps)) {
    throw badInput(`${what} number to split CIDR into is not a valid power of 2: ${count}`);
  }
  if (parts > maxParts) throw badInput(`${what} at most ${maxParts} at once`);
  const len = cidr.len + steps;
  if (len > Math.min(bits(cidr.v), blockSize)) throw badInput(`${what} a part would be smaller than a block`);
  const step = size({ ...cidr, len });
  return Array.from({ length: parts }, (_, i) => ({ ...ipAt(cidr, step * BigInt(i)), len }));
}

/**
 * Replaces a pool by pools of the same settings, in one transaction: at no moment has an address no pool, or two.
 * DIFFERS: Calico disables the pool before it looks at the number, and writes one pool after the other.
 * @returns the names of the new pools.
 * @throws Problem "conflict" when the pool was changed meanwhile, or a name is taken.
 */
export async function splitPool(
  { store }: Resources,
  { clock, uuid }: Surroundings,
  pool: IPPool,
  parts: Cidr[],
): Promise<string[]> {
  const kind = kindByName("IPPool");
  const { name } = pool.metadata;
  const now = rfc3339(clock.now());
  const children = parts.map((cidr, i) => {
    const metadata = { name: `split-${name}-${i}`, uid: uuid(), creationTimestamp: now };
    const { disabled: _, ...spec } = pool.spec;
    const child: IPPool = {
      kind: "IPPool",
      apiVersion: pool.apiVersion,
      metadata,
      spec: { ...spec, cidr: formatCidr(cidr) },
    };
    prepare(kind, child);
    validate(kind, child);
    return child;
  });
  const keys = children.map((child) => resourceKey("IPPool", child.metadata.name));
  const old = resourceKey("IPPool", name);
  const result = await store.txn({
    compare: [
      { key: old, revision: BigInt(pool.metadata.resourceVersion!) },
      ...keys.map((key) => ({ key, revision: 0n })),
    ],
    write: [{ delete: old }, ...children.map((child, i) => ({ put: keys[i]!, value: encodeResource(child) }))],
  });
  if (!result.committed) throw updateConflict(`IPPool(${name})`);
  return children.map((child) => child.metadata.name);
}
