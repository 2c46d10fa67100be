import { type Cidr, type Family, formatCidr, formatIp, type Ip, sameIp } from "../../lib/ip.ts";
import type { Port } from "../reconcile.ts";
import {
  addressFamily,
  attribute,
  attributesOf,
  eachAttribute,
  familyOf,
  ipAttribute,
  join,
  type Message,
  nested,
  NLM,
  readIp,
  readU32,
  type Request,
  u32,
} from "./message.ts";
import { E, isErrno, type RtSocket } from "./socket.ts";

/** Message numbers of routes. */
export const routeTypes = { created: 24, deleted: 25, get: 26 };
const RTA = { dst: 1, oif: 4, gateway: 5, metric: 6, source: 7, metrics: 8, multipath: 9, table: 15 };
const RTAX_MTU = 2;
const ONLINK = 4;
const CLONED = 0x200;

/** Numbers of `ip route`'s words. */
export const scope = { universe: 0, link: 253, host: 254 } as const;
/** Routing tables that every kernel has. */
export const table = { main: 254, local: 255 } as const;
/** What a route does with a packet. */
export const kind = { unicast: 1, local: 2, blackhole: 6, unreachable: 7, prohibit: 8, throw: 9 } as const;

/** A route. Those over several next hops are seen (`multipath`), never written. */
export interface Route {
  table: number;
  dst: Cidr;
  /** RTA_PRIORITY; the kernel makes an IPv6 route's 0 to 1024. */
  metric: number;
  tos: number;
  /** Who made it (rtnetlink's RTPROT): 2 kernel, 3 boot, 4 static, 12 BIRD, 80 Calico. */
  protocol: number;
  kind: number;
  /** IPv4 only; 0 for IPv6. */
  scope: number;
  /** Interface; undefined for blackhole and its like. */
  index: number | undefined;
  via: Ip | undefined;
  /** Source address of the host's own packets. */
  source: Ip | undefined;
  mtuBytes: number | undefined;
  onlink: boolean;
  multipath: boolean;
}

/** A unicast route of the main table with everything absent that `parts` does not name. */
export function route(parts: Partial<Route> & Pick<Route, "dst">): Route {
  return {
    table: table.main,
    metric: parts.dst.v === 6 ? 1024 : 0,
    tos: 0,
    protocol: 3,
    kind: kind.unicast,
    scope: scope.universe,
    index: undefined,
    via: undefined,
    source: undefined,
    mtuBytes: undefined,
    onlink: false,
    multipath: false,
    ...parts,
  };
}

/** Which place in the kernel's tables a route takes: `254 10.65.0.0/26 0 1024` (table, destination, TOS, metric). */
export const routeKey = (r: Pick<Route, "table" | "dst" | "tos" | "metric">): string =>
  `${r.table} ${formatCidr(r.dst)} ${r.tos} ${r.metric}`;

/** A route message's content; undefined for cache entries and other families. */
export function decodeRoute(message: Message): Route | undefined {
  const { body } = message;
  const v = familyOf(body[0]);
  const flags = readU32(body.subarray(8, 12)) ?? 0;
  if (v === undefined || flags & CLONED) return undefined;
  const found: Route = {
    table: body[4]!,
    dst: { v, n: 0n, len: body[1]! },
    metric: 0,
    tos: body[3]!,
    protocol: body[5]!,
    kind: body[7]!,
    scope: body[6]!,
    index: undefined,
    via: undefined,
    source: undefined,
    mtuBytes: undefined,
    onlink: (flags & ONLINK) !== 0,
    multipath: false,
  };
  eachAttribute(body, 12, (type, value) => readAttribute(found, type, value));
  return found;
}

