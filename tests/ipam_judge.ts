/**
 * An independent judge of the addresses in etcd. It shares no code with `ipam/` (keys, JSON and addresses are read here), so
 * that a mistake there cannot hide itself. Used after every test that kills, cuts or races.
 */

/** What is known from outside etcd; each part is judged only when it is given. */
export interface JudgeTruth {
  /**
   * Host side interfaces of workloads per node that was looked at: endpoints and interfaces of these nodes must agree one to
   * one by name, and by address where it is known (routes to the interface).
   */
  interfaces?: { [node: string]: { name: string; addresses?: string[] }[] };
  /** Addresses somebody believes to hold, with the handle: each must be assigned to exactly that handle, and no others be. */
  held?: Map<string, string>;
  /** True: every assigned address with a handle, but tunnels', must be in a workload endpoint and the reverse. */
  endpoints?: boolean;
  /** True: Calico itself wrote too, so a handle may count too much, or blocks that are gone. */
  calico?: boolean;
  /** Unix time; no `releasedAt` may be later. */
  nowMs?: number;
}

interface Assigned {
  block: string;
  handle: string | undefined;
  node: string | undefined;
  type: string | undefined;
}

interface Network {
  v6: boolean;
  first: bigint;
  len: number;
}

type Obj = Record<string, unknown>;

/**
 * Every disagreement of blocks, affinities, handles, endpoints and the outside, as sentences; empty = all agree.
 * @param dump all keys and values of etcd (others than Calico's are ignored).
 */
export function judge(dump: Map<string, string>, truth: JudgeTruth = {}): string[] {
  const wrong: string[] = [];
  const say = (what: string) => void wrong.push(what);
  const read = readAll(dump, say);
  const assigned = new Map<string, Assigned>();
  for (const [key, block] of read.blocks) judgeBlock(key, block, assigned, truth, say);
  judgeOverlaps([...read.blocks.keys()], read.pools, say);
  judgeAffinities(read, say);
  judgeHandles(read.handles, assigned, truth.calico === true, say);
  if (truth.held) judgeHeld(truth.held, assigned, say);
  if (truth.endpoints) judgeEndpoints(read.endpoints, assigned, say);
  for (const [node, interfaces] of Object.entries(truth.interfaces ?? {})) {
    judgeInterfaces(node, interfaces, read.endpoints.filter((e) => e.node === node), say);
  }
  return wrong.sort();
}

interface Endpoint {
  key: string;
  node: string;
  container: string;
  name: string;
  addresses: string[];
}

interface AllRead {
  blocks: Map<string, Obj>;
  affinities: Map<string, { owner: string; state: unknown }[]>;
  handles: Map<string, Obj>;
  endpoints: Endpoint[];
  pools: { name: string; net: Network; blockSize: number }[];
}

function readAll(dump: Map<string, string>, say: (what: string) => void): AllRead {
  const all: AllRead = { blocks: new Map(), affinities: new Map(), handles: new Map(), endpoints: [], pools: [] };
  for (const [key, text] of dump) {
    const value = parse(text);
    const parts = key.split("/");
    if (!key.startsWith("/calico/ipam/v2/") && !/\/projectcalico\.org\/(ippools|workloadendpoints)\//.test(key)) {
      continue;
    }
    if (!value) {
      say(`${key}: not a JSON object`);
      continue;
    }
    const cidr = parts.at(-1)!.replace(/-(\d+)$/, "/$1");
    if (/^\/calico\/ipam\/v2\/assignment\/ipv[46]\/block\/[^/]+$/.test(key)) all.blocks.set(cidr, value);
    else if (/^\/calico\/ipam\/v2\/(host|virtual)\/.+\/ipv[46]\/block\/[^/]+$/.test(key)) {
      const owner = `${parts[4]}:${parts.slice(5, -3).join("/")}`;
      all.affinities.set(cidr, [...(all.affinities.get(cidr) ?? []), { owner, state: value.state }]);
    } else if (key.startsWith("/calico/ipam/v2/handle/")) {
      all.handles.set(key.slice("/calico/ipam/v2/handle/".length), value);
    } else if (parts[5] === "ippools") readPool(all, parts.at(-1)!, value);
    else if (parts[5] === "workloadendpoints") all.endpoints.push(endpointOf(key, value));
  }
  return all;
}

