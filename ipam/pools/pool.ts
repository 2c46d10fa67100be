import { bits, type Cidr, type Family, tryParseCidr } from "../../lib/ip.ts";
import { isObject, type Json, parseJson } from "../../lib/json64.ts";
import { messageOf, Problem } from "../../lib/problem.ts";
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
  /** assignmentMode Manual: only on request. */
  manual: boolean;
  nodeSelector: Selector;
  /** Undefined = every namespace. */
  namespaceSelector: Selector | undefined;
  key: string;
  revision: bigint;
}

/** Default prefix length of a block: 64 addresses. */
export const defaultBlockSize = (v: Family): number => (v === 4 ? 26 : 122);

/** Reads a stored IPPool. @throws Problem "undecodable" that names the field. */
export function decodePool(kv: KeyValue): Pool {
  const value = parse(kv);
  const metadata = objectAt(value.metadata);
  const spec = objectAt(value.spec);
  const name = textAt(metadata.name) ?? kv.key.slice(kv.key.lastIndexOf("/") + 1);
  const text = textAt(spec.cidr) ?? "";
  const cidr = tryParseCidr(text);
  if (!cidr) throw bad(kv, "spec.cidr");
  const blockSize = Number(spec.blockSize || defaultBlockSize(cidr.v));
  const blockBits = bits(cidr.v) - blockSize;
  if (!Number.isInteger(blockSize) || blockBits < 0 || blockBits > 12) throw bad(kv, "spec.blockSize");
  const uses = Array.isArray(spec.allowedUses) && spec.allowedUses.length ? spec.allowedUses : ["Workload", "Tunnel"];
  const namespaceSelector = textAt(spec.namespaceSelector);
  return {
    name,
    cidr,
    text,
    blockSize,
    enabled: spec.disabled !== true && !textAt(metadata.deletionTimestamp) && !isUnallocatable(value.status),
    uses: uses as Use[],
    manual: spec.assignmentMode === "Manual",
    nodeSelector: selectorAt(kv, "spec.nodeSelector", textAt(spec.nodeSelector) ?? ""),
    namespaceSelector: namespaceSelector ? selectorAt(kv, "spec.namespaceSelector", namespaceSelector) : undefined,
    ipipMode: textAt(spec.ipipMode),
    vxlanMode: textAt(spec.vxlanMode),
    key: kv.key,
    revision: kv.revision,
  };
}

function parse(kv: KeyValue): Record<string, Json> {
  try {
    const value = parseJson(kv.value);
    if (isObject(value)) return value;
  } catch (error) {
    throw new Problem({ code: "undecodable", what: `IP pool is not JSON: ${messageOf(error)}`, where: kv.key });
  }
  throw new Problem({ code: "undecodable", what: "IP pool is not a JSON object", where: kv.key });
}

function isUnallocatable(status: Json | undefined): boolean {
  const conditions = objectAt(status).conditions;
  return Array.isArray(conditions) &&
    conditions.some((c) => isObject(c) && c.type === "Allocatable" && c.status === "False");
}

function selectorAt(kv: KeyValue, field: string, text: string): Selector {
  try {
    return parseSelector(text);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw new Problem({ code: "undecodable", what: `IP pool has a bad ${field}: ${error.what}`, where: kv.key });
  }
}

const objectAt = (value: Json | undefined): Record<string, Json> => (isObject(value) ? value : {});
const textAt = (value: Json | undefined): string | undefined => (typeof value === "string" ? value : undefined);
const bad = (kv: KeyValue, field: string) =>
  new Problem({ code: "undecodable", what: `IP pool has a bad ${field}`, where: kv.key });
