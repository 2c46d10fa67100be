import { createHash } from "node:crypto";
import {
  cidrOf,
  contains,
  type Family,
  formatCidr,
  formatIp,
  type Ip,
  sameIp,
  tryParseCidr,
  tryParseIp,
} from "../../lib/ip.ts";
import { parseJson } from "../../lib/json64.ts";
import { Problem } from "../../lib/problem.ts";
import { type Pool } from "../../ipam/pools/pool.ts";
import type { PerFamily } from "../../ipam/request.ts";
import type { Running } from "../settings.ts";
import type { KeptService } from "../sources.ts";
import type { Allocation } from "./allocations.ts";

/** Owner of the blocks from which Services get addresses. */
export const balancerNode = "load-balancer";
const ownClass = "calico";
const wishes = {
  pools: { 4: "projectcalico.org/ipv4pools", 6: "projectcalico.org/ipv6pools" },
  addresses: "projectcalico.org/loadBalancerIPs",
};

/** True when the Service's addresses are our business. Source: Calico …/loadbalancer, IsCalicoManagedLoadBalancer. */
export function isManaged(service: KeptService, assignIPs: Running["assignIPs"]): boolean {
  const { type, loadBalancerClass, loadBalancerIP, annotations } = service;
  if (type !== "LoadBalancer" || (loadBalancerClass !== undefined && loadBalancerClass !== ownClass)) return false;
  if (assignIPs === "AllServices" || loadBalancerClass === ownClass) return true;
  const asked = [wishes.pools[4], wishes.pools[6], wishes.addresses].some((name) => annotations[name]);
  return asked || loadBalancerIP !== undefined;
}

/** The handle of a Service's addresses. Source: Calico …/loadbalancer, createHandle. */
export function handleOfService({ metadata: { name, namespace }, uid }: KeptService): string {
  const id = `${name}-${namespace}-${uid}`.toLowerCase();
  return `lb-${createHash("sha256").update(id).digest("base64url").replace(/[-_.]/g, "")}`;
}

/** What a Service asks for. */
export interface Wish {
  /** Exactly these; undefined = any. */
  addresses: Ip[] | undefined;
  /** Any of these pools, by CIDR; undefined = those that give addresses by themselves. */
  pools: PerFamily<string[]> | undefined;
  /** One address of each. */
  families: Family[];
}

/** @throws Problem "bad-input" for an annotation that cannot be read. */
export function wishOf({ annotations, loadBalancerIP, families }: KeptService, pools: Pool[]): Wish {
  const wanted = families.flatMap((name): Family[] => name === "IPv4" ? [4] : name === "IPv6" ? [6] : []);
  const listed = annotations[wishes.addresses];
  // Only the annotation makes addresses go that it does not name: the field of the spec is a wish for new ones.
  const texts = listed ? textsIn(wishes.addresses, listed) : loadBalancerIP ? [loadBalancerIP] : undefined;
  const addresses = texts?.map((text) =>
    tryParseIp(text) ?? refuse(listed ? wishes.addresses : "spec.loadBalancerIP", `"${text}" is not an address`)
  );
  for (const v of [4, 6]) {
    if ((addresses ?? []).filter((ip) => ip.v === v).length > 1) {
      refuse(wishes.addresses, "at most one IPv4 and one IPv6 address can be asked for");
    }
  }
  const named = ([4, 6] as Family[]).flatMap((v) => {
    const text = annotations[wishes.pools[v]];
    return text ? [[v, textsIn(wishes.pools[v], text).map((pool) => poolNamed(pool, v, pools))] as const] : [];
  });
  return { addresses, pools: named.length > 0 ? Object.fromEntries(named) : undefined, families: wanted };
}

/** What must be done for a Service. */
export interface Balance {
  /** Its addresses that go. */
  release: Allocation[];
  /** Its addresses that stay. */
  keep: Allocation[];
  /** Addresses to take: given ones, or one of each of these families. */
  take: { addresses: Ip[] } | { families: Family[]; pools: PerFamily<string[]> | undefined } | undefined;
}