function readPool(all: AllRead, name: string, value: Obj): void {
  const spec = (value.spec ?? {}) as Obj;
  const net = network(String(spec.cidr));
  if (net) all.pools.push({ name, net, blockSize: Number(spec.blockSize || (net.v6 ? 122 : 26)) });
}

function endpointOf(key: string, value: Obj): Endpoint {
  const spec = (value.spec ?? {}) as Obj;
  const addresses = ((spec.ipNetworks ?? []) as string[]).map((n) => plain(n.split("/")[0]!));
  const { node, containerID, interfaceName } = spec;
  return {
    key,
    node: String(node),
    container: String(containerID ?? ""),
    name: String(interfaceName ?? ""),
    addresses,
  };
}

function judgeBlock(
  cidr: string,
  block: Obj,
  assigned: Map<string, Assigned>,
  truth: JudgeTruth,
  say: (what: string) => void,
): void {
  const net = network(cidr);
  if (!net || block.cidr !== cidr) return say(`block ${cidr}: says cidr ${block.cidr}`);
  const count = 2 ** ((net.v6 ? 128 : 32) - net.len);
  const allocations = (block.allocations ?? []) as (number | null)[];
  const attributes = (block.attributes ?? []) as Obj[];
  const free = (block.unallocated ?? []) as number[];
  const sequences = (block.sequenceNumberForAllocation ?? {}) as Obj;
  if (allocations.length !== count) say(`block ${cidr}: ${allocations.length} allocations for ${count} addresses`);
  if (block.deleted !== false) say(`block ${cidr}: deleted is ${block.deleted}`);
  if (new Set(free).size !== free.length) say(`block ${cidr}: an ordinal is twice in unallocated`);
  const used = new Set<number>();
  allocations.forEach((index, ordinal) => {
    const where = `block ${cidr} ordinal ${ordinal}`;
    if (index === null) {
      if (!free.includes(ordinal)) say(`${where}: free, but not in unallocated`);
      if (sequences[ordinal] !== undefined) say(`${where}: free, but has a sequence number`);
      return;
    }
    used.add(index);
    const attribute = attributes[index];
    if (!attribute) return say(`${where}: no attribute ${index}`);
    if (free.includes(ordinal)) say(`${where}: assigned and in unallocated`);
    judgeOrdinal(where, attribute, sequences[ordinal], block.sequenceNumber, truth, say);
    if (attribute.releasedAt !== undefined) return;
    const owner = (attribute.secondary ?? {}) as Record<string, string>;
    const handle = attribute.handle_id as string | undefined;
    const name = show(net.v6, net.first + BigInt(ordinal));
    if (assigned.has(name)) say(`${name}: in two blocks`);
    assigned.set(name, { block: cidr, handle, node: owner.node, type: owner.type });
  });
  attributes.forEach((_, i) => used.has(i) || say(`block ${cidr}: nothing points to attribute ${i}`));
  for (const o of free) if (!(o >= 0 && o < count)) say(`block ${cidr}: unallocated ${o} is out of range`);
  if (block.affinity === null && used.size === 0) say(`block ${cidr}: without owner and empty, should be gone`);
}

function judgeOrdinal(
  where: string,
  attribute: Obj,
  sequence: unknown,
  ofBlock: unknown,
  truth: JudgeTruth,
  say: (what: string) => void,
): void {
  const isHosts = String(attribute.handle_id).toLowerCase() === "windows-reserved-ipam-handle";
  if (sequence === undefined && !isHosts) say(`${where}: no sequence number`);
  if (sequence !== undefined && BigInt(sequence as string) >= BigInt(ofBlock as string)) {
    say(`${where}: sequence number ${sequence} is not below the block's ${ofBlock}`);
  }
  const releasedMs = attribute.releasedAt === undefined ? 0 : Date.parse(String(attribute.releasedAt));
  if (truth.nowMs !== undefined && releasedMs > truth.nowMs) say(`${where}: released in the future`);
}

