import { bits, type Cidr, cidrOf, type Family, formatCidr, formatIp, type Ip, ipAt } from "../lib/ip.ts";
import { isProblem, Problem } from "../lib/problem.ts";
import {
  affinityPrefix,
  blockKey,
  type BlockOwner,
  handleKey,
  nodeKey,
  ownerOf,
  poolPrefix,
  readyKey,
  reservationPrefix,
} from "../datastore/keys.ts";
import { releaseIfUnselected } from "./affinities.ts";
import { attributeOf, type Block, handleOf, isCooling, isFree, ordinalAt, ordinalsOf, takeOrdinal } from "./block.ts";
import type { Draft } from "./draft.ts";
import { addCount, newHandle } from "./handle.ts";
import { choosePools, poolHolding } from "./pools/select.ts";
import type { AssignedAddress, AssignOutcome, AssignRequest, Shortage } from "./request.ts";
import { attributeFor, borrow, listed, missing, type Search, type Take, takeNew, takeOwn } from "./search.ts";

/** Blocks of one IP version that a node may own when nobody says otherwise. */
export const defaultMaxBlocks = 20;
/** Empty blocks of pools that no longer select the node which one request gives up in passing. */
const maxHousekeeping = 4;
const lookAtPools = "Add a pool, or see `tortie ctl ipam show --show-blocks`.";

/** What planning an assignment came to, before it is committed. */
export type Assigned = Omit<AssignOutcome, "commit">;

/**
 * Plans an assignment into the draft: own block, new block, a long empty one of another node, borrowing; or exactly the
 * given addresses. With a problem, and without `partial`, the draft holds nothing of use: drop it (its plan still tells by
 * its compares what the refusal rests on).
 */
export function planAssign(draft: Draft, request: AssignRequest): Assigned {
  try {
    draft.relyOn(readyKey);
    if (!draft.view.ready()) return refused(notReady());
    const takes: Take[] = [];
    const result = request.address ? assignGiven(draft, request, takes) : assignAny(draft, request, takes);
    if (result.problem && !request.partial) return { ...result, addresses: [] };
    count(draft, request, takes);
    if (request.with) draft.add(request.with(result.addresses));
    return result;
  } catch (error) {
    if (isProblem(error, "undecodable")) return refused(error);
    throw error;
  }
}

function assignAny(draft: Draft, request: AssignRequest, takes: Take[]): Assigned {
  const all: Assigned = { addresses: [], shortages: [] };
  const wanted = ([4, 6] as Family[]).filter((v) => (request.families?.[v] ?? 0) > 0);
  if (wanted.length === 0) return refused(new Problem({ code: "bad-input", what: "no addresses are asked for" }));
  for (const v of wanted) {
    const one = assignFamily(draft, request, v, takes);
    all.addresses.push(...one.addresses);
    all.shortages.push(...one.shortages);
    if (one.problem) return { ...all, problem: one.problem };
  }
  return all;
}

/** One IP version. A shortage is a problem unless the request takes what there is. */
function assignFamily(draft: Draft, request: AssignRequest, v: Family, takes: Take[]): Assigned {
  const count = request.families![v]!;
  const reused = reuse(draft, request, v, count);
  if (reused) return reused;
  const search = searchIn(draft, request, v, count, takes);
  if (search instanceof Problem) return refused(search);
  const { messages, problem } = look(search);
  if (missing(search) === 0) return { addresses: search.found, shortages: [] };
  const shortage = shortageOf(search, messages);
  const said = new Problem({ code: "exhausted", what: shortage.message, where: request.handle, todo: lookAtPools });
  return { addresses: search.found, shortages: [shortage], problem: request.partial ? problem : said };
}

/** Looks at own, new, reclaimed and others' blocks in this order, until there is enough. */
function look(search: Search): { messages: string[]; problem?: Problem } {
  const { draft, request, owner, family } = search;
  const config = draft.config();
  const own = () => draft.affinities(owner, family).map((a) => a.cidr).filter((c) => poolHolding(search.pools, c));
  takeOwn(search, own());
  const limit = limitOf(request.maxBlocks, config.maxBlocks);
  for (let owned = own().length; missing(search) > 0;) {
    if (owned >= limit) {
      draft.relyOnAll(affinityPrefix(owner, family));
      const message = `Need to allocate an IPAM block but could not - limit of ${limit} blocks reached for this node`;
      return { messages: [message], problem: exhausted("cannot allocate new block due to per host block limit") };
    }
    if (!config.autoAllocate) return { messages: [], problem: exhausted("failed to find or claim a block") };
    const got = takeNew(search);
    if (!got) break;
    if (got === "claimed") owned++;
  }
  if (missing(search) === 0) return { messages: [] };
  if (config.strict) return { messages: ["No more free affine blocks and strict affinity enabled"] };
  const pools = borrow(search);
  return { messages: pools.length ? [`No IPs available in pools: ${listed(pools)}`] : [] };
}

