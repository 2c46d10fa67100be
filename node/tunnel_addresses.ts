import { type Cidr, contains, formatIp, type Ip, tryParseCidr } from "../lib/ip.ts";
import { isObject, type Json, parseJson, writeJson } from "../lib/json64.ts";
import type { Logger } from "../lib/log.ts";
import { isProblem, Problem } from "../lib/problem.ts";
import { resourceKey } from "../datastore/keys.ts";
import type { Event, KeyValue, Store } from "../datastore/store.ts";
import { attributeOf, handleOf, isCooling, ordinalAt } from "../ipam/block.ts";
import type { Allocator } from "../ipam/commit.ts";
import { blockHolding } from "../ipam/pools/blocks.ts";
import { poolHolding } from "../ipam/pools/select.ts";
import type { Commit, Extra } from "../ipam/request.ts";
import { type Reader, type View, viewOf } from "../ipam/view.ts";
import {
  type Holder,
  nextStep,
  tunnelAddress,
  type TunnelKind,
  tunnelKinds,
  type TunnelStep,
  type TunnelView,
  withTunnelAddress,
} from "./tunnel_plan.ts";

/** What the tunnel addresses of a node are kept with. */
export interface TunnelParts {
  node: string;
  store: Store;
  allocator: Allocator;
  /** The newest picture at hand; read again after each step. */
  reader: () => Reader | Promise<Reader>;
  /** Told what was written, so that a reader over a mirror sees it at once. */
  learn?: (events: Event[]) => void;
  /** FELIX_WIREGUARDHOSTENCRYPTIONENABLED. */
  hostEncryption: boolean;
  log: Logger;
}

/** What became of the addresses. */
export interface TunnelResult {
  /** Steps taken, such as `assign ipipTunnelAddress`; empty when all was well. */
  done: string[];
  /** Kinds that could not be brought in order: no address left, the datastore away. The others are in order. */
  problems: Problem[];
}

/** More steps than a kind can need, unless somebody else keeps changing the Node. */
const maxSteps = 20;

/**
 * Gives this node the tunnel addresses that the pools ask for, and takes back those that they no longer ask for. Each
 * address changes in one transaction with the Node's field, so that neither can be there without the other. Idempotent.
 * Without a Node there is nothing to do.
 */
export async function ensureTunnelAddresses(parts: TunnelParts): Promise<TunnelResult> {
  const result: TunnelResult = { done: [], problems: [] };
  for (const kind of tunnelKinds) {
    try {
      await ensureKind(kind, parts, result.done);
    } catch (error) {
      if (!isProblem(error)) throw error;
      parts.log.warn("tunnel address is not in order", { type: kind.type, why: error.message });
      result.problems.push(error);
    }
  }
  return result;
}

async function ensureKind(kind: TunnelKind, parts: TunnelParts, done: string[]): Promise<void> {
  let retake: Ip | undefined;
  for (let n = 0; n < maxSteps; n++) {
    const stored = await readNode(parts);
    if (!stored) return;
    const step = nextStep(kind, stored.view, retake);
    if (!step) return;
    retake = step.do === "release address" && !step.clear ? step.ip : undefined;
    if (!await perform(kind, step, stored, parts)) continue;
    done.push(`${step.do} ${kind.type}`);
  }
  throw new Problem({
    code: "conflict",
    what: "somebody else keeps changing the tunnel address",
    where: `Node/${parts.node}`,
  });
}

/** The stored Node and what is known around it. */
interface StoredNode {
  kv: KeyValue;
  resource: Record<string, Json>;
  view: TunnelView;
}