function judgeOverlaps(blocks: string[], pools: AllRead["pools"], say: (what: string) => void): void {
  const nets = blocks.flatMap((text) => {
    const net = network(text);
    return net ? [{ text, net }] : [];
  });
  const sorted = nets.sort((
    a,
    b,
  ) => (a.net.v6 !== b.net.v6 ? (a.net.v6 ? 1 : -1) : a.net.first < b.net.first ? -1 : 1));
  sorted.forEach(({ text, net }, i) => {
    const next = sorted[i + 1];
    if (next && next.net.v6 === net.v6 && next.net.first <= last(net)) say(`block ${text}: overlaps ${next.text}`);
    const pool = pools.find((p) => p.net.v6 === net.v6 && p.net.first <= net.first && net.first <= last(p.net));
    if (pool && pool.blockSize !== net.len) say(`block ${text}: pool ${pool.name} has blocks of /${pool.blockSize}`);
  });
}

function judgeAffinities({ blocks, affinities }: AllRead, say: (what: string) => void): void {
  for (const [cidr, claims] of affinities) {
    for (const { owner, state } of claims) {
      const block = blocks.get(cidr);
      if (!block) say(`affinity of ${owner} to ${cidr}: no such block`);
      else if (block.affinity !== owner) say(`affinity of ${owner} to ${cidr}: the block is ${block.affinity}'s`);
      if (state !== "confirmed") say(`affinity of ${owner} to ${cidr}: is ${state}`);
    }
  }
  for (const [cidr, { affinity }] of blocks) {
    if (affinity !== null && !affinities.get(cidr)?.some((c) => c.owner === affinity)) {
      say(`block ${cidr}: its owner ${affinity} has no affinity to it`);
    }
  }
}

function judgeHandles(
  handles: Map<string, Obj>,
  assigned: Map<string, Assigned>,
  calico: boolean,
  say: (what: string) => void,
): void {
  const real = new Map<string, Map<string, number>>();
  for (const { handle, block } of assigned.values()) {
    if (handle === undefined || handle.toLowerCase() === "windows-reserved-ipam-handle") continue;
    const counts = real.get(handle) ?? new Map<string, number>();
    real.set(handle, counts.set(block, (counts.get(block) ?? 0) + 1));
  }
  for (const [handle, counts] of real) {
    const said = (handles.get(handle)?.block ?? {}) as Record<string, number>;
    if (!handles.has(handle)) say(`handle ${handle}: holds addresses, but does not exist`);
    for (const [block, n] of counts) {
      const wrong = calico ? (said[block] ?? 0) < n : (said[block] ?? 0) !== n;
      if (wrong) say(`handle ${handle}: counts ${said[block] ?? 0} in ${block}, which holds ${n} of it`);
    }
  }
  for (const [handle, value] of calico ? [] : handles) {
    const said = Object.keys((value.block ?? {}) as Obj);
    if (said.length === 0) say(`handle ${handle}: names no block`);
    for (const block of said) {
      if (!real.get(handle)?.has(block)) say(`handle ${handle}: names ${block}, which holds nothing of it`);
    }
  }
}

function judgeHeld(held: Map<string, string>, assigned: Map<string, Assigned>, say: (what: string) => void): void {
  for (const [address, handle] of held) {
    const there = assigned.get(plain(address));
    if (there?.handle !== handle) say(`${address}: held by ${handle}, but assigned to ${there?.handle ?? "nobody"}`);
  }
  const known = new Set([...held.keys()].map(plain));
  for (const [address, { handle }] of assigned) {
    const isHosts = handle?.toLowerCase() === "windows-reserved-ipam-handle";
    if (!known.has(address) && !isHosts) say(`${address}: leaked, assigned to ${handle}, which nobody holds`);
  }
}

