import { type Cidr, type Family, formatCidr, formatIp, type Ip, ipAt, tryParseCidr } from "../lib/ip.ts";
import { isObject } from "../lib/json64.ts";
import { blockKey, type BlockOwner, handleKey, ownerOf } from "../datastore/keys.ts";
import {
  attributeOf,
  type Block,
  collectCooled,
  type Cooling,
  handleOf,
  isCooling,
  isEmpty,
  isHostReserved,
  ordinalsOf,
} from "./block.ts";
import { type Draft, isAbandoned } from "./draft.ts";
import { newHandle } from "./handle.ts";
import type { Affinity, Stored, View } from "./view.ts";

/** What is known of this node when the collector looks. All of one moment, not older than the view. */
export interface LocalTruth {
  node: string;
  /** Handles of attachments that the runtime or our own records still know (`<network>.<containerID>`). */
  validHandles: ReadonlySet<string>;
  /** Addresses of workload endpoints of this node in etcd, as `formatIp()` writes them. */
  endpointAddresses: ReadonlySet<string>;
  /** Addresses with a route to, or on, an interface of a workload of this node. */
  interfaceAddresses: ReadonlySet<string>;
  /** True when `validHandles` lacks nothing: the runtime or our records listed all attachments. False: no address is judged. */
  complete: boolean;
}

/** An address that nobody uses, and why we think so. */
export interface Leak {
  ip: Ip;
  block: Cidr;
  handle: string;
  sequenceNumber: bigint;
  reason: string;
}

/** Since when something has looked unused, and in which state it was seen; another state begins anew. */
export interface Suspect {
  sinceMs: number;
  state: string;
}

/** By what is suspected: `address <ip>`, `handle <id>`, `block <cidr>`, `affinity <cidr>`. */
export type Suspects = ReadonlyMap<string, Suspect>;

/** What a look came to. */
export interface Collection {
  /** To release: unused for the whole grace period, all addresses of their handle alike. */
  leaks: Leak[];
  /** Handles whose blocks hold nothing of them. */
  handles: string[];
  /** Own blocks that are empty, while the node has another one; claims without a block, or on another's block. */
  spare: Cidr[];
  /** Blocks that nobody owns and nothing is left of. */
  abandoned: Cidr[];
  /** Own blocks with addresses whose cooldown is over. */
  cooled: Cidr[];
  /** For the next look. */
  suspects: Suspects;
}

/**
 * Looks for what this node has left behind in etcd: pure, decides by `truth` alone, releases nothing itself.
 * Tunnel addresses, load balancers' and those without handle are never judged: somebody else knows about them.
 * @param before the suspects of the last look; empty after a start.
 * @param graceMs how long something must look unused: longer than an ADD lasts, as its address comes before its interface.
 */
export function collect(
  view: View,
  truth: LocalTruth,
  before: Suspects,
  time: { nowMs: number; graceMs: number },
): Collection {
  const cooling: Cooling = { nowMs: time.nowMs, cooldownS: view.config().cooldownS };
  const blocks = ([4, 6] as Family[]).flatMap((v) => view.blocks(v)).map((b) => b.value);
  const found = [
    ...(truth.complete ? blocks.flatMap((b) => unusedIn(b, truth)) : []),
    ...staleHandles(view, truth.node),
    ...spareBlocks(view, truth.node, cooling),
    ...blocks.filter((b) => isAbandoned(collectCooled(b, cooling))).map((b) => seen("abandoned", b.cidr, b)),
  ];
  const suspects = new Map(found.map((f) => [f.name, since(f, before, time.nowMs)]));
  const isDue = (f: Found) => time.nowMs - suspects.get(f.name)!.sinceMs >= time.graceMs;
  const due = found.filter(isDue);
  const pending = new Set(found.filter((f) => !isDue(f)).flatMap((f) => f.leak?.handle ?? []));
  return {
    leaks: wholeHandles(due.flatMap((f) => f.leak ?? []), blocks, pending),
    handles: due.flatMap((f) => f.handle ?? []),
    spare: due.filter((f) => f.kind === "spare").map((f) => f.cidr!),
    abandoned: due.filter((f) => f.kind === "abandoned").map((f) => f.cidr!),
    cooled: blocks.filter((b) => b.affinity === `host:${truth.node}` && isOver(b, cooling)).map((b) => b.cidr),
    suspects,
  };
}

/** Deletes a handle, if its blocks still hold nothing of it. */
export function forgetHandle(draft: Draft, id: string): boolean {
  const handle = draft.handle(id);
  draft.relyOn(handleKey(id));
  if (!handle) return false;
  for (const text of handle.counts.keys()) {
    const cidr = tryParseCidr(text);
    if (cidr) draft.relyOn(blockKey(cidr));
    const block = cidr && draft.block(cidr);
    if (cidr && (block ? ordinalsOf(block, id).length > 0 : draft.blockExists(cidr))) return false;
  }
  draft.setHandle(id, { ...newHandle, stored: handle.stored });
  return true;
}

/** Deletes a block that nobody owns, if nothing is left of it. */
export function dropAbandoned(draft: Draft, cidr: Cidr): boolean {
  const block = draft.block(cidr);
  if (!block || !isAbandoned(block)) return false;
  draft.setBlock(cidr, undefined);
  return true;
}

