import {
  bits,
  type Cidr,
  contains,
  type Family,
  formatIp,
  type Ip,
  isGlobalUnicast,
  sameIp,
  tryParseCidr,
} from "../lib/ip.ts";
import { Problem } from "../lib/problem.ts";
import { isExcludedByDefault, type LocalAddress, type LocalInterface } from "./interfaces.ts";

/** What the choice depends on. */
export interface HostView {
  interfaces: LocalInterface[];
  /** The address that the Node has now. */
  current?: Ip;
  /** For can-reach: the source address that the kernel takes towards the destination; undefined = no route. */
  reached?: Ip;
  /** For kubernetes-internal-ip: InternalIP addresses of the Kubernetes node; undefined = no Kubernetes. */
  internalIps?: Ip[];
}

/** An address, where it was found and why this one; or why none. `considered` tells of each interface, for the log. */
export type Detection =
  | { found: LocalAddress; on: string; reason: string; considered: string[] }
  | { found: undefined; reason: string; considered: string[] };

/** A method as the setting names it, taken apart. */
export type Method =
  | { by: "first-found" }
  | { by: "interface"; patterns: RegExp }
  | { by: "skip-interface"; patterns: RegExp }
  | { by: "cidr"; cidrs: Cidr[] }
  | { by: "can-reach"; destination: string }
  | { by: "kubernetes-internal-ip" };

/**
 * Reads IP_AUTODETECTION_METHOD or IP6_AUTODETECTION_METHOD (`where` is its name). Lists are separated by commas.
 * Interface patterns are not anchored: `eth0` also matches `veth0`.
 * @throws Problem "bad-input" for an unknown method, a bad pattern or a bad CIDR.
 */
export function parseMethod(text: string, where: string): Method {
  const at = text.indexOf("=");
  const name = at < 0 ? text : text.slice(0, at);
  const value = at < 0 ? "" : text.slice(at + 1);
  if (text === "" || text === "first-found") return { by: "first-found" };
  if (text.startsWith("kubernetes-internal-ip")) return { by: "kubernetes-internal-ip" };
  if (at < 0) throw unknownMethod(text, where);
  switch (name) {
    case "interface":
    case "skip-interface":
      return { by: name, patterns: parsePatterns(value, text, where) };
    case "cidr":
      return { by: name, cidrs: listOf(value).map((c) => parseCidrOf(c, text, where)) };
    case "can-reach":
      return { by: name, destination: value };
    default:
      throw unknownMethod(text, where);
  }
}

const listOf = (text: string): string[] => text.split(/\s*,\s*/);

function unknownMethod(text: string, where: string): Problem {
  return new Problem({
    code: "bad-input",
    what: `Invalid IP autodetection method: ${text}`,
    where,
    todo: "Use first-found, interface=…, skip-interface=…, cidr=…, can-reach=… or kubernetes-internal-ip",
  });
}

function parseCidrOf(text: string, method: string, where: string): Cidr {
  const cidr = tryParseCidr(text);
  if (!cidr) throw new Problem({ code: "bad-input", what: `"${text}" is not a CIDR`, where: `${where}=${method}` });
  return cidr;
}

/** Go's inline flag for a whole pattern, `(?i)`, is JavaScript's flag `i`. */
function parsePatterns(value: string, method: string, where: string): RegExp {
  const sources = listOf(value).map((p) => p.replace(/^\(\?i\)(.*)$/, "(?i:$1)"));
  try {
    return new RegExp(sources.map((p) => `(${p})`).join("|"));
  } catch (cause) {
    throw new Problem({
      code: "bad-input",
      what: "interface pattern is not understood",
      where: `${where}=${method}`,
      cause,
    });
  }
}

/** An address that the method allows. */
interface Candidate {
  on: LocalInterface;
  address: LocalAddress;
}

/**
 * Chooses this node's address of one family.
 * DIFFERS: an interface that is down is taken only when no other has a candidate; first-found and skip-interface keep the
 * Node's present address while it is a candidate, and else prefer the interface of the default route. Calico always takes
 * the newest interface, which changes the address when an interface is added.
 * Source: Calico's node/pkg/lifecycle/startup/autodetection.
 */
export function autodetect(method: Method, family: Family, host: HostView): Detection {
  switch (method.by) {
    case "can-reach":
      return whereLocal(host, family, host.reached, {
        reason: `it is the source address towards ${method.destination}`,
        none: `no IPv${family} route to ${method.destination}`,
      });
    case "kubernetes-internal-ip":
      return whereLocal(host, family, host.internalIps?.find((ip) => ip.v === family), {
        reason: "it is the node's InternalIP",
        none: host.internalIps
          ? `the Kubernetes node has no IPv${family} InternalIP`
          : "there is no Kubernetes API to ask for the node's InternalIP",
      });
    default:
      return enumerate(method, family, host);
  }
}

