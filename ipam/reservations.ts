import { bits, type Cidr, type Family, type Ip, size } from "../lib/ip.ts";

/** All reserved addresses of the cluster together. They are never given automatically; what is assigned stays assigned. */
export interface Reservations {
  /** True when the address may not be given automatically. */
  has(ip: Ip): boolean;
  /** True when every address of the network is reserved, also by several smaller reservations together. */
  whole(cidr: Cidr): boolean;
  /** The last address of the reserved run that holds `ip`; undefined when it is not reserved. */
  endOf(ip: Ip): bigint | undefined;
}

interface Run {
  first: bigint;
  last: bigint;
}

/** Joins reserved networks to runs, so that each question is one binary search. */
export function reservationsOf(cidrs: Cidr[]): Reservations {
  const runs: Record<Family, Run[]> = {
    4: runsOf(cidrs.filter((c) => c.v === 4)),
    6: runsOf(cidrs.filter((c) => c.v === 6)),
  };
  const endOf = (ip: Ip) => runHolding(runs[ip.v], ip.n)?.last;
  return {
    has: (ip) => endOf(ip) !== undefined,
    whole: (cidr) => (endOf(cidr) ?? -1n) >= cidr.n + size(cidr) - 1n,
    endOf,
  };
}

function runsOf(cidrs: Cidr[]): Run[] {
  const sorted = cidrs.map((c) => ({ first: c.n, last: c.n + size(c) - 1n })).sort((
    a,
    b,
  ) => (a.first < b.first ? -1 : 1));
  const runs: Run[] = [];
  for (const next of sorted) {
    const before = runs.at(-1);
    if (before && next.first <= before.last + 1n) before.last = next.last > before.last ? next.last : before.last;
    else runs.push({ ...next });
  }
  return runs;
}

function runHolding(runs: Run[], n: bigint): Run | undefined {
  let low = 0, high = runs.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const run = runs[middle]!;
    if (n < run.first) high = middle - 1;
    else if (n > run.last) low = middle + 1;
    else return run;
  }
  return undefined;
}

/** The last address that an IP version has. */
export const lastAddress = (v: Family): bigint => (1n << BigInt(bits(v))) - 1n;
