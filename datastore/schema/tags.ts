import { type Ip, sameIp, tryParseCidrOrIp, tryParseIp, tryParseNet } from "../../lib/ip.ts";
import type { Tag } from "./options.ts";
import { isPortName, isQualifiedName, isResourceName, isSelector, labelValuePattern } from "../names.ts";

/** A tag for text that is not empty. */
const textTag = (name: string, ok: (value: string) => boolean): Tag<string> => ({ name, ok });

/** The tag, where an absent or empty text breaks it too unless it allows that. */
export const asked = (tag: Tag<string>): Tag<string> => ({
  name: tag.name,
  ok: (value) => tag.ok(value ?? ""),
  evenEmpty: true,
});

const matches = (name: string, pattern: RegExp): Tag<string> => textTag(name, (value) => pattern.test(value));

/** An address, with the length of its network; masked = it has no host bits. */
export interface NetOrIp {
  ip: Ip;
  len: number;
  masked: boolean;
}

/** The address and network of `a/b` or a bare address (a full mask); undefined when it is neither. */
export function parseNetOrIp(text: string): NetOrIp | undefined {
  const net = tryParseNet(text);
  if (net) return { ip: net.ip, len: net.cidr.len, masked: sameIp(net.ip, { v: net.cidr.v, n: net.cidr.n }) };
  const cidr = tryParseCidrOrIp(text);
  return cidr && { ip: { v: cidr.v, n: cidr.n }, len: cidr.len, masked: true };
}

/** The network of `a/b` or a bare address; undefined when it is neither. */
export const networkOf = tryParseCidrOrIp;

/** Calico's reader of networks takes the empty text for one. */
const netTag = (name: string, ok: (net: NetOrIp) => boolean): Tag<string> =>
  textTag(name, (v) => {
    const net = parseNetOrIp(v);
    return net ? ok(net) : v === "";
  });