/** Where a request may look, or why nowhere. Gives up empty blocks of pools that no longer select the node. */
function searchIn(
  draft: Draft,
  request: AssignRequest,
  family: Family,
  count: number,
  takes: Take[],
): Search | Problem {
  draft.config();
  draft.relyOnAll(reservationPrefix);
  const labels = labelsFor(draft, request);
  if (labels instanceof Problem) return labels;
  const { use, node, namespace, hostReserved } = request;
  const question = {
    family,
    use,
    node,
    nodeLabels: labels,
    namespace,
    requested: request.pools?.[family],
    hostReserved,
  };
  const choice = choosePools(draft.view.pools(), question);
  if ("problem" in choice) {
    draft.relyOnAll(poolPrefix);
    return withUndecodable(choice.problem, draft);
  }
  const owner = ownerOf(node, use);
  giveUpUnselected(draft, owner, family, choice.selecting.map((p) => p.cidr), labels);
  return { draft, request, family, owner, pools: choice.pools, count, found: [], takes };
}

/** Labels of the node; load balancers have none. A node without Node resource gets nothing. */
function labelsFor(draft: Draft, request: AssignRequest): Record<string, string> | Problem {
  if (request.use === "LoadBalancer") return {};
  draft.relyOn(nodeKey(request.node));
  const labels = draft.view.nodeLabels(request.node);
  const what = `resource does not exist: Node(${request.node})`;
  return labels ??
    new Problem({ code: "not-found", what, todo: "Start `tortie node` there, it makes its Node resource." });
}

function giveUpUnselected(
  draft: Draft,
  owner: BlockOwner,
  v: Family,
  selecting: Cidr[],
  labels: Record<string, string>,
) {
  const enabled = draft.view.pools().filter((p) => p.enabled && p.cidr.v === v);
  const notSelecting = enabled.filter((p) => !selecting.some((c) => c.n === p.cidr.n && c.len === p.cidr.len));
  let left = maxHousekeeping;
  for (const { cidr } of draft.affinities(owner, v)) {
    const pool = poolHolding(notSelecting, cidr);
    const block = pool && draft.block(cidr);
    if (!block || block.affinity !== owner || left === 0) continue;
    if (releaseIfUnselected(draft, block, pool, labels)) left--;
  }
}

/** The addresses the caller chose; all of them, or a problem. */
function assignGiven(draft: Draft, request: AssignRequest, takes: Take[]): Assigned {
  const addresses: AssignedAddress[] = [];
  for (const ip of request.address!) {
    const got = assignOne(draft, request, ip, takes);
    if (got instanceof Problem) return { addresses, shortages: [], problem: got };
    addresses.push(got);
  }
  return { addresses, shortages: [] };
}

function assignOne(draft: Draft, request: AssignRequest, ip: Ip, takes: Take[]): AssignedAddress | Problem {
  const where = formatIp(ip);
  const pool = poolHolding(draft.view.pools().filter((p) => p.enabled), cidrOf(ip, bits(ip.v)));
  if (!pool) {
    draft.relyOnAll(poolPrefix);
    const what = `The provided IP address ${where} is not in a configured pool`;
    return withUndecodable(new Problem({ code: "bad-input", what, todo: "See `tortie ctl get ippools`." }), draft);
  }
  draft.relyOn(pool.key);
  if (!pool.uses.includes(request.use)) {
    const uses = `allowedUses: [${pool.uses.join(" ")}]`;
    const what =
      `IP address ${where} is in IP pool "${pool.name}", which is not allowed for use "${request.use}" (${uses})`;
    return new Problem({ code: "bad-input", what });
  }
  const { strict } = draft.config();
  const owner = ownerOf(request.node, request.use);
  const cidr = cidrOf(ip, pool.blockSize);
  const exists = draft.blockExists(cidr);
  const block = exists ? draft.block(cidr) : draft.makeBlock(cidr, owner, undefined, request.hostReserved);
  if (!block) {
    return new Problem({ code: "undecodable", what: `the block of ${where} cannot be read`, where: formatCidr(cidr) });
  }
  const refusal = refusalOf(block, ip, owner, strict, request);
  if (refusal) {
    draft.relyOn(blockKey(cidr));
    return refusal === "held" ? { ip, block: cidr, reused: true } : refusal;
  }
  draft.setBlock(cidr, takeOrdinal(block, ordinalAt(block, ip)!, attributeFor(request)));
  if (block.affinity === owner) draft.confirm(owner, cidr);
  takes.push({ block: cidr, asked: 1, taken: 1 });
  return { ip, block: cidr };
}

