import { bits, type Cidr, tryParseCidr } from "../../lib/ip.ts";
import { Problem } from "../../lib/problem.ts";
import { decodeResource, isUndecodable } from "../../datastore/codec.ts";
import { type IPPool, ipPool } from "../../datastore/kinds/ip_pool.ts";
import type { KeyValue } from "../../datastore/store.ts";
import { parseSelector, type Selector } from "../../datastore/selector/index.ts";
import type { Use } from "../request.ts";
import type { PoolEncapsulation } from "./encapsulation.ts";

/** An IP pool as address management sees it, defaults filled in as Calico does when it reads one. */
export interface Pool extends PoolEncapsulation {
  name: string;
  cidr: Cidr;
  /** The CIDR as stored, for messages. */
  text: string;
  /** Prefix length of its blocks. */
  blockSize: number;
  /** False when disabled, being deleted, or with status condition Allocatable = False: nothing new is given. */
  enabled: boolean;
  uses: Use[];
  /** Packets that leave all pools get the host's address. */
  natOutgoing: boolean;
  /** assignmentMode Manual: only on request. */
  manual: boolean;
  nodeSelector: Selector;
  /** Undefined = every namespace. */
  namespaceSelector: Selector | undefined;
  key: string;
  revision: bigint;
}

/**
 * Reads a stored IPPool. DIFFERS: one that cannot be read counts as absent and is named in refusals; in Calico a bad selector
 * or CIDR fails every assignment.
 * @throws Problem "undecodable" that names the field.
 */
export function decodePool(kv: KeyValue): Pool {
  const read = decodeResource(kv);
  if (!read || isUndecodable(read)) throw bad(kv, read?.why ?? "not a pool");
  const pool = read as IPPool;
  ipPool.onRead(pool, "get");
  const { spec, metadata } = pool;
  const cidr = tryParseCidr(spec.cidr);
  if (!cidr) throw bad(kv, `spec.cidr: "${spec.cidr}" is not a CIDR`);
  const blockSize = spec.blockSize!;
  const blockBits = bits(cidr.v) - blockSize;
  if (blockBits < 0 || blockBits > 12) throw bad(kv, `spec.blockSize: ${blockSize} is out of range`);
  const conditions = pool.status?.conditions ?? [];
  const isUnallocatable = conditions.some((c) => c.type === "Allocatable" && c.status === "False");
  return {
    name: metadata.name,
    cidr,
    text: spec.cidr,
    blockSize,
    enabled: spec.disabled !== true && !metadata.deletionTimestamp && !isUnallocatable && cidr.len <= blockSize,
    uses: spec.allowedUses as Use[],
    natOutgoing: spec.natOutgoing === true,
    manual: spec.assignmentMode === "Manual",
    nodeSelector: selectorAt(kv, "spec.nodeSelector", spec.nodeSelector!),
    namespaceSelector: spec.namespaceSelector
      ? selectorAt(kv, "spec.namespaceSelector", spec.namespaceSelector)
      : undefined,
    ipipMode: spec.ipipMode,
    vxlanMode: spec.vxlanMode,
    key: kv.key,
    revision: kv.revision,
  };
}

function selectorAt(kv: KeyValue, field: string, text: string): Selector {
  try {
    return parseSelector(text);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw bad(kv, `${field}: ${error.what}`);
  }
}

const bad = (kv: KeyValue, why: string) =>
  new Problem({ code: "undecodable", what: `IP pool cannot be read: ${why}`, where: kv.key });
