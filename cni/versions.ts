import { isObject, type Json } from "../lib/json64.ts";
import type { Command } from "./environment.ts";
import { codes, Refusal } from "./refusal.ts";

/** What a version of the CNI specification has and lacks. */
export interface VersionRow {
  version: string;
  /** Verbs that a plugin of this version answers. */
  verbs: readonly Command[];
  /** 0.1.0 and 0.2.0: one `ip4` and one `ip6` instead of lists. */
  onePerFamily: boolean;
  /** `ips[].version` is written. */
  ipVersion: boolean;
  /** `dns` is written even when it is empty. */
  emptyDns: boolean;
  /** `interfaces[].mtu` and the other members of 1.x are written. */
  interfaceDetails: boolean;
}

const first: Command[] = ["ADD", "DEL", "VERSION"], withCheck: Command[] = [...first, "CHECK"];
const row = (version: string, more: Partial<VersionRow>): VersionRow => ({
  version,
  verbs: withCheck,
  onePerFamily: false,
  ipVersion: true,
  emptyDns: true,
  interfaceDetails: false,
  ...more,
});

/** Every version that we speak, oldest first. */
export const versions: readonly VersionRow[] = [
  row("0.1.0", { verbs: first, onePerFamily: true }),
  row("0.2.0", { verbs: first, onePerFamily: true }),
  row("0.3.0", { verbs: first }),
  row("0.3.1", { verbs: first }),
  row("0.4.0", {}),
  row("1.0.0", { ipVersion: false, emptyDns: false, interfaceDetails: true }),
  row("1.1.0", {
    verbs: [...withCheck, "STATUS", "GC"],
    ipVersion: false,
    emptyDns: false,
    interfaceDetails: true,
  }),
];

/**
 * The row of a configuration's version; an absent one means 0.2.0.
 * @throws Refusal 1 for a version that we do not speak, or whose verbs do not include `command`.
 */
export function rowFor(version: string, command: Command): VersionRow {
  const wanted = version || "0.2.0";
  const found = versions.find((v) => v.version === wanted);
  if (!found) {
    const all = versions.map((v) => `"${v.version}"`).join(" ");
    throw new Refusal(
      codes.incompatibleVersion,
      { code: "unsupported", what: "incompatible CNI versions", where: "cniVersion" },
      `config is "${wanted}", plugin supports [${all}]`,
    );
  }
  if (!found.verbs.includes(command)) {
    throw new Refusal(codes.incompatibleVersion, {
      code: "unsupported",
      what: `config version does not allow ${command}`,
      where: "cniVersion",
    });
  }
  return found;
}

/** The answer to VERSION. `asked` is the version in the input; the specification wants it back. */
export const versionAnswer = (asked: string | undefined): Record<string, Json> => ({
  cniVersion: asked || versions.at(-1)!.version,
  supportedVersions: versions.map((v) => v.version),
});

/** An interface of a result. Members of other plugins in front of us are kept. */
export interface ResultInterface {
  name: string;
  mac?: string;
  mtu?: number;
  sandbox?: string;
  [member: string]: Json | undefined;
}

/** An address of a result; `interface` is an index into interfaces. */
export interface ResultIp {
  address: string;
  gateway?: string;
  interface?: number;
  [member: string]: Json | undefined;
}

/** A route of a result. */
export interface ResultRoute {
  dst: string;
  gw?: string;
  [member: string]: Json | undefined;
}

/** A result as the newest version has it; the older ones have parts of it. */
export interface Result {
  interfaces: ResultInterface[];
  ips: ResultIp[];
  routes: ResultRoute[];
  dns: Record<string, Json>;
}

const isV6 = (cidr: string): boolean => cidr.includes(":");

