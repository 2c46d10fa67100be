import { bits, cidrOf, type Family, formatIp, tryParseCidrOrIp, tryParseIp, tryParseNet } from "../lib/ip.ts";
import { Problem } from "../lib/problem.ts";
import { autodetect, type Detection, findLocal, formatAddress, type HostView, type Method } from "./autodetect.ts";
import { isExcludedByDefault, isVolatile, type LocalInterface, type NodeInterface } from "./interfaces.ts";

/** What the user says about one family. */
export interface AddressWish {
  family: Family;
  /** Value of IP or IP6: "" (not set), `autodetect`, `none`, or an address with or without a length. */
  setting: string;
  method: Method;
  /** What the Node holds: `192.168.10.11/24`; "" = none. */
  current: string;
}

/** The address to store ("" = none), and what to tell the operator. */
export interface AddressChoice {
  address: string;
  /** There when it was detected, or when detection was tried and failed. */
  detection?: Detection;
  warnings: string[];
}

/** The environment variable of a family's address. */
export const addressSetting = (family: Family): "IP" | "IP6" => (family === 4 ? "IP" : "IP6");

/** True when the address of this family is to be detected: IPv4 also when nothing is set and the Node has none. */
export const wantsDetection = (wish: Pick<AddressWish, "family" | "setting" | "current">): boolean =>
  wish.setting === "autodetect" || (wish.family === 4 && wish.setting === "" && wish.current === "");

/**
 * Decides the node's address of one family. An existing address is never cleared: where nothing is detected it stays.
 * A bare IPv4 address takes the prefix length of the interface that has it, a bare IPv6 address becomes /128.
 * Source: Calico's node/pkg/lifecycle/startup, configureIPsAndSubnets.
 * @throws Problem "bad-input" when the setting is no address of its family, or when nothing is detected and nothing known.
 */
export function chooseAddress(wish: AddressWish, host: HostView): AddressChoice {
  const { setting, current } = wish;
  if (wantsDetection(wish)) return detected(wish, host);
  if (setting === "" || setting === "none") return { address: current, warnings: unconfirmed(current, wish, host) };
  const address = given(wish, host.interfaces);
  return { address, warnings: unconfirmed(address, wish, host) };
}

function detected(wish: AddressWish, host: HostView): AddressChoice {
  const { family, current } = wish;
  const now = tryParseCidrOrIp(current) && tryParseIp(current.split("/")[0]!);
  const detection = autodetect(wish.method, family, { ...host, current: now });
  if (detection.found) return { address: formatAddress(detection.found), detection, warnings: [] };
  if (current === "") {
    throw new Problem({
      code: "bad-input",
      what: `Unable to auto-detect an IPv${family} address: ${detection.reason}`,
      where: `${addressSetting(family)}_AUTODETECTION_METHOD`,
      todo: `Choose another method, or set ${addressSetting(family)} to the address of this host`,
    });
  }
  const warning = `Autodetection of IPv${family} address failed, keeping existing value: ${current}`;
  return { address: current, detection, warnings: [warning, ...unconfirmed(current, wish, host)] };
}

function given({ family, setting }: AddressWish, interfaces: LocalInterface[]): string {
  const net = tryParseNet(setting);
  if (net && net.ip.v === family) return `${formatIp(net.ip)}/${net.cidr.len}`;
  const ip = tryParseIp(setting);
  if (!ip || ip.v !== family) {
    throw new Problem({
      code: "bad-input",
      what: `"${setting}" is not an IPv${family} address`,
      where: addressSetting(family),
      todo: "Give an address, an address with its prefix length, autodetect or none",
    });
  }
  const local = family === 4 ? findLocal(interfaces, ip) : undefined;
  return formatAddress(local?.address ?? { ip, cidr: cidrOf(ip, bits(family)) });
}

function unconfirmed(address: string, { family }: AddressWish, host: HostView): string[] {
  const ip = tryParseIp(address.split("/")[0]!);
  if (!ip || findLocal(host.interfaces, ip)) return [];
  return [`Unable to confirm IPv${family} address ${formatIp(ip)} is assigned to this host`];
}

/**
 * The Node's `spec.interfaces`: what is neither excluded by name nor volatile, sorted by name, with the addresses of
 * `families` (link-local ones too, passing ones not) without lengths.
 * DIFFERS: Calico lists every interface whose name is not excluded, also the host's ends of foreign containers' veths.
 */
export function nodeInterfaces(interfaces: LocalInterface[], families: Family[]): NodeInterface[] {
  if (families.length === 0) return [];
  return interfaces
    .filter((one) => !isExcludedByDefault(one.name) && !isVolatile(one))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, addresses }) => {
      const shown = addresses.filter((a) => families.includes(a.ip.v) && !a.passing).map((a) => formatIp(a.ip));
      return shown.length === 0 ? { name } : { name, addresses: shown };
    });
}

/** Families for which `spec.interfaces` is kept: those whose setting is there and not `none`. */
export const listedFamilies = (settings: Record<Family, string>): Family[] =>
  ([4, 6] as const).filter((f) => settings[f] !== "" && settings[f] !== "none");

/** Another node that holds an address which this one is about to take. */
export interface Conflict {
  node: string;
  family: Family;
  address: string;
}

/**
 * Nodes that hold `addresses` (as stored) already. `others` maps a node's name to its stored addresses; what cannot be
 * read there is left out.
 */
export function conflicts(addresses: string[], others: Map<string, string[]>): Conflict[] {
  const ours = addresses.map((a) => tryParseIp(a.split("/")[0]!)).filter((ip) => ip !== undefined);
  const found: Conflict[] = [];
  for (const [node, theirs] of others) {
    for (const text of theirs) {
      const ip = tryParseIp(text.split("/")[0]!);
      const same = ip && ours.find((own) => own.v === ip.v && own.n === ip.n);
      if (same) found.push({ node, family: same.v, address: formatIp(same) });
    }
  }
  return found;
}

/**
 * Reads an AS number: 0 to 4294967295, or `high.low` of two 16 bit parts.
 * Source: Calico's api/pkg/lib/numorstring, RFC 5396.
 * @throws Problem "bad-input".
 */
export function parseAsNumber(text: string): number {
  const parts = /^(\d{1,5})\.(\d{1,5})$/.exec(text)?.slice(1).map(Number);
  if (parts && parts.every((p) => p <= 0xffff)) return parts[0]! * 0x10000 + parts[1]!;
  if (/^\d{1,10}$/.test(text) && Number(text) <= 0xffffffff) return Number(text);
  throw new Problem({
    code: "bad-input",
    what: `The AS number specified in the environment (AS=${text}) is not valid`,
    where: "AS",
    todo: "Give a number up to 4294967295, or two numbers up to 65535 with a dot between",
  });
}