function readAttribute(found: Route, type: number, value: Uint8Array): void {
  switch (type) {
    case RTA.dst:
      found.dst = { ...found.dst, n: readIp(value)?.n ?? 0n };
      break;
    case RTA.oif:
      found.index = readU32(value);
      break;
    case RTA.gateway:
      found.via = readIp(value);
      break;
    case RTA.metric:
      found.metric = readU32(value) ?? 0;
      break;
    case RTA.source:
      found.source = readIp(value);
      break;
    case RTA.metrics:
      found.mtuBytes = readU32(attributesOf(value).get(RTAX_MTU));
      break;
    case RTA.multipath:
      found.multipath = true;
      break;
    case RTA.table:
      found.table = readU32(value) ?? found.table;
  }
}

/** Which routes to list; the kernel filters. */
export interface RouteFilter {
  family: Family;
  table: number;
  protocol?: number;
  index?: number;
}

/** Routes of a table. @throws Problem "kernel". */
export function listRoutes(socket: RtSocket, filter: RouteFilter): Route[] {
  const head = new Uint8Array(12);
  head[0] = addressFamily(filter.family);
  head[5] = filter.protocol ?? 0;
  const index = filter.index === undefined ? [] : [attribute(RTA.oif, u32(filter.index))];
  const body = join(head, attribute(RTA.table, u32(filter.table)), ...index);
  // A table that was never used does not exist: ENOENT, which means no routes.
  return socket.dump({ type: routeTypes.get, flags: 0, body }, E.NOENT).map(decodeRoute)
    .filter((r) => r !== undefined);
}

/** Adds a route; refused with EEXIST when its place is taken. `replace` takes the place. */
export const addRoute = (r: Route, replace = false): Request => ({
  type: routeTypes.created,
  flags: NLM.CREATE | (replace ? NLM.REPLACE : NLM.EXCL),
  body: routeBody(r),
});

/** Removes exactly this route: protocol, interface and next hop must agree too. */
export const removeRoute = (r: Route): Request => ({ type: routeTypes.deleted, flags: 0, body: routeBody(r) });

function routeBody(r: Route): Uint8Array {
  const head = new Uint8Array(12);
  head.set([addressFamily(r.dst.v), r.dst.len, 0, r.tos, r.table < 256 ? r.table : 0, r.protocol, r.scope, r.kind]);
  head[8] = r.onlink ? ONLINK : 0;
  return join(
    head,
    ipAttribute(RTA.dst, r.dst),
    attribute(RTA.table, u32(r.table)),
    ...(r.metric ? [attribute(RTA.metric, u32(r.metric))] : []),
    ...(r.index === undefined || r.kind !== kind.unicast ? [] : [attribute(RTA.oif, u32(r.index))]),
    ...(r.via ? [ipAttribute(RTA.gateway, r.via)] : []),
    ...(r.source ? [ipAttribute(RTA.source, r.source)] : []),
    ...(r.mtuBytes ? [nested(RTA.metrics, attribute(RTAX_MTU, u32(r.mtuBytes)))] : []),
  );
}

/** True when two routes of the same place do the same and are marked the same. */
export function sameRoute(a: Route, b: Route): boolean {
  const sameOptionalIp = (x: Ip | undefined, y: Ip | undefined) => x === y || (!!x && !!y && sameIp(x, y));
  return a.protocol === b.protocol && a.kind === b.kind && a.multipath === b.multipath &&
    (a.kind !== kind.unicast || a.index === b.index) && // IPv6 blackholes are shown on lo
    (a.dst.v === 6 || a.scope === b.scope) && a.onlink === b.onlink && a.mtuBytes === b.mtuBytes &&
    sameOptionalIp(a.via, b.via) && sameOptionalIp(a.source, b.source);
}

/** What a route port is for. */
export interface RoutePortOptions {
  family: Family;
  /** Asked for at each look and write; default main. */
  table?: () => number;
  /** For logs. Default: of the main table. */
  name?: string;
  /** Which of the table's routes are ours; everything else is neither changed nor removed. */
  owns(r: Route): boolean;
}

