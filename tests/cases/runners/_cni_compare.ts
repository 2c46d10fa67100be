import { cidrOf, contains, formatIp, ipAt, parseCidr, tryParseIp } from "../../../lib/ip.ts";
import { isObject, type Json, sameJson } from "../../../lib/json64.ts";

/** Stand-ins in the recorded answers for what varies. */
const wildcards: Record<string, RegExp> = {
  "<mac>": /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/,
  "<uid>": /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  "<time>": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/,
  "<timestamp>": /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? \+0000 UTC$/,
};

/** Where two values differ, "" = nowhere. Strings of `expect` may be wildcards. */
export function difference(path: string, expect: Json | undefined, got: Json | undefined): string {
  if (typeof expect === "string" && expect in wildcards) {
    return typeof got === "string" && wildcards[expect]!.test(got) ? "" : say(path, expect, got);
  }
  if (Array.isArray(expect) && Array.isArray(got) && expect.length === got.length) {
    return expect.map((e, i) => difference(`${path}[${i}]`, e, got[i])).filter((d) => d !== "").join("\n");
  }
  if (isObject(expect) && isObject(got)) {
    const names = new Set([...Object.keys(expect), ...Object.keys(got)]);
    return [...names].map((n) => difference(`${path}.${n}`, expect[n], got[n])).filter((d) => d !== "").join("\n");
  }
  return sameJson(expect, got) ? "" : say(path, expect, got);
}

const say = (path: string, expect: unknown, got: unknown): string =>
  `${path}:\n  expected ${JSON.stringify(expect)}\n  got      ${JSON.stringify(got)}`;

/**
 * `got` with the addresses that a node's first block gives moved to where Calico begins: the start in a pool is drawn from
 * the node's name by a generator of Go, and ours is another one. Addresses that were asked for by name stay.
 */
export function movedBlocks(
  got: Json,
  expect: Json,
  pools: { cidr: string; blockSize: number }[],
): Json {
  let text = JSON.stringify(got);
  for (const pool of pools.map((p) => ({ ...parseCidr(p.cidr), blockLen: p.blockSize }))) {
    const lowest = (value: Json) => {
      const ips = [...JSON.stringify(value).matchAll(address)].flatMap(([t]) => tryParseIp(t) ?? []);
      return ips.filter((ip) => contains(pool, ip)).map((ip) => cidrOf(ip, pool.blockLen).n).sort(byNumber)[0];
    };
    const from = lowest(got), to = lowest(expect);
    if (from === undefined || to === undefined || from === to) continue;
    text = text.replaceAll(address, (t) => {
      const ip = tryParseIp(t);
      return ip && contains(pool, ip) ? formatIp(ipAt({ ...ip, len: 0 }, to - from)) : t;
    });
  }
  return JSON.parse(text) as Json;
}

const address = /(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7})(?![\w.:])/g;
const byNumber = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0);