function enumerate(method: Method, family: Family, host: HostView): Detection {
  const considered: string[] = [];
  const candidates: Candidate[] = [];
  for (const one of newestFirst(host.interfaces)) {
    const refusal = refusalOf(method, one);
    const address = refusal ? undefined : firstAddress(method, family, one);
    if (address) candidates.push({ on: one, address });
    considered.push(`${one.name}: ${refusal ?? told(one, address, family)}`);
  }
  const chosen = prefer(method, family, host.current, candidates);
  if (chosen) return { found: chosen.address, on: chosen.on.name, reason: chosen.reason, considered };
  return { found: undefined, reason: `no interface has an IPv${family} address that the method allows`, considered };
}

/** Why the method leaves an interface out; undefined when it does not. */
function refusalOf(method: Method, one: LocalInterface): string | undefined {
  switch (method.by) {
    case "interface":
      return method.patterns.test(one.name) ? undefined : "name does not match";
    case "skip-interface":
      if (method.patterns.test(one.name)) return "skipped by the setting";
      return isExcludedByDefault(one.name) ? "name is left out by default" : undefined;
    case "first-found":
      return isExcludedByDefault(one.name) ? "name is left out by default" : undefined;
    default:
      return undefined;
  }
}

function firstAddress(method: Method, family: Family, one: LocalInterface): LocalAddress | undefined {
  const allowed = one.addresses.filter((a) =>
    a.ip.v === family && isGlobalUnicast(a.ip) &&
    (method.by !== "cidr" || method.cidrs.some((c) => contains(c, a.ip)))
  );
  return allowed.find((a) => !a.passing) ?? allowed[0];
}

function told(one: LocalInterface, address: LocalAddress | undefined, family: Family): string {
  if (!address) return `no IPv${family} address that fits`;
  return `${formatAddress(address)}${one.up ? "" : ", down"}${
    one.defaultRoute.includes(family) ? ", default route" : ""
  }`;
}

/** Newest interface first: Calico goes through them from the highest index down. */
const newestFirst = (interfaces: LocalInterface[]): LocalInterface[] =>
  [...interfaces].sort((a, b) => b.index - a.index);

function prefer(
  method: Method,
  family: Family,
  current: Ip | undefined,
  candidates: Candidate[],
): (Candidate & { reason: string }) | undefined {
  const up = candidates.filter((c) => c.on.up);
  if (method.by === "first-found" || method.by === "skip-interface") {
    const kept = current && up.find((c) => c.on.addresses.some((a) => sameIp(a.ip, current)));
    const same = kept?.on.addresses.find((a) => sameIp(a.ip, current!));
    if (kept && same) return { on: kept.on, address: same, reason: "the node has it already and it is still there" };
    const routed = up.find((c) => c.on.defaultRoute.includes(family));
    if (routed) return { ...routed, reason: `${routed.on.name} has the default route` };
  }
  if (up[0]) return { ...up[0], reason: `${up[0].on.name} is the newest interface that fits` };
  const down = candidates[0];
  return down && { ...down, reason: `only ${down.on.name} fits, though it is down` };
}

/** The address with the prefix length of the interface that has it. */
function whereLocal(
  host: HostView,
  family: Family,
  ip: Ip | undefined,
  why: { reason: string; none: string },
): Detection {
  if (!ip || ip.v !== family) return { found: undefined, reason: why.none, considered: [] };
  const local = findLocal(host.interfaces, ip);
  if (local) return { found: local.address, on: local.on.name, reason: why.reason, considered: [] };
  return { found: undefined, reason: `no interface has the address ${formatIp(ip)}`, considered: [] };
}

/** The interface that has an address; undefined when none has. The newest one counts. */
export function findLocal(interfaces: LocalInterface[], ip: Ip): Candidate | undefined {
  for (const on of newestFirst(interfaces)) {
    const address = on.addresses.find((a) => sameIp(a.ip, ip));
    if (address) return { on, address };
  }
  return undefined;
}

/** As a Node stores it: `192.168.10.11/24`, host bits kept. */
export const formatAddress = (address: { ip: Ip; cidr: Cidr }): string => `${formatIp(address.ip)}/${address.cidr.len}`;

/** An address with the length of a single host. */
export const hostAddress = (ip: Ip): LocalAddress => ({ ip, cidr: { ...ip, len: bits(ip.v) } });