/** Routes of one family and table that are ours. Keys: routeKey(); a second route in a place has ` #2` behind it. */
export function routePort(socket: RtSocket, options: RoutePortOptions): Port<string, Route> {
  const { family, owns } = options;
  const all = () => byPlace(listRoutes(socket, { family, table: options.table?.() ?? table.main }));
  const owned = () => {
    const found = new Map<string, Route>();
    for (const [place, routes] of all()) {
      routes.filter(owns).forEach((r, i) => found.set(i === 0 ? place : `${place} #${i + 1}`, r));
    }
    return found;
  };
  /** What was ours when we looked or wrote last: changed again without a look at tens of thousands of routes. */
  let ours = new Map<string, Route>();
  return {
    name: options.name ?? `routes ip${family} table ${table.main}`,
    list() {
      ours = owned();
      return Promise.resolve(new Map(ours));
    },
    same: sameRoute,
    apply(put, remove) {
      const failed = new Map<string, Error>();
      const adds = put.map(([key, r]): [string, Request] => [key, addRoute(r, ours.has(key))]);
      const taken = send(socket, adds, failed, E.EXIST);
      if (taken.size > 0) replaceOwn(socket, put.filter(([key]) => taken.has(key)), all(), owns, failed);
      for (const [key, r] of put) if (!failed.has(key)) ours.set(key, r);
      const removals = (from: ReadonlyMap<string, Route>, keys: Iterable<string>): [string, Request][] =>
        [...keys].flatMap((key) => (from.has(key) ? [[key, removeRoute(from.get(key)!)]] : []));
      // What is not there as we know it may be there otherwise.
      const missed = send(socket, removals(ours, remove), failed, E.SRCH);
      for (const key of remove) if (!ours.has(key)) missed.add(key);
      if (missed.size > 0) send(socket, removals(owned(), missed), failed, E.SRCH);
      for (const key of remove) if (!failed.has(key)) ours.delete(key);
      return Promise.resolve(failed);
    },
  };
}

/**
 * Takes places that only routes of ours hold; a foreign route in the way stays and makes its key fail.
 * DIFFERS: Calico replaces it.
 */
function replaceOwn(
  socket: RtSocket,
  put: [string, Route][],
  places: Map<string, Route[]>,
  owns: (r: Route) => boolean,
  failed: Map<string, Error>,
): void {
  const free = put.filter(([key]) => {
    const foreign = places.get(key)?.find((r) => !owns(r));
    if (foreign) failed.set(key, new Error(`a foreign route is in the way: ${describeRoute(foreign)}`));
    return !foreign;
  });
  send(socket, free.map(([key, r]) => [key, addRoute(r, true)]), failed);
}

/** Sends requests; errors go to `failed`, except `tolerated`, whose keys are returned. */
function send(
  socket: RtSocket,
  steps: [string, Request][],
  failed: Map<string, Error>,
  tolerated?: number,
): Set<string> {
  const tolerable = new Set<string>();
  socket.batch(steps.map(([, request]) => request)).forEach(({ error }, i) => {
    const key = steps[i]![0];
    if (tolerated !== undefined && isErrno(error, tolerated)) tolerable.add(key);
    else if (error) failed.set(key, error);
  });
  return tolerable;
}

function byPlace(routes: Route[]): Map<string, Route[]> {
  const places = new Map<string, Route[]>();
  for (const r of routes) {
    const key = routeKey(r);
    const others = places.get(key);
    if (others) others.push(r);
    else places.set(key, [r]);
  }
  return places;
}

/** One line for people: `10.0.0.0/26 via 192.0.2.1 interface 3 protocol 12 metric 32`. */
export function describeRoute(r: Route): string {
  const words = Object.entries(kind).find(([, n]) => n === r.kind)?.[0];
  return [
    words === "unicast" ? undefined : words,
    formatCidr(r.dst),
    r.via && `via ${formatIp(r.via)}`,
    r.index === undefined ? undefined : `interface ${r.index}`,
    `protocol ${r.protocol} metric ${r.metric}`,
  ].filter((part) => part !== undefined).join(" ");
}