function judgeEndpoints(endpoints: Endpoint[], assigned: Map<string, Assigned>, say: (what: string) => void): void {
  const holders = new Map<string, string>();
  for (const { key, node, container, addresses } of endpoints) {
    for (const address of addresses) {
      if (holders.has(address)) say(`${address}: in two endpoints, ${holders.get(address)} and ${key}`);
      holders.set(address, key);
      const there = assigned.get(address);
      if (!there) say(`${address}: of ${key}, is not assigned`);
      else if (!there.handle?.endsWith(`.${container}`)) {
        say(`${address}: of ${key}, is assigned to handle ${there.handle}`);
      } else if (there.node !== node) say(`${address}: of ${key} on ${node}, is assigned to node ${there.node}`);
    }
  }
  for (const [address, { handle, type, block }] of assigned) {
    const isWorkloads = handle !== undefined && type === undefined &&
      handle.toLowerCase() !== "windows-reserved-ipam-handle";
    if (isWorkloads && !holders.has(address)) say(`${address}: in ${block} for ${handle}, but no endpoint has it`);
  }
}

function judgeInterfaces(
  node: string,
  interfaces: { name: string; addresses?: string[] }[],
  endpoints: Endpoint[],
  say: (what: string) => void,
): void {
  const byName = new Map(interfaces.map((i) => [i.name, i]));
  for (const { key, name, addresses } of endpoints) {
    const there = byName.get(name);
    if (!there) say(`${key}: has no interface ${name} on ${node}`);
    const known = there?.addresses?.map(plain);
    if (known && [...known].sort().join() !== [...addresses].sort().join()) {
      say(`${key}: has ${addresses.join()}, interface ${name} has ${known.join()}`);
    }
  }
  const wanted = new Set(endpoints.map((e) => e.name));
  for (const { name } of interfaces) if (!wanted.has(name)) say(`interface ${name} on ${node}: no endpoint has it`);
}

/** JSON with every integer of more than 15 digits as text, so that none is rounded. */
function parse(text: string): Obj | undefined {
  try {
    const value = JSON.parse(text.replace(/([:[,]\s*)(-?\d{16,})(?=\s*[,\]}])/g, '$1"$2"'));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Obj : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function network(text: string): Network | undefined {
  const [address, len] = text.split("/");
  const n = address === undefined ? undefined : number(address);
  return n === undefined || !len ? undefined : { v6: address!.includes(":"), first: n, len: Number(len) };
}

const last = (net: Network) => net.first + (1n << BigInt((net.v6 ? 128 : 32) - net.len)) - 1n;

function number(address: string): bigint | undefined {
  if (!address.includes(":")) {
    const parts = address.split(".").map(Number);
    return parts.length === 4 && parts.every((p) => p >= 0 && p < 256)
      ? parts.reduce((n, p) => n * 256n + BigInt(p), 0n)
      : undefined;
  }
  const [head, tail] = address.split("::") as [string, string | undefined];
  const groups = (part: string | undefined) => (part ? part.split(":") : []);
  const [a, b] = [groups(head), groups(tail)];
  const zeros = tail === undefined ? [] : Array<string>(Math.max(0, 8 - a.length - b.length)).fill("0");
  const all = [...a, ...zeros, ...b].map((g) => parseInt(g, 16));
  return all.length === 8 && all.every((g) => g >= 0 && g < 65536)
    ? all.reduce((n, g) => n * 65536n + BigInt(g), 0n)
    : undefined;
}

/** One spelling for each address: dotted, or eight groups without `::`. */
function show(v6: boolean, n: bigint): string {
  const part = (i: number, width: bigint, base: bigint) => ((n >> (BigInt(i) * width)) % base);
  if (!v6) return [3, 2, 1, 0].map((i) => part(i, 8n, 256n)).join(".");
  return [7, 6, 5, 4, 3, 2, 1, 0].map((i) => part(i, 16n, 65536n).toString(16)).join(":");
}

const plain = (address: string): string => {
  const n = number(address);
  return n === undefined ? address : show(address.includes(":"), n);
};