/** Writes a block whose addresses have cooled down, so that others see them free. */
export function freeCooled(draft: Draft, cidr: Cidr): boolean {
  const stored = draft.view.block(cidr)?.value;
  const block = draft.block(cidr);
  if (!stored || !block || block === stored) return false;
  draft.setBlock(cidr, block);
  return true;
}

interface Found {
  kind: "leak" | "handle" | "spare" | "abandoned";
  name: string;
  state: string;
  leak?: Leak;
  handle?: string;
  cidr?: Cidr;
}

function unusedIn(block: Block, truth: LocalTruth): Found[] {
  return block.allocations.flatMap((_, ordinal): Found[] => {
    const attribute = attributeOf(block, ordinal);
    const handle = handleOf(attribute);
    const owner = isObject(attribute?.secondary) ? attribute.secondary : {};
    const isJudged = handle !== undefined && owner.node === truth.node && owner.type === undefined;
    if (!isJudged || isCooling(attribute) || isHostReserved(attribute)) return [];
    const ip = ipAt(block.cidr, ordinal);
    const text = formatIp(ip);
    if (truth.validHandles.has(handle) || truth.endpointAddresses.has(text) || truth.interfaceAddresses.has(text)) {
      return [];
    }
    const sequenceNumber = block.sequenceOf.get(ordinal) ?? 0n;
    const pod = owner.pod === undefined ? "" : ` (pod ${owner.namespace}/${owner.pod})`;
    const reason = `no attachment, endpoint or interface of ${truth.node} has it${pod}`;
    const leak = { ip, block: block.cidr, handle, sequenceNumber, reason };
    return [{ kind: "leak", name: `address ${text}`, state: `${handle} ${sequenceNumber}`, leak }];
  });
}

/**
 * Leaks of handles of which every address is a leak that is due: a handle is released whole or not at all.
 * @param pending handles of which some address looks unused, but not for long enough.
 */
export function wholeHandles<L extends Leak>(leaks: L[], blocks: Block[], pending: Set<string>): L[] {
  const due = new Set(leaks.map((l) => formatIp(l.ip)));
  const handles = new Set(leaks.map((l) => l.handle)), held = new Set(pending);
  for (const block of blocks) {
    for (const ordinal of block.allocations.keys()) {
      const handle = handleOf(attributeOf(block, ordinal));
      if (handle === undefined || !handles.has(handle) || held.has(handle)) continue;
      if (!due.has(formatIp(ipAt(block.cidr, ordinal)))) held.add(handle);
    }
  }
  return leaks.filter((l) => !held.has(l.handle));
}

/** Handles that name only blocks of this node, or blocks that are gone, and hold nothing in them. */
function staleHandles(view: View, node: string): Found[] {
  return view.handles().flatMap(({ id, value, revision }): Found[] => {
    const cidrs = [...value.counts.keys()].map((text) => tryParseCidr(text));
    const isStale = cidrs.every((cidr) => {
      if (!cidr) return true;
      const block = view.block(cidr)?.value;
      if (!block) return view.revisionOf(blockKey(cidr)) === 0n;
      return block.affinity === `host:${node}` && ordinalsOf(block, id).length === 0;
    });
    return isStale ? [{ kind: "handle", name: `handle ${id}`, state: String(revision), handle: id }] : [];
  });
}

/** Empty blocks while the node has another one of the IP version, and claims on what is not there or not ours. */
function spareBlocks(view: View, node: string, cooling: Cooling): Found[] {
  const owner = ownerOf(node, "Workload");
  return ([4, 6] as Family[]).flatMap((v) => {
    const claims = view.affinities(owner, v).filter((a) => view.block(a.value.cidr) || !exists(view, a.value.cidr));
    const own = claims.flatMap((a) => ownBlock(view, owner, a) ?? []);
    const stale = claims.filter((a) => !ownBlock(view, owner, a));
    const empty = own.filter((b) => isEmpty(collectCooled(b, cooling)));
    const spare = empty.slice(0, empty.length === own.length ? -1 : undefined);
    return [
      ...spare.map((b) => seen("spare", b.cidr, b)),
      ...stale.map((a): Found => {
        const name = `affinity ${formatCidr(a.value.cidr)}`;
        return { kind: "spare", name, state: String(a.revision), cidr: a.value.cidr };
      }),
    ];
  });
}

function ownBlock(view: View, owner: BlockOwner, affinity: Stored<Affinity>): Block | undefined {
  const block = view.block(affinity.value.cidr)?.value;
  return block?.affinity === owner ? block : undefined;
}

const exists = (view: View, cidr: Cidr) => view.revisionOf(blockKey(cidr)) !== 0n;

const seen = (kind: "spare" | "abandoned", cidr: Cidr, block: Block): Found => ({
  kind,
  name: `block ${formatCidr(cidr)}`,
  state: String(block.sequenceNumber),
  cidr,
});

const isOver = (block: Block, cooling: Cooling) =>
  block.attributes.some(isCooling) && collectCooled(block, cooling) !== block;

function since(found: Found, before: Suspects, nowMs: number): Suspect {
  const old = before.get(found.name);
  return old?.state === found.state ? old : { sinceMs: nowMs, state: found.state };
}