async function readNode(parts: TunnelParts): Promise<StoredNode | undefined> {
  const reader = await parts.reader();
  const kv = reader.get(resourceKey("Node", parts.node));
  if (!kv) return undefined;
  const resource = parseJson(kv.value);
  if (!isObject(resource)) {
    throw new Problem({ code: "undecodable", what: "stored Node is not a JSON object", where: kv.key });
  }
  const ipam = viewOf(reader);
  const handles = tunnelKinds.map((kind) => kind.handle(parts.node));
  const view: TunnelView = {
    node: parts.node,
    resource,
    pools: ipam.pools(),
    hostEncryption: parts.hostEncryption,
    holder: (ip) => holderOf(ip, ipam, handles),
    handleExists: (handle) => ipam.handle(handle) !== undefined,
  };
  return { kv, resource, view };
}

/** Looks into the block of the address's pool; when the pool is gone, into the blocks that our handles name. */
function holderOf(ip: Ip, ipam: View, handles: string[]): Holder | undefined {
  const pool = poolHolding(ipam.pools(), { ...ip, len: ip.v === 4 ? 32 : 128 });
  const named = handles.flatMap((h) => [...ipam.handle(h)?.value.counts.keys() ?? []]).map((text) =>
    tryParseCidr(text)
  );
  const blocks = [pool && blockHolding(ip, pool.blockSize), ...named];
  const cidr = blocks.find((c): c is Cidr => c !== undefined && contains(c, ip) && ipam.block(c) !== undefined);
  const block = cidr && ipam.block(cidr)?.value;
  const ordinal = block && ordinalAt(block, ip);
  const attribute = ordinal === undefined ? undefined : attributeOf(block!, ordinal);
  if (!attribute || isCooling(attribute)) return undefined;
  return { handle: handleOf(attribute), attributes: isObject(attribute.secondary) ? attribute.secondary : {} };
}

/** Makes one step; false when the Node or the address changed meanwhile, so that all must be looked at again. */
async function perform(kind: TunnelKind, step: TunnelStep, stored: StoredNode, parts: TunnelParts): Promise<boolean> {
  const handle = kind.handle(parts.node);
  const nodeWith = (address: string): Extra => ({
    compare: [{ key: stored.kv.key, revision: stored.kv.revision }],
    write: [{ put: stored.kv.key, value: writeJson(withTunnelAddress(kind, stored.resource, address)) }],
  });
  switch (step.do) {
    case "assign":
    case "take": {
      const [outcome] = await parts.allocator.assign([{
        handle,
        attributes: { node: parts.node, type: kind.type },
        node: parts.node,
        use: "Tunnel",
        ...(step.do === "take"
          ? { address: [step.ip] }
          : { families: { [kind.family]: 1 }, pools: { [kind.family]: step.pools } }),
        with: ([given]) => nodeWith(given ? formatIp(given.ip) : tunnelAddress(kind, stored.resource)),
      }]);
      return settle(outcome!, parts, step.do === "take");
    }
    case "clear":
      return await writeNode(nodeWith(""), stored.kv, parts);
    default: {
      const what = step.do === "release handle" ? { handle } : { addresses: [{ ip: step.ip, handle: step.handle }] };
      const [outcome] = await parts.allocator.release([{ ...what, ...(step.clear && { with: () => nodeWith("") }) }]);
      return settle(outcome!, parts, false);
    }
  }
}

/** @param mayLose another may have been quicker; that is no problem. */
function settle(outcome: { problem?: Problem; commit?: Commit }, parts: TunnelParts, mayLose: boolean): boolean {
  if (outcome.commit) parts.learn?.(outcome.commit.events);
  if (!outcome.problem) return true;
  if (outcome.problem.code === "conflict" || (mayLose && outcome.problem.code === "exists")) return false;
  throw outcome.problem;
}

async function writeNode(extra: Extra, before: KeyValue, parts: TunnelParts): Promise<boolean> {
  const result = await parts.store.txn(extra);
  if (!result.committed) return false;
  for (const write of extra.write) {
    if (!("put" in write)) continue;
    parts.learn?.([{ key: write.put, value: write.value, revision: result.revision, created: before.created }]);
  }
  return true;
}