/**
 * What a managed Service needs, given what it has. @param pools those that are for load balancers; none = all goes.
 * DIFFERS: a second family is taken later too; Calico takes an IPv4 address for both.
 * Source: Calico kube-controllers/pkg/controllers/loadbalancer, syncService.
 */
export function balanceOf(service: KeptService, have: Allocation[], pools: Pool[]): Balance {
  const handle = handleOfService(service);
  if (pools.length === 0) return { release: have, keep: [], take: undefined };
  const wish = wishOf(service, pools);
  const isListed = service.annotations[wishes.addresses] !== undefined && wish.addresses;
  const stays = ({ ip, handle: of }: Allocation): boolean => {
    if (of !== handle) return false;
    if (isListed) return wish.addresses!.some((wanted) => sameIp(wanted, ip));
    const pool = pools.find(({ cidr }) => contains(cidr, ip));
    if (wish.pools) return wish.pools[ip.v]?.some((text) => contains(tryParseCidr(text)!, ip)) ?? false;
    return !(pool?.manual && !wish.addresses?.some((wanted) => sameIp(wanted, ip)));
  };
  const keep = isListed ? have.filter(stays) : oneOfEach(service, have.filter(stays));
  const release = have.filter((allocation) => !keep.includes(allocation));
  if (wish.addresses) {
    const addresses = wish.addresses.filter((ip) => {
      // The field of the spec asks for an address of its family where there is none yet.
      return !keep.some((own) => isListed ? sameIp(own.ip, ip) : own.ip.v === ip.v);
    });
    return { release, keep, take: addresses.length > 0 ? { addresses } : undefined };
  }
  const families = wish.families.filter((v) => !keep.some(({ ip }) => ip.v === v));
  return { release, keep, take: families.length > 0 ? { families, pools: wish.pools } : undefined };
}

/**
 * One address of each family: more are left over from two controllers that gave at the same time. Those that the status
 * tells stay, in its order. DIFFERS: in Calico the Service keeps them all.
 */
function oneOfEach({ ingress }: KeptService, have: Allocation[]): Allocation[] {
  const rank = ({ ip }: Allocation) => {
    const at = ingress.findIndex((said) => said.ip === formatIp(ip));
    return at < 0 ? ingress.length : at;
  };
  const sorted = have.toSorted((a, b) => rank(a) - rank(b));
  return sorted.filter((one, i) => sorted.findIndex(({ ip }) => ip.v === one.ip.v) === i);
}

/** The list of a Service's status when it has these addresses; undefined when it says so already. */
export function ingressOf(service: KeptService, addresses: Ip[]): { ip: string }[] | undefined {
  const wanted = addresses.map(formatIp), said = service.ingress.map(({ ip }) => ip);
  const isSame = said.length === wanted.length && wanted.every((ip) => said.includes(ip));
  return isSame ? undefined : wanted.map((ip) => ({ ip }));
}

function textsIn(name: string, text: string): string[] {
  try {
    const list = parseJson(text);
    if (Array.isArray(list) && list.every((item) => typeof item === "string")) return list as string[];
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return refuse(name, `'${text}' is not a JSON list of strings`);
}

/** The CIDR of a pool that is named by it, or by its name. */
function poolNamed(text: string, v: Family, pools: Pool[]): string {
  const cidr = tryParseCidr(text) ?? pools.find(({ name }) => name === text)?.cidr;
  if (!cidr) return refuse(wishes.pools[v], `"${text}" is no pool for load balancers`);
  if (cidr.v !== v) return refuse(wishes.pools[v], `"${text}" is not of IPv${v}`);
  return formatCidr(cidrOf(cidr, cidr.len));
}

function refuse(name: string, what: string): never {
  throw new Problem({ code: "bad-input", what, where: name, todo: "Correct the Service" });
}