/** The result in the form of a version, members in the order of Go's structs. Empty lists are left out. */
export function shapeResult(result: Result, form: VersionRow): Record<string, Json> {
  const dns: Record<string, Json> = form.emptyDns || Object.keys(result.dns).length > 0 ? { dns: result.dns } : {};
  if (form.onePerFamily) {
    const of = (v6: boolean) => {
      const ip = result.ips.find((i) => isV6(i.address) === v6);
      if (!ip) return {};
      const routes = result.routes.filter((r) => isV6(r.dst) === v6).map((r) => pick(r, ["dst", "gw"]));
      const gateway = ip.gateway ? { gateway: ip.gateway } : {};
      return { [v6 ? "ip6" : "ip4"]: { ip: ip.address, ...gateway, ...(routes.length > 0 ? { routes } : {}) } };
    };
    return { cniVersion: form.version, ...of(false), ...of(true), ...dns };
  }
  const interfaces = result.interfaces.map((i) =>
    form.interfaceDetails ? { ...i } : pick(i, ["name", "mac", "sandbox"])
  );
  const ips = result.ips.map((ip) => ({ ...(form.ipVersion ? { version: isV6(ip.address) ? "6" : "4" } : {}), ...ip }));
  const routes = result.routes.map((r) => form.version === "1.1.0" ? { ...r } : pick(r, ["dst", "gw"]));
  return {
    cniVersion: form.version,
    ...(interfaces.length > 0 ? { interfaces: interfaces as Json } : {}),
    ...(ips.length > 0 ? { ips: ips as Json } : {}),
    ...(routes.length > 0 ? { routes: routes as Json } : {}),
    ...dns,
  };
}

function pick(from: Record<string, Json | undefined>, names: string[]): Record<string, Json> {
  return Object.fromEntries(names.filter((n) => from[n] !== undefined).map((n) => [n, from[n]!]));
}

/**
 * Reads a result of any version: a `prevResult`, or what another plugin printed.
 * @param where for messages: "prevResult", "plugin host-local".
 * @throws Refusal 6 when it cannot be a result.
 */
export function readResult(value: Json, where: string): Result {
  if (!isObject(value)) throw unreadable("not an object", where);
  const members = (name: string) => listOfObjects(value[name], `${where}, ${name}`);
  const dns = isObject(value.dns) ? value.dns : {};
  if (isObject(value.ip4) || isObject(value.ip6)) return { interfaces: [], ...oldAddresses(value, where), dns };
  const ips = members("ips").map(({ version: _, ...ip }) => ip) as ResultIp[];
  if (ips.some((ip) => typeof ip.address !== "string")) throw unreadable("an address is missing", `${where}, ips`);
  const routes = members("routes") as ResultRoute[];
  if (routes.some((r) => typeof r.dst !== "string")) throw unreadable("dst is missing", `${where}, routes`);
  return { interfaces: members("interfaces") as unknown as ResultInterface[], ips, routes, dns };
}

function oldAddresses(value: Record<string, Json>, where: string): Pick<Result, "ips" | "routes"> {
  const ips: ResultIp[] = [], routes: ResultRoute[] = [];
  for (const name of ["ip4", "ip6"]) {
    const one = value[name];
    if (!isObject(one)) continue;
    if (typeof one.ip !== "string") throw unreadable("ip is missing", `${where}, ${name}`);
    ips.push({ address: one.ip, ...(typeof one.gateway === "string" ? { gateway: one.gateway } : {}) });
    routes.push(...listOfObjects(one.routes, `${where}, ${name}.routes`) as ResultRoute[]);
  }
  return { ips, routes };
}

function listOfObjects(value: Json | undefined, where: string): Record<string, Json>[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || !value.every(isObject)) throw unreadable("not a list of objects", where);
  return value as Record<string, Json>[];
}

const unreadable = (what: string, where: string) =>
  new Refusal(codes.decodingFailure, { code: "bad-input", what: `result cannot be read: ${what}`, where });

/** One result after another: ours behind what stood before, with its interface numbers moved up. */
export function appendResult(before: Result, ours: Result): Result {
  const shift = before.interfaces.length;
  const moved = ours.ips.map((ip) => (ip.interface === undefined ? ip : { ...ip, interface: ip.interface + shift }));
  return {
    interfaces: [...before.interfaces, ...ours.interfaces],
    ips: [...before.ips, ...moved],
    routes: [...before.routes, ...ours.routes],
    dns: { ...before.dns, ...ours.dns },
  };
}