/** Why this block does not give the address; "held": it is the handle's already, and that is as good. */
function refusalOf(block: Block, ip: Ip, owner: BlockOwner, strict: boolean, request: AssignRequest) {
  const where = formatIp(ip);
  if (strict && block.affinity !== owner) {
    const what = block.affinity === null
      ? `Attempt to assign from block ${formatCidr(block.cidr)} with no affinity`
      : "Block host affinity does not match";
    return new Problem({
      code: "conflict",
      what: `${what}: ${where}`,
      todo: "Turn strict affinity off, or choose another.",
    });
  }
  const ordinal = ordinalAt(block, ip)!;
  if (isFree(block, ordinal)) return undefined;
  const holder = attributeOf(block, ordinal);
  const isOurs = request.handle !== undefined && handleOf(holder) === request.handle && !isCooling(holder);
  if (isOurs && request.maxPerHandle) return "held";
  const why = isCooling(holder) ? "it cools down after its release" : `it is held by ${handleOf(holder) ?? "somebody"}`;
  return new Problem({ code: "exists", what: `Address already assigned in block: ${where}`, where: why });
}

/** A handle that already has as many addresses of the version as it may gets those again. */
function reuse(draft: Draft, request: AssignRequest, v: Family, count: number): Assigned | undefined {
  if (!request.maxPerHandle || request.handle === undefined) return undefined;
  const held = heldBy(draft, request.handle, v);
  if (held.length + count <= request.maxPerHandle) return undefined;
  draft.relyOn(handleKey(request.handle));
  if (held.length >= count) return { addresses: held.slice(0, count), shortages: [] };
  const what = `handle ${request.handle} has ${held.length} IPs allocated but requires ${count}`;
  return refused(new Problem({ code: "exhausted", what }));
}

function heldBy(draft: Draft, handle: string, v: Family): AssignedAddress[] {
  const blocks = draft.blocks(v).filter((b) => draft.handle(handle)?.counts.has(formatCidr(b.cidr)));
  return blocks.flatMap((b) =>
    ordinalsOf(b, handle).map((o) => ({ ip: ipAt(b.cidr, o), block: b.cidr, reused: true }))
  );
}

function count(draft: Draft, request: AssignRequest, takes: Take[]): void {
  if (request.handle === undefined || takes.length === 0) return;
  let handle = draft.handle(request.handle) ?? newHandle;
  for (const { block, asked, taken } of takes) {
    handle = addCount(handle, formatCidr(block), draft.at.counting === "asked" ? asked : taken);
  }
  draft.setHandle(request.handle, handle);
}

/** The smaller limit of those that are set. */
function limitOf(ofRequest: number | undefined, ofConfig: number): number {
  const set = [ofRequest ?? 0, ofConfig].filter((n) => n > 0);
  return set.length ? Math.min(...set) : defaultMaxBlocks;
}

function shortageOf(search: Search, messages: string[]): Shortage {
  const host = search.request.hostReserved;
  const first = `Assigned ${search.found.length} out of ${search.count} requested IPv${search.family} addresses`;
  const parts = [first, ...messages, ...(host ? [`HostReservedAttr: ${host.handle}`] : [])];
  return { family: search.family, message: parts.join("; ") };
}

/** Adds to a refusal what could not be read, as that may be its cause. */
function withUndecodable(problem: Problem, draft: Draft): Problem {
  const broken = draft.view.problems().map((p) => p.where).filter((w) => w !== undefined);
  if (broken.length === 0) return problem;
  const todo = `Not understood and so not used: ${broken.join(", ")}. ${problem.todo ?? ""}`.trim();
  return new Problem({ code: problem.code, what: problem.what, where: problem.where, todo });
}

const refused = (problem: Problem): Assigned => ({ addresses: [], shortages: [], problem });
const exhausted = (what: string) => new Problem({ code: "exhausted", what, todo: lookAtPools });
const notReady = () =>
  new Problem({
    code: "not-ready",
    what: "the datastore is not ready for use",
    where: readyKey,
    todo: "Wait until spec.datastoreReady of ClusterInformation default is true.",
  });