/** Network without host bits, or an address. */
export const net = netTag("net", ({ masked }) => masked);
/** The same, of IPv4. */
export const netv4 = netTag("netv4", ({ masked, ip }) => masked && ip.v === 4);
/** The same, of IPv6. */
export const netv6 = netTag("netv6", ({ masked, ip }) => masked && ip.v === 6);
/** Network with or without host bits, or an address. */
export const cidr = netTag("cidr", () => true);
/** The same, of IPv4. */
export const cidrv4 = netTag("cidrv4", ({ ip }) => ip.v === 4);
/** The same, of IPv6. */
export const cidrv6 = netTag("cidrv6", ({ ip }) => ip.v === 6);
/** An address. */
export const ip = textTag("ip", (v) => tryParseIp(v) !== undefined);
/** An IPv4 address. */
export const ipv4 = textTag("ipv4", (v) => tryParseIp(v)?.v === 4);
/** An IPv6 address. */
export const ipv6 = textTag("ipv6", (v) => tryParseIp(v)?.v === 6);
/** A list of cidr. */
export const cidrs: Tag<string[]> = { name: "cidrs", ok: (list) => list.every((v) => cidr.ok(v)) };
/** A list without repeats. */
export const unique: Tag<unknown[]> = { name: "unique", ok: (list) => new Set(list).size === list.length };
/** A selector that can be read. */
export const selector = textTag("selector", isSelector);
/** The general rule of names. */
export const name = textTag("name", isResourceName);
/** A container id. */
export const containerID = matches("containerID", /^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/);
/** An interface name, or `*`. */
export const interfaceName = textTag("interface", (v) => v === "*" || interfacePattern.test(v));
/** An interface pattern of a BGP filter, or `*`. */
export const bgpFilterInterface = textTag("bgpFilterInterface", (v) => v === "*" || starPattern.test(v));
/** An interface pattern that BIRD's direct protocol leaves out. */
export const ignoredInterface = textTag("ignoredInterface", (v) => v !== "*" && starPattern.test(v));
/** An interface as iptables matches it (`eth+`). */
export const ifaceFilter = matches("ifaceFilter", /^[a-zA-Z0-9:._+-]{1,15}$/);
/** A list of ifaceFilter. */
export const ifaceFilterSlice: Tag<string[]> = {
  name: "ifaceFilterSlice",
  ok: (list) => list.every((v) => ifaceFilter.ok(v)),
};
/** A map whose member names are interface names. */
export const interfaceKeys: Tag<Record<string, string>> = {
  name: "bpfLogFilters",
  ok: (map) => Object.keys(map).every((v) => interfacePattern.test(v)),
};
/** The address that metrics are served on. */
export const prometheusHost = matches("prometheusHost", /^[a-zA-Z0-9:._+-]{1,64}$/);
/** A Kubernetes port name. */
export const portName = textTag("portName", isPortName);
/** An address that a BGP peer is reached by. */
export const reachableBy = textTag("reachableBy", (v) => tryParseIp(v) !== undefined);
/** A hardware address of 6, 8 or 20 bytes in Go's three spellings. */
export const mac = textTag("mac", isMac);
/** `a=b,c=d`. */
export const keyValueList = textTag(
  "keyValueList",
  (v) => v.trim() === "" || v.split(",").every((item) => item === "" || /^\s*\w+=/.test(item)),
);
/** A regular expression that can be compiled. */
export const regexp = textTag("regexp", isRegexp);
/** A WireGuard key: base64 of 32 bytes. */
export const wireguardPublicKey = matches("wireguardPublicKey", /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/);
/** `ip`, `v4:port` or `[v6]:port`. */
export const ipPort = textTag("IP:port", (v) => splitPeer(v) !== undefined);
/** Labels whose names and values Kubernetes accepts. */
export const labels: Tag<Record<string, string>> = {
  name: "labels",
  ok: (all) => Object.entries(all).every(([k, v]) => isQualifiedName(k) && v.length <= 63 && labelValuePattern.test(v)),
};
/** The value must be there, and no empty text. */
export const required: Tag<unknown> = {
  name: "required",
  ok: (v) => v !== undefined && v !== "",
  evenEmpty: true,
};
/** At least `n`. */
export const gte = (n: number): Tag<number> => ({ name: "gte", ok: (v) => v >= n });
/** More than `n`. */
export const gt = (n: number): Tag<number> => ({ name: "gt", ok: (v) => v > n });
/** At most `n`. */
export const lte = (n: number): Tag<number> => ({ name: "lte", ok: (v) => v <= n });
/** Less than `n`. */
export const lt = (n: number): Tag<number> => ({ name: "lt", ok: (v) => v < n });
/** From `least` to `most`, told as `name`. */
export const range = (name: string, least: number, most: number): Tag<number> => ({
  name,
  ok: (v) => v >= least && v <= most,
});
/** One of these words. */
export const oneof = (...words: string[]): Tag<string> => textTag("oneof", (v) => words.includes(v));
/** A regular expression over the text, told as `tag`. */
export const pattern = (tag: string, test: RegExp): Tag<string> => matches(tag, test);

/** Address and port (0 = none given) of a BGP peer's `peerIP`; undefined when it is not one. */
export function splitPeer(text: string): { ip: Ip; port: number } | undefined {
  const parts = /^(\d+.\d+.\d+.\d+):(\d+)$/.exec(text) ?? /^\[([0-9a-fA-F:.]+)\]:(\d+)$/.exec(text);
  const ip = tryParseIp(parts?.[1] ?? text);
  const port = Number(parts?.[2] ?? 0);
  if (!ip || port > 65535 || (parts && port < 1)) return undefined;
  return { ip, port };
}

const interfacePattern = /^[a-zA-Z0-9_.-]{1,15}$/;
const starPattern = /^[a-zA-Z0-9_.*-]{1,15}$/;

function isMac(text: string): boolean {
  const pairs = /^[0-9a-fA-F]{2}(([:-])[0-9a-fA-F]{2}(\2[0-9a-fA-F]{2})*)$/.test(text) && (text.length + 1) / 3;
  const dotted = /^[0-9a-fA-F]{4}(\.[0-9a-fA-F]{4})+$/.test(text) && (text.length + 1) / 5 * 2;
  return [6, 8, 20].includes(pairs || dotted || 0);
}

function isRegexp(text: string): boolean {
  try {
    new RegExp(text, "v");
    return true;
  } catch {
    // A RegExp constructor throws for one reason only: SyntaxError.
    return false;
  }
}
